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
            self._masks = self._grown(self.share(done))
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

    def _grown(self, share: float) -> dict[str, Tensor]:
        """Return per layer where a weight stays, if `share` of them do not."""
        of = self.config.of
        sizes = {name: weight.detach().abs() for name, weight in self.weights.items()}
        if of is not None:
            sizes = {n: _in_groups(size, self._into[n], of) for n, size in sizes.items()}
        elif self.config.layers == "adaptive":
            scores = torch.cat([_worth(size.flatten()) for size in sizes.values()])
            stays = torch.split(_largest(scores, share), [size.numel() for size in sizes.values()])
            return {n: mask.view_as(sizes[n]) for n, mask in zip(sizes, stays, strict=True)}
        return {n: _largest(size.flatten(), share).view_as(size) for n, size in sizes.items()}

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


def _in_groups(size: Tensor, into: int, of: tuple[int, int]) -> Tensor:
    """Return sizes with those that must stay infinite: the largest of every group of neighbours.

    into: the axis of the input channels, in which they are neighbours.
    """
    last = size.movedim(into, -1)
    groups = last.reshape(*last.shape[:-1], -1, of[1])
    order = groups.argsort(dim=-1, descending=True).argsort(dim=-1)
    stays = (order < of[0]).flatten(-2).movedim(-1, into)
    return torch.where(stays, torch.inf, size)


def _worth(size: Tensor) -> Tensor:
    """Return per weight of a layer [N] its square as a share of those that are no smaller."""
    ordered, places = size.double().square().sort()
    left = ordered.flip(0).cumsum(0).flip(0)
    return torch.empty_like(ordered).scatter_(0, places, ordered / left.clamp(min=1e-300))


def _largest(worth: Tensor, share: float) -> Tensor:
    """Return true where a number [N] stays: `share` do not, the smallest of the finite ones."""
    gone = min(round(share * worth.numel()), int(worth.isfinite().sum()))
    stays = torch.ones_like(worth, dtype=torch.bool)
    stays[worth.topk(gone, largest=False).indices] = False
    return stays
