"""The learning-rate range test: which rates a network learns with, before hours go into one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mobileseg.train.augment import augment
from mobileseg.train.config import AugmentConfig, DataConfig, TrainConfig
from mobileseg.train.data import Dataset
from mobileseg.train.device import require_device
from mobileseg.train.heads import Heads
from mobileseg.train.losses import class_weights, make_loss
from mobileseg.train.optim import make_optimizer, set_lr
from mobileseg.train.precision import make_scaler, mixed
from mobileseg.train.step import generator

# So many times the first loss, and the training has diverged.
_DIVERGED = 4.0
# Batches differ more than neighbouring rates do: this share of the steps is one point of the curve.
_WINDOW = 0.15


@dataclass(frozen=True)
class Tried:
    """A rate and the loss of its batch."""

    lr: float
    loss: float


def try_rates(  # noqa: PLR0913 - one call site, in the workflow; every argument by name
    module: nn.Module,
    train: Dataset,
    data: DataConfig,
    config: TrainConfig,
    augmentation: AugmentConfig,
    size: tuple[int, int],
    *,
    low: float,
    high: float,
    steps: int,
    seed: int,
    device: torch.device | str = "cpu",
    lr_scale: Callable[[str], float] | None = None,
    heads: Sequence[str] = (),
    progress: Callable[[int, float], None] | None = None,
) -> list[Tried]:
    """Train `module` for `steps` batches at rates that grow from `low` to `high` by one factor.

    Ends early where the loss has left its best by far. progress gets the step and the rate.
    Source: Smith, Cyclical Learning Rates for Training Neural Networks, 2017, section 3.3.
    """
    device = require_device(device)
    module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.train()
    optimizer = make_optimizer(module, config, lr_scale)
    weights = class_weights(train, data, config, device)
    judge = make_loss(config.loss, weights, config.label_smoothing)
    scaler = make_scaler(device.type, config.precision)
    tried: list[Tried] = []
    with Heads(module, heads) as asked:
        for step in range(steps):
            lr = low * (high / low) ** (step / max(1, steps - 1))
            draws = generator(seed, 0, step, 0)
            chosen = torch.randint(len(train), (config.batch_size,), generator=draws).numpy()
            images, masks = (torch.from_numpy(part).to(device) for part in train.batch(chosen))
            inputs, labels = augment(images, masks, size, augmentation, draws)
            set_lr(optimizer, lr)
            optimizer.zero_grad(set_to_none=True)
            with mixed(device.type, config.precision):
                logits = module(inputs)
            loss = judge(logits, labels) + config.auxiliary * asked.loss(judge, labels)
            value = float(loss.detach())
            if not math.isfinite(value) or (tried and value > _DIVERGED * tried[0].loss):
                break
            tried.append(Tried(lr, value))
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            if progress:
                progress(step + 1, lr)
    return tried


def smoothed(tried: Sequence[Tried]) -> npt.NDArray[np.float64]:
    """Return the mean loss around each rate; a running mean would name a rate long past."""
    reach = max(2, round(_WINDOW * len(tried) / 2))
    near = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
    losses = np.array([each.loss for each in tried])
    both = [np.convolve(values, near)[reach:-reach] for values in (losses, np.ones(len(tried)))]
    mean: npt.NDArray[np.float64] = both[0] / both[1]
    return mean


def suggested(tried: Sequence[Tried]) -> float | None:
    """Return the rate at which the loss falls steepest, over the rate's logarithm, before its
    lowest point; None where it falls nowhere.
    """
    if len(tried) < 5:
        return None
    curve = smoothed(tried)
    last = int(curve.argmin()) + 1
    if last < 3:
        return None
    fall = np.gradient(curve[:last])
    return tried[int(fall.argmin())].lr if fall.min() < 0 else None
