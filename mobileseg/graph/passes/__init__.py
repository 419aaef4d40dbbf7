"""Graph to graph. Each pass shows what it does as text; a pass that finds nothing changes nothing.

`normalise` is what every target wants; `FOR_TFLITE` and `FOR_ONNX` say with nodes what an operator
of the format cannot say by itself, `FOR_INT8` what has poor int8 kernels. `REWRITES` are exact and
optional. `FINISH` comes last: work
done twice, and the order of the nodes.
"""

from mobileseg.graph.passes.clean import fold_constants, merge_twins, remove_idle
from mobileseg.graph.passes.delegate import (
    FOR_INT8,
    hard_swish_as_products,
    nearest_as_depth_to_space,
)
from mobileseg.graph.passes.draft import Pass, run_passes
from mobileseg.graph.passes.fold import (
    NORMALISE,
    fold_crelu,
    fold_pad,
    fuse_activation,
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
from mobileseg.graph.passes.order import order_for_memory
from mobileseg.graph.passes.rewrite import deconv_to_conv, float16_weights
from mobileseg.graph.passes.scale import (
    batch_norm_as_conv,
    batch_norm_as_products,
    fold_batch_norm,
    fold_scale,
    fold_scale_in_front,
)

REWRITES: tuple[Pass, ...] = (deconv_to_conv, nearest_as_depth_to_space)
FINISH: tuple[Pass, ...] = (merge_twins, order_for_memory)

__all__ = [
    "FINISH",
    "FOR_INT8",
    "FOR_ONNX",
    "FOR_TFLITE",
    "NORMALISE",
    "REWRITES",
    "Pass",
    "batch_norm_as_conv",
    "batch_norm_as_products",
    "deconv_to_conv",
    "explicit_bias",
    "explicit_crop",
    "explicit_pad",
    "float16_weights",
    "fold_batch_norm",
    "fold_constants",
    "fold_crelu",
    "fold_pad",
    "fold_scale",
    "fold_scale_in_front",
    "fuse_activation",
    "hard_sigmoid_of_relu6",
    "hard_swish_as_products",
    "merge_twins",
    "nearest_as_depth_to_space",
    "neg_as_mul",
    "normalise",
    "order_for_memory",
    "remove_idle",
    "run_passes",
    "same_cut",
    "same_pads",
    "unsigned_steps",
]
