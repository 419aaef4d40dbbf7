"""What a loss would change by if a weight were gone, to first order, measured on pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mobileseg.train.augment import normalise
from mobileseg.train.data import Dataset
from mobileseg.train.losses import Loss


def taylor(
    module: nn.Module,
    data: Dataset,
    loss: Loss,
    batch_size: int,
    done: Callable[[int, int], None] | None = None,
) -> dict[str, Tensor]:
    """Return per parameter the mean over batches of (weight * gradient) squared, as float64.

    data at the network's size; its pictures are taken as they are, in order. The module's state is
    as before, in eval mode. `done` is called with (pictures done, all).
    Source: Molchanov et al., Importance Estimation for Neural Network Pruning, 2019, equation 8.
    """
    module.eval()
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in module.named_parameters()}
    batches = range(0, len(data), batch_size)
    for start in batches:
        chosen = range(start, min(start + batch_size, len(data)))
        images, masks = (torch.from_numpy(part) for part in data.batch(np.array(chosen)))
        module.zero_grad(set_to_none=True)
        loss(module(normalise(images)), masks.long()).backward()  # type: ignore[no-untyped-call]
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                sums[name] += (parameter.detach() * parameter.grad).double() ** 2
        if done:
            done(chosen.stop, len(data))
    module.zero_grad(set_to_none=True)
    return {name: total / len(batches) for name, total in sums.items()}
