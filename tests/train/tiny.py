"""A tiny network with everything a resumed training could get wrong, and a training of it.

Run as a program it trains in a folder, so that a test can kill it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from mobileseg.train.config import AugmentConfig, DataConfig, LossConfig, TrainConfig
from mobileseg.train.data import Dataset, load, pairs
from mobileseg.train.evaluate import load_eval
from mobileseg.train.loop import FitResult, Record, fit
from mobileseg.train.step import Teach

SIZE = (20, 16)
CONFIG = TrainConfig(
    epochs=4,
    batch_size=3,
    lr=3e-3,
    loss=LossConfig(cross_entropy=1.0, lovasz=0.5),
    class_weights="median_frequency",
    checkpoint_seconds=0.0,  # after every step
)


def tiny(seed: int = 0) -> nn.Sequential:
    """Return depthwise and dense convolutions, batch norm and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Dropout(0.2),
            nn.ReLU(),
            nn.Conv2d(8, 2, 1),
        )


def train(  # noqa: PLR0913 - as of `fit`
    module: nn.Module,
    data: DataConfig,
    folder: Path,
    config: TrainConfig = CONFIG,
    resume: bool = False,
    after_step: Callable[[int], None] | None = None,
    dataset: Dataset | None = None,
    *,
    device: str = "cpu",
    teach: Teach | None = None,
    on_epoch: Callable[[Record], None] | None = None,
) -> FitResult:
    """Train in `folder` on a working size above the net's."""
    return fit(
        module,
        dataset or load(data, "train", (24, 18)),
        load_eval(pairs(data, "val"), data, SIZE),
        data,
        config,
        AugmentConfig(),
        SIZE,
        folder,
        seed=11,
        resume=resume,
        device=device,
        progress=False,
        after_step=after_step,
        teach=teach,
        on_epoch=on_epoch,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)  # as the test: the bits depend on it
    train(
        tiny(seed=99),  # other first weights: the checkpoint has the right ones
        DataConfig(root=Path(sys.argv[1])),
        Path(sys.argv[2]),
        resume=True,
        after_step=lambda step: print(step, flush=True),
    )
