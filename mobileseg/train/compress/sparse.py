"""Magnitude pruning: a mask per weight that grows while the network trains."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.train.compress.config import Sparse
from mobileseg.train.compress.layers import Convolution, convolutions


class Masks:
    """Keeps the smallest weights of a module at zero. Masked weights get no gradient.

    What is masked is read from the weights themselves, zero or not: a training that is resumed
    goes on with the same masks.
    """

    def __init__(self, module: nn.Module, config: Sparse, steps: int) -> None:
        """steps: of the whole training. Raises MobilesegError where no weight may go."""
        self.config, self.steps = config, steps
        found = convolutions(module, config.keep)
        many = {name: layer for name, layer in found.items() if _many(layer)}
        layers = {name: layer for name, layer in many.items() if _fits(layer, config)}
        # Those that the pattern does not fit, and how many inputs they have.
        self.misfits = {n: layer.in_channels for n, layer in many.items() if n not in layers}
        self.weights = {name: layer.weight for name, layer in layers.items()}
        self._into = {
            name: 0 if isinstance(layer, nn.ConvTranspose2d) else 1
            for name, layer in layers.items()
        }
        if not self.weights:
            raise MobilesegError(self.note() or "sparse: no layer is left; shorten `keep`")
        self._masks: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            weight.register_hook(partial(self._masked, name))  # type: ignore[no-untyped-call]

    def note(self) -> str:
        """Say which layers stay whole because the pattern does not fit them; nothing if none do."""
        if not self.misfits:
            return ""
        named = ", ".join(f"{name} ({inputs})" for name, inputs in self.misfits.items())
        count = len(self.misfits) + len(self.weights)
        return (
            f"sparse: pattern = {self.config.pattern!r} leaves {len(self.misfits)} of {count} "
            f"layers whole, whose inputs do not divide by {self.config.pattern.split(':')[-1]}: "
            f"{named}"
        )

    def after_step(self, done: int) -> None:
        """Let the masks grow as the schedule says, and put zeros where they are."""
        # First: an optimizer's momentum may just have moved a zero.
        self.settle()
        due = done % self.config.every == 0 or done == self._last
        if due and done >= self.config.begin * self.steps:
            share = self.share(done)
            for name, weight in self.weights.items():
                self._masks[name] = _mask(weight.detach(), self._into[name], share, self.config.of)
            self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Put zeros where the masks are: in weights that an average has put there since."""
        for name, weight in self.weights.items():
            weight.mul_(self._mask(name))

    def share(self, done: int) -> float:
        """Return the share of zeros after so many steps."""
        begin, end = self.config.begin * self.steps, self.config.end * self.steps
        way = min(1.0, max(0.0, (done - begin) / (end - begin)))
        return self.config.final * (1 - (1 - way) ** 3)

    @property
    def _last(self) -> int:
        """The step from which on nothing more goes."""
        return max(1, round(self.config.end * self.steps))

    def _mask(self, name: str) -> Tensor:
        if name not in self._masks:
            self._masks[name] = self.weights[name].detach() != 0
        return self._masks[name]

    def _masked(self, name: str, gradient: Tensor) -> Tensor:
        return gradient * self._mask(name)


def _many(layer: Convolution) -> bool:
    # The classifier and gates have a bias, for no norm follows them; their few weights decide much.
    return layer.bias is None


def _fits(layer: Convolution, config: Sparse) -> bool:
    return config.of is None or layer.in_channels % config.of[1] == 0


def _mask(weight: Tensor, into: int, share: float, of: tuple[int, int] | None) -> Tensor:
    """Return true where a weight stays: `share` of them do not, the smallest of those that may go.

    into: the axis of the input channels, in which `of` finds its neighbours.
    """
    size = weight.abs()
    if of is not None:
        last = size.movedim(into, -1)
        groups = last.reshape(*last.shape[:-1], -1, of[1])
        order = groups.argsort(dim=-1, descending=True).argsort(dim=-1)
        stays = (order < of[0]).flatten(-2).movedim(-1, into)
        size = torch.where(stays, torch.inf, size)
    gone = min(round(share * size.numel()), int(size.isfinite().sum()))
    if gone == 0:
        return torch.ones_like(size, dtype=torch.bool)
    smallest = size.flatten().topk(gone, largest=False).indices
    mask = torch.ones(size.numel(), dtype=torch.bool, device=size.device)
    mask[smallest] = False
    return mask.view_as(size)
