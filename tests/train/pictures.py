"""Small real files for the tests: textured JPEGs with a disc, and masks of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mobileseg.train.config import DataConfig
from mobileseg.train.data import Dataset, load


def scene(seed: int, height: int = 46, width: int = 38) -> tuple[npt.NDArray[np.uint8], ...]:
    """Return an RGB picture with a reddish disc on noise, and its mask 0/1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centre = rng.uniform(0.35, 0.65, 2) * (height, width)
    mask = np.hypot(y - centre[0], x - centre[1]) < rng.uniform(0.2, 0.35) * width
    picture = rng.integers(40, 120, (height, width, 3))
    picture[mask] += np.array([110, 10, -20])
    return picture.astype(np.uint8), mask.astype(np.uint8)


def write_list(root: Path, count: int = 10, name: str = "train.txt") -> DataConfig:
    """Write `count` pairs and a list; return the config that reads them."""
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    lines = []
    for i in range(count):
        picture, mask = scene(i)
        Image.fromarray(picture).save(root / f"images/p{i}.jpg", quality=90)
        Image.fromarray(mask).save(root / f"masks/p{i}.png")
        lines.append(f"images/p{i}.jpg masks/p{i}.png\n")
    (root / name).write_text("".join(lines))
    return DataConfig(root=root)


def small_set(root: Path, size: tuple[int, int] = (24, 20)) -> tuple[DataConfig, Dataset]:
    """Return a config and its decoded train split."""
    config = write_list(root)
    return config, load(config, "train", size)
