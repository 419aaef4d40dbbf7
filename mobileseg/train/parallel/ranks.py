"""Who a process is among those that train together, and what they tell each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mobileseg.errors import MobilesegError


class LostPeerError(MobilesegError):
    """Another of the processes is gone; it, or who started it, knows why."""


@dataclass(frozen=True)
class Ranks:
    """This process is number `rank` of `count`, all of which call the same methods in one order.

    Of more than one, the process group of torch.distributed has to be there. Collectives that fail
    raise LostPeerError within `watched`.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and shows; the others only compute."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Return which of a batch's pictures are this process's; shares differ by one at most.

        Raises MobilesegError where there are fewer than processes.
        """
        if total < self.count:
            raise MobilesegError(
                f"train.batch_size: {total} pictures are too few for {self.count} devices; every "
                "one needs a picture of each batch"
            )
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def summed(self, value: Tensor) -> Tensor:
        """Return the sum of all processes' values. Its gradient is that of the own value."""
        summed: Tensor = value if self.count == 1 else _Sum.apply(value)  # type: ignore[no-untyped-call]
        return summed

    def joined(self, value: Tensor) -> Tensor:
        """Return the rows of all processes' values in order; the own rows have a gradient."""
        if self.count == 1:
            return value
        joined: Tensor = _Join.apply(value, self)  # type: ignore[no-untyped-call]
        return joined

    def gathered(self, value: Tensor) -> list[Tensor]:
        """Return every process's value; shapes are the same."""
        if self.count == 1:
            return [value]
        parts = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(parts, value)
        return parts

    def told(self, message: bytes | None, device: torch.device) -> bytes:
        """Return what the first process says."""
        if self.count == 1:
            return message or b""
        size = torch.tensor([len(message or b"")], device=device)
        dist.broadcast(size, 0)
        if self.first:
            said = torch.frombuffer(bytearray(message or b""), dtype=torch.uint8).to(device)
        else:
            said = torch.empty(int(size), dtype=torch.uint8, device=device)
        dist.broadcast(said, 0)
        return said.cpu().numpy().tobytes()

    def spread(self, module: nn.Module) -> None:
        """Give every process the first one's weights and buffers."""
        if self.count == 1:
            return
        device = next(module.parameters()).device
        state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
        module.load_state_dict(load(self.told(save(state) if self.first else None, device)))

    def wrapped(self, module: nn.Module) -> nn.Module:
        """Return the module to call in training: its gradient is the mean over all processes."""
        if self.count == 1:
            return module
        # Buffers follow from what all processes see: see `norm`.
        return DistributedDataParallel(
            module, forward_sync_buffers=False, gradient_as_bucket_view=True
        )

    def require_gradients(self, module: nn.Module) -> None:
        """Raise MobilesegError for a parameter without a gradient: the others would wait for it."""
        if self.count == 1:
            return
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and parameter.grad is None:
                raise MobilesegError(
                    f"devices: {name} has no part in the loss, which several processes need; take "
                    "its block out, or train on one device"
                )

    def gathering(self, called: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Return the context of a part of a batch: gradients are sent with the last one alone."""
        if isinstance(called, DistributedDataParallel) and not last:
            unsent: AbstractContextManager[None] = called.no_sync()
            return unsent
        return nullcontext()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raise LostPeerError for what torch says when another process is gone."""
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _lost(error):
                raise
            raise LostPeerError(
                f"devices: another of the {self.count} processes is gone "
                f"({str(error).splitlines()[0]}); its own error says why; the same command goes on "
                "from the last checkpoint"
            ) from error


ALONE = Ranks()


# What gloo, nccl and the store say of a connection that broke. No class of theirs tells them apart.
_SIGNS = ("closed by peer", "reset by peer", "Connection", "NCCL", "Timed out", "Broken pipe")


def _lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(sign in str(error) for sign in _SIGNS)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


class _Join(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, ranks: Ranks) -> Tensor:
        rows = [int(n) for n in ranks.gathered(torch.tensor([len(value)], device=value.device))]
        ctx.own = slice(sum(rows[: ranks.rank]), sum(rows[: ranks.rank + 1]))
        # All send as many rows: the shares differ by one at most.
        padded = value.new_zeros((max(rows), *value.shape[1:]))
        padded[: len(value)] = value
        parts = ranks.gathered(padded.contiguous())
        return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.own], None
