"""Chosen blocks keep what they read and no more; on the way back they are computed again.

Source of the idea: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from mobileseg.errors import MobilesegError, matching
from mobileseg.nets.blocks import IMAGE, Block
from mobileseg.nets.module import Net, unread
from mobileseg.train.memory.lean import lean_forward
from mobileseg.train.precision import precision_now


@dataclass(frozen=True)
class Unit:
    """Adjacent blocks of a network that are computed together.

    reads: the blocks outside whose values they want. gives: those inside that are wanted outside.
    again: whether they are computed again on the way back.
    """

    net: Net
    blocks: tuple[Block, ...]
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    again: bool
    lean: bool

    def run(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the values of `gives` for those of `reads`."""
        values = dict(zip(self.reads, given, strict=True))
        steps = [(block.inputs, (block.name,)) for block in self.blocks]
        for block, dropped in zip(self.blocks, unread(steps, self.gives), strict=True):
            layer = self.net.get_submodule(block.name)
            values[block.name] = layer(*(values[name] for name in block.inputs))
            for name in dropped:
                del values[name]
        return tuple(values[name] for name in self.gives)

    def parameters(self) -> list[nn.Parameter]:
        """Return those of its blocks."""
        layers = [self.net.get_submodule(block.name) for block in self.blocks]
        return [p for layer in layers for p in layer.parameters() if p.requires_grad]


def units(module: nn.Module, globs: Sequence[str], lean: bool = False) -> tuple[Unit, ...]:
    """Return a network's blocks in running order, in units; without globs none.

    A unit of what the globs choose are adjacent blocks whose names agree up to their last `_`:
    `block3_expand`, `block3_dw` and `block3_project`, say. A block that someone watches, an
    auxiliary head or what a teacher compares, is never computed again: its hooks would see it
    twice.

    Raises MobilesegError for a glob that no block's name matches.
    """
    if not globs:
        return ()
    if not isinstance(module, Net):
        raise MobilesegError("train.recompute: only networks that are made of blocks have it")
    net, blocks = module, module.spec.blocks
    chosen = matching("train.recompute", "block", globs, [block.name for block in blocks])
    chosen -= {block.name for block in blocks if _watched(net.get_submodule(block.name))}

    def unit_of(block: Block) -> tuple[bool, str]:
        again = block.name in chosen
        return again, block.name.rpartition("_")[0] or block.name if again else ""

    groups = [(key[0], tuple(group)) for key, group in groupby(blocks, unit_of)]
    return tuple(_unit(net, group, again, lean) for again, group in groups)


def _watched(layer: nn.Module) -> bool:
    return any(part._forward_hooks for part in layer.modules())


def _unit(net: Net, blocks: tuple[Block, ...], again: bool, lean: bool) -> Unit:
    inside = {block.name for block in blocks}
    reads = dict.fromkeys(name for block in blocks for name in block.inputs if name not in inside)
    others = [block for block in net.spec.blocks if block.name not in inside]
    wanted = {name for block in others for name in block.inputs} | {net.spec.blocks[-1].name}
    gives = tuple(block.name for block in blocks if block.name in wanted)
    return Unit(net, blocks, tuple(reads), gives, again, lean)


@contextmanager
def recomputed(net: nn.Module, parts: Sequence[Unit]) -> Iterator[None]:
    """Run a network in these units, in the forward passes inside; without units, as ever.

    Gradients and the norms' running statistics are those of a plain step.
    """
    if not parts:
        yield
        return

    last = parts[-1].blocks[-1].name
    dropped = unread([(part.reads, part.gives) for part in parts], {last})

    def forward(image: Tensor) -> Tensor:
        values = {IMAGE: image}
        for part, names in zip(parts, dropped, strict=True):
            found = _run(part, [values[name] for name in part.reads])
            values.update(zip(part.gives, found, strict=True))
            for name in names:
                del values[name]
        return values[last]

    net.forward = forward
    try:
        yield
    finally:
        del net.forward


def _run(unit: Unit, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if not (unit.again and unit.gives):
        return unit.run(given)
    found: tuple[Tensor, ...] = _Again.apply(unit, *given, *unit.parameters())  # type: ignore[no-untyped-call]
    return found


class _Again(torch.autograd.Function):
    """A unit as one function of what it reads and of its parameters."""

    @staticmethod
    def forward(ctx: Any, unit: Unit, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = tensors[: len(unit.reads)]
        ctx.unit, ctx.precision = unit, precision_now()
        ctx.draws = _draws(given[0].device)
        ctx.save_for_backward(*given)
        return unit.run(given)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        unit, needs = ctx.unit, ctx.needs_input_grad[1:]
        given = [
            tensor.detach().requires_grad_(need)
            for tensor, need in zip(ctx.saved_tensors, needs, strict=False)
        ]
        lean = lean_forward() if unit.lean else nullcontext()
        before = _as_before(unit, given[0].device, ctx.draws)
        with torch.enable_grad(), ctx.precision(), before, lean:
            found = unit.run(given)
        ends = [(f, g) for f, g in zip(found, gradients, strict=True) if f.requires_grad]
        sources = [*given, *unit.parameters()]
        wanted = [tensor for tensor in sources if tensor.requires_grad]
        outs, downs = zip(*ends, strict=True)
        slopes = iter(torch.autograd.grad(outs, wanted, downs, allow_unused=True))
        return None, *(next(slopes) if tensor.requires_grad else None for tensor in sources)


def _draws(device: torch.device) -> list[Tensor]:
    """Return the states of the generators that dropout draws from."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]


@contextmanager
def _as_before(unit: Unit, device: torch.device, draws: Sequence[Tensor]) -> Iterator[None]:
    """Let dropout draw what it drew, and the running statistics rest: they have moved once."""
    layers = [unit.net.get_submodule(block.name) for block in unit.blocks]
    parts = [part for layer in layers for part in layer.modules()]
    norms = [p for p in parts if isinstance(p, nn.BatchNorm2d) and p.track_running_stats]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_rng_state(draws[0])
        for state in draws[1:]:
            torch.cuda.set_rng_state(state, device)
        for norm in norms:
            norm.track_running_stats = False
        try:
            yield
        finally:
            for norm in norms:
                norm.track_running_stats = True
