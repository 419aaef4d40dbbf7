"""Lessons: what a teacher adds to the loss of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobileseg.errors import unknown
from mobileseg.train.config import Distill
from mobileseg.train.losses import attention_distance, channel_divergence, divergence

Ask: TypeAlias = Callable[[Tensor], Tensor]
"""A batch's inputs [N, 3, H, W] to the teacher's logits, of any height and width."""


class Lessons:
    """A function of a batch's inputs and logits to the term that the teacher adds to its loss.

    A context: with `features` it watches layers of both modules until it is left.
    """

    def __init__(
        self, config: Distill, ask: Ask, student: nn.Module, teacher: nn.Module | None
    ) -> None:
        """teacher: the module that `ask` runs, for `features`.

        Raises MobilesegError for a block that there is not.
        """
        self._config, self._ask = config, ask
        self._mine: dict[str, Tensor] = {}
        self._theirs: dict[str, Tensor] = {}
        self._watches = [
            *_watch(student, list(config.features), self._mine, "features"),
            *_watch(teacher, list(config.features.values()), self._theirs, "features: the teacher"),
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
