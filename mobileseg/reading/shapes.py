"""Arithmetic of windows, shapes and steps that both formats share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Array, QuantParams

# Axes, sizes and paddings are a few integers; what is larger is no shape.
SMALL = 1024


def same_pads(
    size: Sequence[int], kernel: Sequence[int], stride: ops.Pair, dilation: ops.Pair
) -> ops.Pads:
    """Return what SAME pads: the output is the input over the stride, rounded up; odd ones last."""
    pads = []
    for n, k, step, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // step) - 1) * step + (k - 1) * d + 1 - n, 0)
        pads.append((total // 2, total - total // 2))
    return (pads[0][0], pads[1][0], pads[0][1], pads[1][1])


def crop_of(
    starts: ops.Pair, ends: ops.Pair, size: ops.Pair, damaged: Callable[[str], Exception]
) -> ops.Crop:
    """Return the window; raises `damaged` where it is empty or leaves the picture."""
    inside = all(0 <= a < b <= n for a, b, n in zip(starts, ends, size, strict=True))
    if not inside:
        raise damaged(f"a window {list(starts)} to {list(ends)} of a picture {list(size)}")
    return ops.Crop(starts, (ends[0] - starts[0], ends[1] - starts[1]))


def within(position: int, size: int) -> int:
    """Return a place on an axis: counted from its end where negative, and never outside."""
    return max(0, min(position + size if position < 0 else position, size))


def reals(data: Array, quant: QuantParams) -> Array:
    """Return the float32 numbers that a constant's steps stand for."""
    along = [1] * data.ndim
    if quant.axis is not None:
        along[quant.axis] = -1
    scale = quant.scale.reshape(along) if data.ndim else quant.scale[0]
    made: Array = ((data.astype(np.float64) - quant.zero_point) * scale).astype(np.float32)
    return made
