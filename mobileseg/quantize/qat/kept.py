"""Zeros and equal weights that stay so while a graph is trained as int8."""

from __future__ import annotations

import torch
from torch import Tensor

from mobileseg.quantize.qat.constants import Constants

# With more different values than int8 has, a weight compresses no better for them.
_MOST_VALUES = 256
# Fewer are chance: a weight that is trained is hardly ever zero by itself.
_LEAST_ZEROS = 0.01


class Kept:
    """Holds the zeros of sparse weights at zero and the weights of a cluster equal.

    What is sparse or clustered is read from the first weights.
    """

    def __init__(self, constants: Constants) -> None:
        self._constants = constants
        found = {name: _index(constants.value(name).detach()) for name in constants.trained}
        self._index = {name: index for name, index in found.items() if index is not None}

    def __bool__(self) -> bool:
        return bool(self._index)

    def after_step(self, done: int) -> None:  # noqa: ARG002
        """See `settle`."""
        self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Put the zeros back, and give the weights of a cluster their mean."""
        for name, index in self._index.items():
            value = self._constants.value(name)
            self._constants.set(name, _settled(value, index.to(value.device)))


def _index(weight: Tensor) -> Tensor | None:
    """Return per weight the number of its cluster, 0 for zero, -1 for one that is free.

    None where nothing is to be held.
    """
    if weight.ndim != 4:
        return None
    zero = weight == 0
    values, index = torch.unique(weight, return_inverse=True)
    if len(values) <= min(_MOST_VALUES, weight.numel() // 2):
        return torch.where(zero, 0, index + 1)
    if float(zero.float().mean()) >= _LEAST_ZEROS:
        return torch.where(zero, 0, -1)
    return None


def _settled(value: Tensor, index: Tensor) -> Tensor:
    flat, places = value.flatten().double(), index.flatten()
    held = places.clamp(min=0)
    count = int(held.max()) + 1
    sums = torch.zeros(count, dtype=torch.float64, device=value.device)
    sums.scatter_add_(0, held, torch.where(places > 0, flat, 0.0))
    means = sums / torch.bincount(held, minlength=count).clamp(min=1)
    settled = torch.where(places < 0, flat, means[held])
    return settled.to(value.dtype).view_as(value)
