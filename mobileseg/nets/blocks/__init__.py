"""The blocks of a network as data: what each makes of its inputs, and what that costs.

A size is (channels, height, width). Counting convention: a MAC is one multiply-add and only
convolutions have any; parameters are the trainable ones, so a batch norm has two per channel and
the convolution before it no bias.
"""

from mobileseg.nets.blocks.base import (
    IMAGE,
    MAX_CHANNELS,
    MAX_SIDE,
    Act,
    Axes,
    Block,
    Channels,
    Count,
    Reach,
    Role,
    Side,
    Size,
    same_pads,
)
from mobileseg.nets.blocks.combine import (
    Activate,
    Bins,
    Join,
    Pool,
    Product,
    Sum,
    Unpool,
    Upsample,
)
from mobileseg.nets.blocks.convolve import Conv, Deconv, Depthwise, Gate, Separable

BLOCKS: dict[str, type[Block]] = {
    cls.kind: cls
    for cls in (
        Conv,
        Depthwise,
        Separable,
        Deconv,
        Gate,
        Sum,
        Product,
        Join,
        Activate,
        Pool,
        Unpool,
        Bins,
        Upsample,
    )
}

__all__ = [
    "BLOCKS",
    "IMAGE",
    "MAX_CHANNELS",
    "MAX_SIDE",
    "Act",
    "Activate",
    "Axes",
    "Bins",
    "Block",
    "Channels",
    "Conv",
    "Count",
    "Deconv",
    "Depthwise",
    "Gate",
    "Join",
    "Pool",
    "Product",
    "Reach",
    "Role",
    "Separable",
    "Side",
    "Size",
    "Sum",
    "Unpool",
    "Upsample",
    "same_pads",
]
