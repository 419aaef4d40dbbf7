"""A program that runs a file on the emulated Arm core. It stands alone, with the wheels' folder.

Arguments: the wheels' folder; then for each file the file, an .npy of inputs and the .npy to write
outputs to, both in the file's own layout. Without a file the runtimes are only tried.

Each inference stands between two calls of getsid, the mark at which the plugin (count.c) says how
many instructions have run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, sys.argv[1])

import numpy as np


def litert(path: str) -> Callable[[Any], Any]:
    """Return the .tflite file as a function of one input."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    made = interpreter.get_output_details()[0]["index"]

    def run(pixels: Any) -> Any:
        interpreter.set_tensor(given, pixels)
        os.getsid(0)
        interpreter.invoke()
        os.getsid(0)
        return interpreter.get_tensor(made)

    return run


def onnx(path: str) -> Callable[[Any], Any]:
    """Return the .onnx file as a function of one input."""
    import onnxruntime  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(pixels: Any) -> Any:
        os.getsid(0)
        out = session.run(None, {name: pixels})[0]
        os.getsid(0)
        return out

    return run


def main(path: str, given: str, made: str) -> None:
    """Run the file on every input; the first one twice, for first calls set things up."""
    images = np.load(given)
    run = litert(path) if path.endswith(".tflite") else onnx(path)
    run(images[:1])
    np.save(made, np.concatenate([run(image[None]) for image in images]))


words = sys.argv[2:]
for job in zip(words[::3], words[1::3], words[2::3], strict=True):
    main(*job)
if not words:
    # Both runtimes load; Python keeps what it compiled for the next time.
    import ai_edge_litert.interpreter as tried
    import onnxruntime

    print(tried.__name__, onnxruntime.__version__)
