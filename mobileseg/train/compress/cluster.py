"""Weight clustering: every layer's weights take one of a few values, trained as one number each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Generator, Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.train.compress.config import Cluster
from mobileseg.train.compress.layers import convolutions, fold_norms

# Lloyd's steps; few values on a line settle long before.
_MOST_STEPS = 100
_Start: TypeAlias = Callable[[Tensor, int, Generator], Tensor]


class Clusters:
    """Gives the weights of a module their values, and holds equals equal.

    The assignment is made once and follows from the first weights and the seed.
    """

    def __init__(self, module: nn.Module, config: Cluster, seed: int) -> None:
        """Fold the module's norms and cluster it, in place.

        Raises MobilesegError where no layer may be clustered.
        """
        left = fold_norms(module)
        found = convolutions(module, config.keep)
        self.weights = {name: x.weight for name, x in found.items() if name not in left}
        if not self.weights:
            raise MobilesegError("cluster: no layer is left; shorten `keep`")
        draws = Generator().manual_seed(seed)
        self._index = {
            name: _assigned(weight.detach(), config, draws) for name, weight in self.weights.items()
        }
        self.settle()

    def after_step(self, done: int) -> None:  # noqa: ARG002
        """Move every value by the mean of what its weights were moved by."""
        self.settle()

    @torch.no_grad()
    def settle(self) -> None:
        """Give the weights of a cluster their mean; zeros stay zeros."""
        for name, weight in self.weights.items():
            index = self._index[name].to(weight.device)
            count = int(index.max()) + 1
            flat = weight.flatten().double()
            sums = torch.zeros(count, dtype=torch.float64, device=weight.device)
            sums.scatter_add_(0, index, flat)
            means = sums / torch.bincount(index, minlength=count).clamp(min=1)
            means[0] = 0.0
            weight.copy_(means.float()[index].view_as(weight))


def _assigned(weight: Tensor, config: Cluster, draws: Generator) -> Tensor:
    """Return per weight the number of its cluster; 0 is for those that are zero."""
    values = weight.flatten().double()
    some = values[values != 0]
    # A value for the zeros is one of the clusters where there are any.
    wanted = config.clusters - int(len(some) < len(values))
    centres = k_means(some, wanted, STARTS[config.init], draws)
    index = torch.bucketize(values, (centres[1:] + centres[:-1]) / 2) + 1
    index[values == 0] = 0
    return index


def k_means(values: Tensor, count: int, start: _Start, draws: Generator) -> Tensor:
    """Return at most `count` centres of numbers [N], sorted."""
    centres: Tensor = torch.unique(start(values, count, draws))
    ordered = values.sort().values
    sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    for _ in range(_MOST_STEPS):
        ends = torch.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        ends = torch.cat([ends.new_zeros(1), ends, ends.new_tensor([len(ordered)])])
        counts = ends.diff()
        # A centre that nothing is nearest to stays where it is.
        means = sums[ends].diff() / counts.clamp(min=1)
        moved: Tensor = torch.unique(torch.where(counts > 0, means, centres))
        if moved.shape == centres.shape and torch.equal(moved, centres):
            break
        centres = moved
    return centres


def _linear(values: Tensor, count: int, draws: Generator) -> Tensor:  # noqa: ARG001
    return torch.linspace(float(values.min()), float(values.max()), count, dtype=values.dtype)


def _density(values: Tensor, count: int, draws: Generator) -> Tensor:  # noqa: ARG001
    ranks = (torch.arange(count) + 0.5) / count * len(values)
    return values.sort().values[ranks.long()]


def _plus_plus(values: Tensor, count: int, draws: Generator) -> Tensor:
    """Each next one is drawn with the odds of its squared distance to the nearest so far."""
    chosen = [values[int(torch.randint(len(values), (1,), generator=draws))]]
    away = (values - chosen[0]) ** 2
    while len(chosen) < count and float(away.sum()) > 0:
        # torch.multinomial takes at most 2^24 numbers.
        point = torch.rand(1, generator=draws, dtype=values.dtype) * away.sum()
        place = int(torch.searchsorted(away.cumsum(0), point).clamp(max=len(values) - 1))
        chosen.append(values[place])
        away = torch.minimum(away, (values - chosen[-1]) ** 2)
    return torch.stack(chosen)


STARTS: dict[str, _Start] = {"linear": _linear, "density": _density, "kmeans++": _plus_plus}
