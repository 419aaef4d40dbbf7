"""A training loop as people write it: a picture at a time through PIL, a DataLoader, NCHW."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from mobileseg.train.config import IGNORE, AugmentConfig, TrainConfig
from mobileseg.train.pairs import Pair


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Files, read and changed anew each time they are asked for. Masks hold class numbers."""

    def __init__(
        self, pairs: tuple[Pair, ...], size: tuple[int, int], augment: AugmentConfig
    ) -> None:
        self.pairs = pairs
        self.width_height = (size[1], size[0])
        self.augment = augment

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pair = self.pairs[index]
        image = Image.open(pair.image).convert("RGB")
        mask = Image.open(pair.mask)
        image = image.resize(self.width_height, Image.Resampling.BILINEAR)
        mask = mask.resize(self.width_height, Image.Resampling.NEAREST)
        image, mask = moved(image, mask, self.augment)
        pixels = torch.from_numpy(np.array(recoloured(image, self.augment))).permute(2, 0, 1)
        values = (pixels.float() - 128) / 128
        if random.random() < 0.25:
            deviation = 2 * self.augment.noise * random.random()
            values = (values + deviation * torch.randn_like(values)).clamp(-1, 127 / 128)
        return values, torch.from_numpy(np.array(mask)).long()


def moved(
    image: Image.Image, mask: Image.Image, config: AugmentConfig
) -> tuple[Image.Image, Image.Image]:
    """Return both mirrored, turned, zoomed and shifted alike."""
    if random.random() < config.flip:
        image, mask = ImageOps.mirror(image), ImageOps.mirror(mask)
    angle = np.radians(random.uniform(-config.rotate_degrees, config.rotate_degrees))
    zoom = 1 / random.uniform(*config.scale)
    width, height = image.size
    shift = [side * random.uniform(-config.translate, config.translate) for side in image.size]
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    x, y = width / 2, height / 2
    to_source = (cos, -sin, x - cos * x + sin * y + shift[0])
    to_source += (sin, cos, y - sin * x - cos * y + shift[1])
    affine = Image.Transform.AFFINE
    grey = (128, 128, 128)
    image = image.transform(
        image.size, affine, to_source, Image.Resampling.BILINEAR, fillcolor=grey
    )
    mask = mask.transform(mask.size, affine, to_source, Image.Resampling.NEAREST, fillcolor=IGNORE)
    return image, mask


def recoloured(image: Image.Image, config: AugmentConfig) -> Image.Image:
    """Return the picture in other light and colour."""
    ways = (
        (ImageEnhance.Brightness, config.brightness),
        (ImageEnhance.Contrast, config.contrast),
        (ImageEnhance.Color, config.saturation),
    )
    for way, most in ways:
        image = way(image).enhance(random.uniform(1 - most, 1 + most))
    gamma = (1 + config.gamma) ** random.uniform(-1, 1)
    image = image.point([round(255 * (value / 255) ** gamma) for value in range(256)] * 3)
    if random.random() < config.blur:
        image = image.filter(ImageFilter.GaussianBlur(random.random()))
    return image


def loader(pictures: Pictures, batch: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return batches in random order."""
    # The bench's own processes are spawned, and so would be those of the loader: on Linux a loader
    # forks.
    context = "fork" if workers else None
    return DataLoader(
        pictures,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        multiprocessing_context=context,
    )


def train(
    net: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    config: TrainConfig,
    path: Path,
    after_epoch: Callable[[], None],
) -> None:
    """Train for `config.epochs` of so many steps each; the state is saved after each."""
    optimizer = torch.optim.AdamW(net.parameters(), config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * steps)
    for _ in range(config.epochs):
        net.train()
        total = 0.0
        for images, masks in batches:
            loss = F.cross_entropy(net(images), masks, ignore_index=IGNORE)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm)
            optimizer.step()
            schedule.step()
            total += loss.item()
        after_epoch()
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, path)
