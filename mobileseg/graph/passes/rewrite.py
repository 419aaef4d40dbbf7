"""Exact other forms of operators, each taken where it pays: on a device, at a precision.

A rewrite knows nothing of devices; `workflow.choose` prices both forms and says where to take it.
"""

from __future__ import annotations

from mobileseg.graph.passes.deconv import deconv_to_conv
from mobileseg.graph.passes.draft import Rewrite
from mobileseg.graph.passes.pointwise import hard_swish_to_mul, relu_to_mul, softmax_to_sigmoid
from mobileseg.graph.passes.spatial import (
    mean_pool_to_depthwise,
    nearest_to_copies,
    pixel_after_product,
    product_before_sum,
    split_concat,
)

# In this order: what one makes, a later one may take up.
REWRITES: tuple[Rewrite, ...] = (
    softmax_to_sigmoid,
    pixel_after_product,
    product_before_sum,
    mean_pool_to_depthwise,
    deconv_to_conv,
    nearest_to_copies,
    hard_swish_to_mul,
    relu_to_mul,
    split_concat,
)
