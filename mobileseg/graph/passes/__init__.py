"""Graph to graph. Each pass shows what it does as text; a pass that finds nothing changes nothing.

`normalise` is what every target wants; `FOR_TFLITE` and `FOR_ONNX` say with nodes what an operator
of the format cannot say by itself. `REWRITES` are exact and optional, and taken where they pay;
`SETTLE` is what pays everywhere behind them. `FINISH` comes last: work done twice, and the order
of the nodes.
"""

from mobileseg.graph.passes.clean import fold_constants, merge_twins, remove_idle
from mobileseg.graph.passes.deconv import deconv_to_conv
from mobileseg.graph.passes.draft import Pass, Rewrite, run_passes
from mobileseg.graph.passes.entrance import float32_weights, scale_input
from mobileseg.graph.passes.float16 import float16_weights
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
from mobileseg.graph.passes.pointwise import hard_swish_to_mul, relu_to_mul, softmax_to_sigmoid
from mobileseg.graph.passes.rewrite import REWRITES
from mobileseg.graph.passes.scale import (
    batch_norm_as_conv,
    batch_norm_as_products,
    fold_batch_norm,
    fold_scale,
    fold_scale_in_front,
)
from mobileseg.graph.passes.settle import (
    SETTLE,
    activation_before_copy,
    broadcast_pixel,
    carry_factor,
    merge_products,
    product_before_resize,
)
from mobileseg.graph.passes.spatial import (
    mean_pool_to_depthwise,
    nearest_to_copies,
    pixel_after_product,
    product_before_sum,
    split_concat,
)

FINISH: tuple[Pass, ...] = (merge_twins, order_for_memory)

__all__ = [
    "FINISH",
    "FOR_ONNX",
    "FOR_TFLITE",
    "NORMALISE",
    "REWRITES",
    "SETTLE",
    "Pass",
    "Rewrite",
    "activation_before_copy",
    "batch_norm_as_conv",
    "batch_norm_as_products",
    "broadcast_pixel",
    "carry_factor",
    "deconv_to_conv",
    "explicit_bias",
    "explicit_crop",
    "explicit_pad",
    "float16_weights",
    "float32_weights",
    "fold_batch_norm",
    "fold_constants",
    "fold_crelu",
    "fold_pad",
    "fold_scale",
    "fold_scale_in_front",
    "fuse_activation",
    "hard_sigmoid_of_relu6",
    "hard_swish_to_mul",
    "mean_pool_to_depthwise",
    "merge_products",
    "merge_twins",
    "nearest_to_copies",
    "neg_as_mul",
    "normalise",
    "order_for_memory",
    "pixel_after_product",
    "product_before_resize",
    "product_before_sum",
    "relu_to_mul",
    "remove_idle",
    "run_passes",
    "same_cut",
    "same_pads",
    "scale_input",
    "softmax_to_sigmoid",
    "split_concat",
    "unsigned_steps",
]
