"""Auxiliary heads: what parts of a network say of the classes, asked in training alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mobileseg.train.losses import Loss, edges


class Heads:
    """Watches the named parts of a module until closed; their logits may have any size."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        self._seen: list[Tensor] = []
        self._watches = [
            module.get_submodule(name).register_forward_hook(
                lambda _, __, out: self._seen.append(out) if out.requires_grad else None
            )
            for name in names
        ]

    def loss(self, loss: Loss, labels: Tensor, of_edges: Loss = edges) -> Tensor | float:
        """Return the sum of the losses of what the heads said since they were last asked.

        labels: [N, H, W]. Logits are resized to them, as the network's own output is; those of one
        channel say where classes meet: their loss is `of_edges`.
        """
        seen = list(self._seen)
        self._seen.clear()
        size = labels.shape[1:]
        wide = (F.interpolate(out, size=size, mode="bilinear") for out in seen)
        return sum(
            ((loss if out.shape[1] > 1 else of_edges)(out, labels) for out in wide), start=0.0
        )

    def __enter__(self) -> Heads:
        return self

    def __exit__(self, *_: object) -> None:
        for watch in self._watches:
            watch.remove()
