"""Rounding to steps, with gradients that pass straight through.

Source: Jacob et al., CVPR 2018, section 3; Esser et al., Learned Step Size Quantization, ICLR
2020, section 2.1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def straight(x: Tensor, rounded: Tensor) -> Tensor:
    """Return `rounded`; its gradient goes to x."""
    passed: Tensor = _Straight.apply(x, rounded)  # type: ignore[no-untyped-call]
    return passed


def whole_steps(x: Tensor, zero: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return x, which counts steps from the zero point `zero`, in whole steps from low to high.

    low, high: the ends of int8 itself, -128 - zero and 127 - zero, or nearer where an activation
    cuts. The gradient reaches x where it is not cut. Where it is cut by int8's end, which is that
    of the range, the gradient reaches the zero point.
    """
    stored: Tensor = _WholeSteps.apply(x, zero, low, high)  # type: ignore[no-untyped-call]
    return stored


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor) -> Tensor:  # noqa: ARG004
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradient, None


class _WholeSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, zero: Tensor, low: Tensor, high: Tensor) -> Tensor:
        whole = torch.round(x)
        steps = torch.clamp(whole, low, high)
        ctx.save_for_backward(whole == steps, whole > high, low == -128 - zero, high == 127 - zero)
        return steps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inside, above, low_is_end, high_is_end = ctx.saved_tensors
        within = gradient * inside
        if not ctx.needs_input_grad[1]:
            return within, None, None, None
        over = (gradient * above).sum()
        under = gradient.sum() - within.sum() - over
        return within, -(under * low_is_end + over * high_is_end), None, None
