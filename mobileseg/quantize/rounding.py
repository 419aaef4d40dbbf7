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

# Windows of the input that a layer is learned from, and those of one step: outputs next to each
# other say the same, so thousands from many pictures say more than all of a few.
_WINDOWS, _BATCH = 2048, 128
_STEPS = 300
_RATE = 0.02
# The sigmoid is stretched by a tenth at both ends, so that it reaches 0 and 1.
_STRETCH = 0.1
# How hard decisions are asked for: as much as a hundredth of the output's power.
_DECIDE = 0.01
# Freely at first, then ever more sharply.
_SHARPNESS = (20.0, 2.0)
_FREE_SHARE = 0.2


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
    reads in int8, nearer to the float layer's. Nothing changes where nearest rounding is better.
    Source: Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020.
    """

    def visit(at: Meeting) -> Iterator[Value]:
        if at.node.output not in outputs or not is_roundable(at):
            return
        stored = at.body[at.int8_node.inputs[1]]
        scale = torch.from_numpy(quant_of(stored).scale).float().view(-1, 1, 1, 1)
        windows, wanted = _samples(at)
        steps = torch.from_numpy(np.asarray(stored.data, np.float32))
        learned = _learn(at.floats[1] / scale, scale, windows, wanted)
        before, after = (_error(each * scale, windows, wanted) for each in (steps, learned))
        if after < before:
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


def _outputs(weight: Tensor, windows: Tensor) -> Tensor:
    groups = windows.shape[1]
    filters = weight.reshape(groups, weight.shape[0] // groups, -1)
    return torch.einsum("pgk,gok->pgo", windows, filters)


def _error(weight: Tensor, windows: Tensor, wanted: Tensor) -> float:
    return float((_outputs(weight, windows) - wanted).square().mean())


def _learn(weight: Tensor, scale: Tensor, windows: Tensor, wanted: Tensor) -> Tensor:
    """Return weights in whole steps, learned from `weight` in broken ones."""
    below = weight.floor()
    share = (weight - below).clamp(0.01, 0.99)
    wish = torch.logit((share + _STRETCH) / (1 + 2 * _STRETCH)).requires_grad_()
    best = torch.optim.Adam([wish], _RATE)
    power = wanted.var(0).clamp_min(1e-12)
    random = torch.Generator().manual_seed(0)
    for step in range(_STEPS):
        picked = torch.randint(len(windows), (_BATCH,), generator=random)
        with torch.enable_grad():
            up = _decision(wish)
            made = _outputs((below + up).clamp(-127, 127) * scale, windows[picked])
            loss = ((made - wanted[picked]).square() / power).mean()
            done = step / _STEPS
            if done > _FREE_SHARE:
                sharp = _SHARPNESS[0] + (_SHARPNESS[1] - _SHARPNESS[0]) * done
                loss = loss + _DECIDE * (1 - (2 * up - 1).abs().pow(sharp)).mean()
            best.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        best.step()
    with torch.no_grad():
        return (below + (_decision(wish) >= 0.5)).clamp(-127, 127)


def _decision(wish: Tensor) -> Tensor:
    """Return how far up each weight goes, 0 to 1."""
    return (torch.sigmoid(wish) * (1 + 2 * _STRETCH) - _STRETCH).clamp(0, 1)
