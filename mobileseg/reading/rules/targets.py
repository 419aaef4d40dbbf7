"""What consumers ask of a segmenter's file, rule by rule, and the mend for each breach.

A breach is *violated* where the consumer refuses the file, crashes, or gives wrong masks; it is a
*warning* where it works and does something one should know.
Source: github.com/google-ai-edge/mediapipe, mediapipe/tasks/cc: image_tensor_specs.cc,
image_preprocessing_graph.cc, image_segmenter_graph.cc, tensors_to_segmentation_calculator.cc,
metadata_extractor.cc, zip_utils.cc; github.com/tensorflow/tflite-support,
tensorflow_lite_support/cc/task/vision: image_segmenter.cc, utils/image_tensor_specs.cc. Tried in
mediapipe 1.2.2 and tflite-support 0.4.4 by tests/reading/test_consumers.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from mobileseg.reading.rules import inputs, outputs, whole
from mobileseg.reading.rules.rule import Row, Rule
from mobileseg.reading.surface import Surface


def rows(surface: Surface, target: str) -> list[Row]:
    """Return a row per rule of the target that has a meaning for the file."""
    looked = [(rule, rule.look(surface)) for rule in RULES[target]]
    return [
        Row(rule.says, found[0], rule.breach if found[1] else "ok", found[1])
        for rule, found in looked
        if found is not None
    ]


_READABLE = (
    Rule("its metadata can be read", whole.metadata_readable),
    Rule("the files packed behind it are stored", whole.files_readable),
)
_FED = (
    Rule("one input", inputs.one_input),
    Rule("takes a picture (1, height, width, 3)", inputs.picture),
    Rule("takes uint8 or float32", inputs.input_type("uint8", "float32")),
    Rule("its metadata say RGB, or nothing", inputs.rgb),
    Rule("one normalization of pixels, of 1 or 3 values", inputs.normalization),
    Rule("its std is not 0", inputs.no_zero_deviation),
    Rule("the byte is the pixel", inputs.byte_is_pixel, "warning"),
)
_CLASSES = (
    Rule("gives (1, height, width, classes)", outputs.masks_shape),
    Rule("at most 256 classes", outputs.most_classes),
)
_LABELS = (
    Rule("the file of labels is packed behind it", whole.labels_packed),
    Rule("a label for each class", whole.label_each, "warning"),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "raw": (
        Rule("has an input and an output", whole.some_input),
        Rule("takes a picture (1, height, width, 3)", inputs.picture, "warning"),
        Rule("sizes are fixed", whole.fixed_sizes, "warning"),
        Rule("its metadata can be read", whole.metadata_readable, "warning"),
    ),
    "task": (
        *_FED,
        Rule("one output", outputs.outputs(1)),
        *_CLASSES,
        Rule("gives float32 or uint8", outputs.output_type("float32", "uint8")),
        Rule("no value is below 0", outputs.none_negative),
        Rule("what a pixel of the category mask means", outputs.pixel_task, "warning"),
        *_READABLE,
        Rule("metadata describe every input", whole.metadata_describe(inputs=True)),
        Rule("metadata describe every output", whole.metadata_describe(inputs=False)),
        *_LABELS,
    ),
    "mediapipe": (
        Rule("one subgraph", whole.one_subgraph),
        *_FED,
        Rule("mean and std are the same for all channels", inputs.same_over_channels),
        Rule("two labels, the second of them hair", inputs.hair, "warning"),
        Rule("one output, or a quality score and the masks", outputs.outputs(2)),
        *_CLASSES,
        Rule("gives float32, uint8 or int8", outputs.output_type("float32", "uint8", "int8")),
        Rule("an integer output has a scale", outputs.quantized_scale),
        Rule("what a pixel of the category mask means", outputs.pixel_mediapipe, "warning"),
        Rule("an activation is named", outputs.activation_named, "warning"),
        Rule("the activation fits the output", outputs.activation_fits),
        *_READABLE,
        Rule("metadata need no parser above 1.5.0", whole.metadata_version),
        Rule("metadata describe the input", whole.input_described),
        Rule("metadata describe the output", whole.output_described, "warning"),
        *_LABELS,
    ),
    "onnx": (
        Rule("one input", inputs.one_input, "warning"),
        Rule("takes a picture (1, 3, height, width)", inputs.picture_first, "warning"),
        Rule("sizes are fixed", whole.fixed_sizes, "warning"),
        Rule("operators are ONNX's own", whole.known_operators),
        Rule("one file", whole.one_file),
    ),
}
