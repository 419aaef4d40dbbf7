"""A split of the data, decoded once and kept as uint8."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mobileseg.errors import MobilesegError
from mobileseg.train.config import DataConfig
from mobileseg.train.pairs import Pair, Split, pairs, several, split_note
from mobileseg.train.pictures import U8, read_image, read_mask, resize_image, resize_mask

__all__ = [
    "Dataset",
    "Pair",
    "Progress",
    "Split",
    "load",
    "pairs",
    "read_image",
    "read_mask",
    "read_pair",
    "read_pairs",
    "resize_image",
    "resize_mask",
    "split_note",
]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total)."""

_MOST_BAD = 50  # a split with more bad files is wrong as a whole: stop decoding


@dataclass(frozen=True)
class Dataset:
    """Decoded pictures at one working size, in RAM or mapped from a file.

    images uint8 [N, H, W, 3], masks uint8 [N, H, W] with `IGNORE` for ignored pixels.
    """

    pairs: tuple[Pair, ...]
    images: U8
    masks: U8

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, indices: npt.NDArray[np.int64]) -> tuple[U8, U8]:
        """Return copies of some pictures and masks."""
        return np.array(self.images[indices]), np.array(self.masks[indices])

    def __add__(self, other: Dataset) -> Dataset:
        """Return the pictures of both, of one size."""
        return Dataset(
            self.pairs + other.pairs,
            np.concatenate([self.images, other.images]),
            np.concatenate([self.masks, other.masks]),
        )

    def first(self, count: int) -> Dataset:
        """Return the first pictures only."""
        return Dataset(self.pairs[:count], self.images[:count], self.masks[:count])

    def class_pixels(self, classes: int) -> npt.NDArray[np.int64]:
        """Return [N, classes]: pixels of each class in each mask."""
        counts = [np.bincount(mask.ravel(), minlength=classes)[:classes] for mask in self.masks]
        return np.stack(counts).astype(np.int64)


def load(
    config: DataConfig,
    split: Split,
    size: tuple[int, int],
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Return a split decoded and resized to `size` (height, width).

    Over `cache_mb` it is kept in two files in `cache_dir` and mapped; a second call with the
    same files and settings finds them there. All bad files are named in one error, and so is
    a class that no train mask holds.
    """
    chosen = pairs(config, split)
    if len(chosen) * size[0] * size[1] * 4 <= config.cache_mb * 2**20:
        images, masks = _empty(chosen, size)
        _decode(chosen, config, images, masks, progress)
        dataset = Dataset(chosen, images, masks)
    else:
        dataset = _mapped(chosen, config, split, size, cache_dir, progress)
    if split == "train":
        _check_classes(dataset, config, size)
    return dataset


def read_pair(pair: Pair, config: DataConfig) -> tuple[U8, U8]:
    """Return image and mask at their own size, which must be the same."""
    image, mask = read_image(pair.image), read_mask(pair.mask, config)
    if image.shape[:2] != mask.shape:
        raise MobilesegError(
            f"{pair.mask}: mask is {mask.shape[1]}x{mask.shape[0]}, its image {pair.image} is "
            f"{image.shape[1]}x{image.shape[0]} (upright by EXIF); sizes must match"
        )
    return image, mask


def read_pairs(
    chosen: Sequence[Pair],
    config: DataConfig,
    put: Callable[[int, U8, U8], None],
    progress: Progress | None = None,
) -> None:
    """Read all pairs, several at a time, and `put` the number, image and mask of each.

    Raises MobilesegError that names all bad files.
    """
    problems: list[str] = []

    def read(number: int) -> str:
        try:
            put(number, *read_pair(chosen[number], config))
        except MobilesegError as error:
            return str(error)
        return ""

    # Decoders let go of Python's lock. Filters of warnings are the process's, and threads put them
    # back across each other: at the end they are what they were.
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, problem in enumerate(pool.map(read, range(len(chosen))), 1):
            problems += [problem] if problem else []
            if len(problems) == _MOST_BAD:
                pool.shutdown(cancel_futures=True)
                break
            if progress:
                progress(done, len(chosen))
    if problems:
        raise several("data", problems, len(chosen))


def _empty(chosen: tuple[Pair, ...], size: tuple[int, int]) -> tuple[U8, U8]:
    return np.empty((len(chosen), *size, 3), np.uint8), np.empty((len(chosen), *size), np.uint8)


def _decode(
    chosen: tuple[Pair, ...],
    config: DataConfig,
    images: U8,
    masks: U8,
    progress: Progress | None,
) -> None:
    size = (masks.shape[1], masks.shape[2])

    def put(number: int, image: U8, mask: U8) -> None:
        images[number], masks[number] = resize_image(image, size), resize_mask(mask, size)

    read_pairs(chosen, config, put, progress)


def _mapped(
    chosen: tuple[Pair, ...],
    config: DataConfig,
    split: Split,
    size: tuple[int, int],
    cache_dir: Path | None,
    progress: Progress | None,
) -> Dataset:
    if cache_dir is None:
        need = len(chosen) * size[0] * size[1] * 4 / 2**20
        raise MobilesegError(
            f"data.cache_mb: {len(chosen)} pictures of {size[0]}x{size[1]} need {need:.1f} MB, "
            f"allowed are {config.cache_mb}; raise it or give a cache folder"
        )
    cache_dir.mkdir(parents=True, exist_ok=True)
    name = f"{split}-{_fingerprint(chosen, config, size)}"
    files = [cache_dir / f"{name}.images.npy", cache_dir / f"{name}.masks.npy"]
    if not all(file.exists() for file in files):
        shapes = [(len(chosen), *size, 3), (len(chosen), *size)]
        # Several processes may be at it: each has parts of its own.
        parts = [file.with_suffix(f".{os.getpid()}.part") for file in files]
        arrays = [
            np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        _decode(chosen, config, arrays[0], arrays[1], progress)
        for array, part, file in zip(arrays, parts, files, strict=True):
            array.flush()
            part.replace(file)
    images, masks = (np.load(file, mmap_mode="r", allow_pickle=False) for file in files)
    return Dataset(chosen, images, masks)


def _fingerprint(chosen: tuple[Pair, ...], config: DataConfig, size: tuple[int, int]) -> str:
    files = [path for pair in chosen for path in (pair.image, pair.mask)]
    stats = [path.stat() for path in files]
    decoding = [config.masks, config.threshold, config.ignore, config.classes, config.colours]
    facts = [
        [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
        for path, stat in zip(files, stats, strict=True)
    ]
    return hashlib.sha256(json.dumps([facts, decoding, size]).encode()).hexdigest()[:16]


def _check_classes(dataset: Dataset, config: DataConfig, size: tuple[int, int]) -> None:
    counts = dataset.class_pixels(len(config.classes)).sum(axis=0)
    empty = [name for name, count in zip(config.classes, counts, strict=True) if count == 0]
    if empty:
        raise MobilesegError(
            f"data.classes: {', '.join(map(repr, empty))} occurs in none of the {len(dataset)} "
            f"train masks at {size[0]}x{size[1]}; remove the class, add pictures or raise the "
            "image size"
        )
