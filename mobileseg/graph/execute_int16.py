"""What TFLite's plain kernels do with int16 activations otherwise than XNNPACK's with int8 ones."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mobileseg.graph.ir import Array
from mobileseg.graph.ops import Resize

_Q10 = 2**10


def multiplied16(total: Tensor, factors: Array) -> Tensor:
    """Return integer sums `(N, C, H, W)` times positive factors `(C,)` of 15 bits, half rounded up.

    Source: TFLite, lite/kernels/internal/common.cc, MultiplyByQuantizedMultiplier of int64.
    """
    mantissa, exponent = np.frexp(factors.astype(np.float64))
    wide = np.rint(mantissa * 2**31).astype(np.int64)
    narrow = np.minimum((wide + 2**15) >> 16, 2**15 - 1)
    shift = torch.from_numpy(15 - exponent.astype(np.int64)).view(1, -1, 1, 1)
    product = total.long() * torch.from_numpy(narrow).view(1, -1, 1, 1)
    return (product + (1 << (shift - 1))) >> shift


def resized16(op: Resize, steps: Tensor) -> Tensor:
    """Return int16 steps resized bilinearly: positions and weights of 10 bits, half from zero.

    Source: TFLite, lite/kernels/internal/reference/resize_bilinear.h, ResizeBilinearInteger.
    """
    (top, bottom, down), (left, right, along) = (
        _taps(steps.shape[axis], op.size[axis - 2], op.align_corners) for axis in (2, 3)
    )
    rows = []
    for row in (top, bottom):
        line = steps[:, :, row].double()
        rows.append(line[..., left] * (_Q10 - along) + line[..., right] * along)
    total = (rows[0] * (_Q10 - down.view(-1, 1)) + rows[1] * down.view(-1, 1)) / _Q10**2
    return (torch.sign(total) * torch.floor(total.abs() + 0.5)).float()


def _taps(size: int, wanted: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each output position of one axis its two inputs and the second's weight, Q10."""
    if align_corners and wanted > 1:
        pace = (_Q10 * (size - 1) + (wanted - 1) // 2) // (wanted - 1)
        start = 0
    else:
        pace = (_Q10 * size + wanted // 2) // wanted
        start = pace // 2 - _Q10 // 2
    at = start + pace * torch.arange(wanted)
    first = (at // _Q10).clamp(0, size - 1)
    second = ((at + _Q10 - 1) // _Q10).clamp(0, size - 1)
    return first, second, (at - _Q10 * first).double()
