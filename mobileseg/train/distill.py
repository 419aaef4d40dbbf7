"""Lessons: what a teacher adds to the loss of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobileseg.errors import unknown
from mobileseg.train.config import Distill

# Of the mean variance of a channel: what keeps the map from fitting a batch of few places.
_RIDGE = 1e-2
Ask: TypeAlias = Callable[[Tensor], Tensor]
"""A batch's inputs [N, 3, H, W] to the teacher's logits, of any height and width."""


def divergence(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean over pixels of the divergence from the teacher's probabilities.

    teacher: logits of the same shape. Both are divided by the temperature; the gradient keeps its
    size. Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    wanted = F.log_softmax(teacher.float() / temperature, dim=1)
    found = F.log_softmax(logits.float() / temperature, dim=1)
    apart = F.kl_div(found, wanted, reduction="sum", log_target=True)
    return temperature**2 * apart / logits[:, :1].numel()


def channel_divergence(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean over pictures and classes of the divergence of where a class is seen.

    Of each class the logits over all places are made a distribution. Source: Shu et al.,
    Channel-wise Knowledge Distillation for Dense Prediction, 2021, equations 3 and 4.
    """
    wanted = F.log_softmax(teacher.float().flatten(2) / temperature, dim=2)
    found = F.log_softmax(logits.float().flatten(2) / temperature, dim=2)
    apart = F.kl_div(found, wanted, reduction="sum", log_target=True)
    return temperature**2 * apart / (logits.shape[0] * logits.shape[1])


def attention_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean over pictures of the squared distance between two maps of attention.

    found, wanted: features [N, C, h, w] of any numbers of channels and sizes; a map is the mean of
    their squares over the channels, of unit length, at the smaller of both sizes. Source:
    Zagoruyko and Komodakis, Paying More Attention to Attention, 2017, equation 2.
    """
    energies = _alike(*(x.float().square().mean(1, keepdim=True) for x in (found, wanted)))
    mine, theirs = (F.normalize(energy.flatten(1), dim=1) for energy in energies)
    return (mine - theirs).square().sum(1).mean()


def mimic_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the share of the wanted features' variance that no linear map of those found gives.

    found, wanted: features [N, C, h, w] of any numbers of channels and sizes, compared at the
    smaller of both sizes. The map is the batch's best, by least squares: it needs no training of
    its own, and no place in a checkpoint. Source: Romero et al., FitNets, 2015, equation 3, whose
    regressor is trained.
    """
    found, wanted = (x.float().movedim(1, -1).flatten(0, 2) for x in _alike(found, wanted))
    found, wanted = found - found.mean(0), (wanted - wanted.mean(0)).detach()
    with torch.no_grad():
        gram = found.T @ found
        few = _RIDGE * gram.diagonal().mean() + torch.finfo(torch.float32).tiny
        gram.diagonal().add_(few)
        best = torch.linalg.solve(gram, found.T @ wanted)
    # At the best map the loss does not change with it: the gradient is whole without its own.
    apart: Tensor = (found @ best - wanted).square().sum()
    return apart / wanted.square().sum().clamp(min=torch.finfo(torch.float32).tiny)


def _alike(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return both at the smaller of their sizes."""
    size = min(found.shape[2], wanted.shape[2]), min(found.shape[3], wanted.shape[3])
    return F.adaptive_avg_pool2d(found, size), F.adaptive_avg_pool2d(wanted, size)


class Lessons:
    """A function of a batch's inputs and logits to the term that the teacher adds to its loss.

    A context: with `features` or `mimic` it watches layers of both modules until it is left.
    """

    def __init__(
        self, config: Distill, ask: Ask, student: nn.Module, teacher: nn.Module | None
    ) -> None:
        """teacher: the module that `ask` runs, for `features` and `mimic`.

        Raises MobilesegError for a block that there is not.
        """
        self._config, self._ask = config, ask
        self._mine: dict[str, Tensor] = {}
        self._theirs: dict[str, Tensor] = {}
        self._watches = [
            watch
            for key, pairs in (("features", config.features), ("mimic", config.mimic))
            for watch in (
                *_watch(student, list(pairs), self._mine, key),
                *_watch(teacher, list(pairs.values()), self._theirs, f"{key}: the teacher"),
            )
        ]

    def __enter__(self) -> Lessons:
        return self

    def __exit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.remove()

    def __call__(self, inputs: Tensor, logits: Tensor) -> Tensor:
        """Return the term."""
        config = self._config
        with torch.no_grad():
            said = self._ask(inputs)
            said = F.interpolate(said, size=logits.shape[2:], mode="bilinear")
        total = logits.new_zeros(())
        if config.pixel:
            total = total + config.pixel * divergence(logits, said, config.temperature)
        if config.channel:
            total = total + config.channel * channel_divergence(logits, said, config.temperature)
        for mine, theirs in config.features.items():
            apart = attention_distance(self._mine[mine], self._theirs[theirs])
            total = total + config.features_weight * apart
        for mine, theirs in config.mimic.items():
            apart = mimic_distance(self._mine[mine], self._theirs[theirs])
            total = total + config.mimic_weight * apart
        return total


def _watch(
    module: nn.Module | None, names: Sequence[str], seen: dict[str, Tensor], where: str
) -> list[torch.utils.hooks.RemovableHandle]:
    if module is None:
        return []
    layers: Mapping[str, nn.Module] = dict(module.named_children())
    watches = []
    for name in names:
        if name not in layers:
            raise unknown(where, "block", name, layers)

        def keep(_: nn.Module, __: object, out: Tensor, name: str = name) -> None:
            seen[name] = out

        watches.append(layers[name].register_forward_hook(keep))
    return watches
