"""Graph to graph. Each pass shows what it does as text; a pass that finds nothing changes nothing.

`normalise` is what every target wants; `FOR_TFLITE` and `FOR_ONNX` say with nodes what an operator
of the format cannot say by itself. `REWRITES` are exact and optional.
"""

from mobileseg.graph.passes.draft import Pass, run_passes
from mobileseg.graph.passes.fold import (
    NORMALISE,
    fold_batch_norm,
    fold_crelu,
    fold_pad,
    fuse_activation,
    merge_activations,
    normalise,
)
from mobileseg.graph.passes.lower import (
    FOR_ONNX,
    FOR_TFLITE,
    explicit_bias,
    explicit_crop,
    explicit_pad,
    hard_sigmoid_of_relu6,
    neg_as_mul,
    same_cut,
    same_pads,
    unsigned_steps,
)
from mobileseg.graph.passes.rewrite import REWRITES, deconv_to_conv, float16_weights

__all__ = [
    "FOR_ONNX",
    "FOR_TFLITE",
    "NORMALISE",
    "REWRITES",
    "Pass",
    "deconv_to_conv",
    "explicit_bias",
    "explicit_crop",
    "explicit_pad",
    "float16_weights",
    "fold_batch_norm",
    "fold_crelu",
    "fold_pad",
    "fuse_activation",
    "hard_sigmoid_of_relu6",
    "merge_activations",
    "neg_as_mul",
    "normalise",
    "run_passes",
    "same_cut",
    "same_pads",
    "unsigned_steps",
]
