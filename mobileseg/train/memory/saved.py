"""The bytes that autograd keeps for the way back, per part of a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from mobileseg.train.memory.lean import Keep, lean_forward, place
from mobileseg.train.memory.recompute import Unit, recomputed


@dataclass(frozen=True)
class Saved:
    """Bytes by the module that made autograd keep them; parameters and buffers are not counted."""

    by_module: dict[str, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_module.values())

    def by_block(self) -> dict[str, int]:
        """Return the sums of a network's blocks, in running order."""
        sums: dict[str, int] = {}
        for name, count in self.by_module.items():
            block = name.split(".")[0]
            sums[block] = sums.get(block, 0) + count
        return sums


def saved_bytes(
    module: nn.Module, inputs: Tensor, lean: bool = False, parts: Sequence[Unit] = ()
) -> Saved:
    """Return what a forward pass in train mode leaves behind for the backward pass.

    lean: within `lean_forward`. parts: what `units` says of the module.

    Each storage counts once, for the module that met it first; what a unit keeps, for its last
    block. inputs: may be on the meta device, like the module: then nothing is computed and the
    count is the same. The module's buffers move as they do in training.
    """
    own = {place(t) for t in (*module.parameters(), *module.buffers())}
    seen: dict[int, Tensor] = {}
    counts: dict[str, int] = {}
    running: list[str] = []
    left = [""]

    def keep(tensor: Tensor) -> None:
        where = place(tensor)
        if where in own or where in seen:
            return
        # Kept alive: its place is not given to another while we count.
        seen[where] = tensor
        name = (running[-1] if running else "") or left[-1]
        counts[name] = counts.get(name, 0) + tensor.untyped_storage().nbytes()

    def enter(name: str) -> None:
        running.append(name)

    with ExitStack() as stack:
        for name, part in module.named_modules():
            before = part.register_forward_pre_hook(lambda *_, name=name: enter(name))
            after = part.register_forward_hook(
                lambda *_: left.append(running.pop()), always_call=True
            )
            stack.callback(before.remove)
            stack.callback(after.remove)
        was_training = module.training
        module.train()
        watch = lean_forward(keep) if lean else saved_tensors_hooks(_keeping(keep), lambda x: x)
        with watch, recomputed(module, parts):
            out = module(inputs)
        module.train(was_training)
        del out
    return Saved(counts)


def _keeping(keep: Keep) -> Callable[[Tensor], Tensor]:
    def pack(tensor: Tensor) -> Tensor:
        keep(tensor)
        return tensor

    return pack
