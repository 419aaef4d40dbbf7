"""Weight rounding that is learned: up or down, whichever keeps a layer's output."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mobileseg.graph.execute_int8 import quant_of
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.ir import Tensor as Value
from mobileseg.graph.ops import Conv2d
from mobileseg.quantize.bias import is_integer_convolution
from mobileseg.quantize.lockstep import Meeting, lockstep

# Windows of the input that a layer is judged on: outputs next to each other say the same, so
# thousands from many pictures say more than all of a few.
_WINDOWS = 4096
# A weight far from its own value must pay: the windows are a sample, and not of every direction.
_DAMPING = 0.01
# Weights that are turned once are looked at again; after so many rounds few turn any more.
_ROUNDS = 4


def worst_rounded(graph: Graph, body: Graph, images: Array, count: int) -> tuple[str, ...]:
    """Return the outputs of the convolutions whose rounded weights distort their output most."""
    noise: dict[str, float] = {}

    def measure(at: Meeting) -> Iterator[Value]:
        if is_roundable(at):
            exact = at.linear(at.floats)
            rounded = at.linear([at.floats[0], at.reals[1], *at.floats[2:]])
            noise[at.node.output] = float((rounded - exact).square().mean() / exact.var())
        return iter(())

    lockstep(graph, body, images, measure)
    return tuple(sorted(noise, key=noise.__getitem__, reverse=True)[:count])


def is_roundable(at: Meeting) -> bool:
    """Whether `learned_rounding` knows the node: an integer convolution, not a transposed one."""
    return is_integer_convolution(at) and isinstance(at.node.op, Conv2d)


def learned_rounding(outputs: Collection[str]) -> Callable[[Meeting], Iterator[Value]]:
    """Return a visit that rounds the weights of the convolutions that make `outputs`.

    A weight goes to the step below or above, whichever brings the int8 layer's output, on what it
    reads in int8, nearer to the float layer's. Source: Nagel et al., Up or Down? Adaptive Rounding
    for Post-Training Quantization, ICML 2020: its objective per layer, which is quadratic; here
    each weight in turn goes where that is least, so that it never becomes worse than by nearest.
    """

    def visit(at: Meeting) -> Iterator[Value]:
        if at.node.output not in outputs or not is_roundable(at):
            return
        stored = at.body[at.int8_node.inputs[1]]
        scale = torch.from_numpy(quant_of(stored).scale).float().view(-1, 1, 1, 1)
        steps = torch.from_numpy(np.asarray(stored.data, np.float32))
        learned = _turned(steps, at.floats[1] / scale, scale, *_samples(at))
        yield replace(stored, data=learned.numpy().astype(np.int8))

    return visit


def _samples(at: Meeting) -> tuple[Tensor, Tensor]:
    """Return windows of the int8 input `(P, groups, K)` and the float outputs wished for there.

    The outputs are `(P, groups, filters)`, without the bias.
    """
    op = at.node.op
    assert isinstance(op, Conv2d)
    target = at.linear(at.floats)
    if len(at.reals) > 2:
        target = target - at.reals[2].view(1, -1, 1, 1)
    n, channels, height, width = target.shape
    random = torch.Generator().manual_seed(0)
    image, y, x = (
        torch.randint(size, (_WINDOWS,), generator=random) for size in (n, height, width)
    )
    top, left, bottom, right = op.pad
    padded = torch.nn.functional.pad(at.reals[0], (left, right, top, bottom))
    kernel = at.floats[1].shape[2:]
    taps = [
        padded[
            image, :, y * op.stride[0] + i * op.dilation[0], x * op.stride[1] + j * op.dilation[1]
        ]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    windows = torch.stack(taps, 2).reshape(_WINDOWS, op.groups, -1)
    return windows, target[image, :, y, x].reshape(_WINDOWS, op.groups, channels // op.groups)


def _turned(steps: Tensor, exact: Tensor, scale: Tensor, windows: Tensor, wanted: Tensor) -> Tensor:
    """Return the steps, some of them turned to the other side of `exact`, the unrounded ones.

    With X the windows and T the outputs wished for, the error |X w - T|^2 changes by
    2 d g + d^2 h if a weight moves by d, where g = X^T (X w - T) and h is its part of X^T X.
    """
    groups, shape = windows.shape[1], steps.shape

    def grouped(each: Tensor) -> Tensor:
        """Return `(groups, K, filters)`."""
        return each.expand(shape).reshape(groups, shape[0] // groups, -1).transpose(1, 2).clone()

    now, aim, size = grouped(steps), grouped(exact), grouped(scale)
    x, t = windows.transpose(0, 1), wanted.transpose(0, 1)
    power = x.transpose(1, 2) @ x
    damping = _DAMPING * power.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    slope = power @ (now * size) - x.transpose(1, 2) @ t + damping * (now - aim) * size
    power = power + damping * torch.eye(power.shape[1])
    low, high = aim.floor().clamp(-127, 127), aim.ceil().clamp(-127, 127)
    for _ in range(_ROUNDS):
        for k in range(power.shape[1]):
            other = low[:, k] + high[:, k] - now[:, k]
            move = (other - now[:, k]) * size[:, k]
            gain = 2 * move * slope[:, k] + move.square() * power[:, k, k][:, None]
            move = torch.where(gain < 0, move, 0.0)
            now[:, k] = torch.where(gain < 0, other, now[:, k])
            slope += power[:, :, k][:, :, None] * move[:, None]
    return now.transpose(1, 2).reshape(shape)
