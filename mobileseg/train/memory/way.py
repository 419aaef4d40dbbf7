"""A way to save memory in training, what it keeps, and a step of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from mobileseg.train.heads import Heads
from mobileseg.train.memory.lean import LeanNorm, lean_forward, make_lean
from mobileseg.train.memory.peak import peak_bytes
from mobileseg.train.memory.recompute import Unit, recomputed, units
from mobileseg.train.memory.saved import Saved, saved_bytes
from mobileseg.train.precision import mixed


@dataclass(frozen=True)
class Way:
    """What a recipe says under [train] about memory."""

    memory: str = "plain"
    recompute: tuple[str, ...] = ()
    precision: str = "float32"
    accumulate: int = 1

    def __str__(self) -> str:
        words = [self.memory] if self.memory != "plain" else []
        words += ["recompute"] if self.recompute else []
        words += [self.precision] if self.precision != "float32" else []
        words += [f"{self.accumulate} parts"] if self.accumulate > 1 else []
        return ", ".join(words) or "plain"

    @property
    def lean(self) -> bool:
        """Whether norms and what is cheap are computed again."""
        return self.memory == "lean"


class Trial:
    """A network made ready to be trained in a way. It is changed: take a fresh one.

    heads: its layers that give logits of their own, in training alone.
    """

    def __init__(self, net: nn.Module, way: Way, heads: Sequence[str] = ()) -> None:
        self.net = net.train()
        self.way = way
        if way.lean:
            make_lean(net)
        _take_any_batch(net)
        self._heads = Heads(net, heads)
        self._units: tuple[Unit, ...] = units(net, way.recompute, way.lean)

    def saved(self, images: Tensor) -> Saved:
        """Return what the forward pass of the largest part of a batch leaves behind."""
        part = images.tensor_split(self.way.accumulate)[0]
        with self._precision(part):
            saved = saved_bytes(self.net, part, self.way.lean, self._units)
        self._heard(part)
        return saved

    def peak(self, images: Tensor) -> int:
        """Return the most bytes that a step holds above the weights, their gradient among them."""
        return peak_bytes(lambda: self.step(images))

    def step(self, images: Tensor) -> None:
        """Do a step but for its update: forward and back, of a loss that stands for any."""
        for part in images.tensor_split(self.way.accumulate):
            with self._forward(part):
                out = self.net(part)
            (_stand_in(out, part) + self._heard(part)).backward()  # type: ignore[no-untyped-call]
            del out
        self.net.zero_grad()

    def _heard(self, images: Tensor) -> Tensor | float:
        """Return the loss of what the heads said since this was last asked."""
        return self._heads.loss(_stand_in, images[:, 0], _stand_in)

    @contextmanager
    def _forward(self, images: Tensor) -> Iterator[None]:
        lean = lean_forward() if self.way.lean else nullcontext()
        with self._precision(images), lean, recomputed(self.net, self._units):
            yield

    def _precision(self, images: Tensor) -> AbstractContextManager[object]:
        return mixed(images.device.type, self.way.precision)


def _stand_in(out: Tensor, _: Tensor) -> Tensor:
    return out.float().square().mean()


def _take_any_batch(net: nn.Module) -> None:
    """Let batch norms take a single value per channel: who counts asks for no statistics."""
    for norm in net.modules():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        norm.track_running_stats = False
        if not isinstance(norm, LeanNorm):
            norm.forward = partial(_normed, norm)  # type: ignore[method-assign]


def _normed(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """As torch's function, which would first ask for more values."""
    assert norm.momentum is not None
    return torch.batch_norm(
        x, norm.weight, norm.bias, None, None, True, norm.momentum, norm.eps, False
    )
