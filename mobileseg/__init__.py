"""mobileseg takes a segmentation network to a phone.

A recipe makes a spec, a spec makes a module, a module makes a graph, and everything a phone cares
about is asked of the graph:

```
  recipes/*.toml                                     assets/devices/*.toml
        |                                                     |
        v                                                     v
     Recipe --steps--> NetSpec --build--> nn.Module --trace--> Graph --price--> latency
                          ^   (+ weights)   |                   |
                          |               train                 +--write--> .tflite  .onnx
                          |                                 ^   |
                          +------ narrower widths,          |   +--quantize, qat--> int8 Graph
                                  inherited weights         |
                                                            +--read-- anybody's .tflite  .onnx
```

The folders are the verbs. Imports point downward only, siblings never import each other, and
tests/test_architecture.py holds it:

```
  cli/          the verbs: parse, call one workflow function, show
  workflow/     what each verb does, top to bottom; the only place that combines the packages
  runs.py       a run's folder and the name of every file in it
  report/       facts about networks as tables and pictures, a file per subject; html/: as a page
  recipe.py     TOML to frozen dataclasses; every mistake listed, each with its place
  slim/         a spec to a smaller spec, and the parent's weights into it
  train/        data, augmentation, losses, metrics, the loop
  quantize/     int8: rules per operator, calibration, repair, conversion, training (qat/)
  export/       TFLite and ONNX writers, the real runtimes, the check of one by the other
  reading/      TFLite, ONNX and saved graphs, anybody's, to graphs, and the rules of who loads
                them; takes every file for hostile
  latency/      device profiles, price per operator, fit, measurement
  demo/         a page that runs files in the browser: its runtime, server, and measurements
  nets/         a network as data (NetSpec) and the module it builds
  graph/        a network as a machine runs it: operators, passes, execution; knows no file format
  validate.py   plain data to dataclasses; files.py: whole files or none;
                figure.py: pictures of figures
  errors.py     the errors that a person sees
```
"""

__version__ = "0.1.0"
