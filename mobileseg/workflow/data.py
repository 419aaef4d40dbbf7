"""`mobileseg data`: what a data set holds, what is wrong with it, and how training changes it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mobileseg.errors import MobilesegError
from mobileseg.files import write_atomic
from mobileseg.recipe import Recipe, Step
from mobileseg.report.picture import captioned, tinted
from mobileseg.train.augment import augment
from mobileseg.train.config import IGNORE, AugmentConfig, DataConfig
from mobileseg.train.console import Display
from mobileseg.train.data import read_pair
from mobileseg.train.inspect import inspect, shared
from mobileseg.train.pairs import Pair, Split, pairs
from mobileseg.train.pictures import U8, resize_image, resize_mask

_COLUMNS = 6


def splits_of(data: DataConfig) -> dict[Split, tuple[Pair, ...]]:
    """Return the pairs of every split that there is."""
    names: tuple[Split, ...] = ("train", "val", "test")
    return {name: pairs(data, name) for name in names if name != "test" or data.test is not None}


def check_data(recipe: Recipe, progress: bool = True) -> dict[str, Any]:
    """Return counts and findings of the recipe's data; every file is opened."""
    data = recipe.data
    splits = splits_of(data)
    with Display(sum(map(len, splits.values())), 0, progress) as display:
        found = inspect(
            data, splits, lambda done, _: display.step(done, "reading"), _trained_sizes(recipe)
        )
    rows = [asdict(each) | {"serious": each.serious} for each in found.findings]
    return {
        "classes": list(data.classes),
        "splits": {
            split: {
                "pairs": found.pairs[split],
                "pixels": found.pixels[split].tolist(),
                "ignored_pixels": found.ignored[split],
            }
            for split in splits
        },
        "counts": dict(Counter(each.kind for each in found.findings)),
        "findings": rows,
        "serious": sum(each.serious for each in found.findings),
    }


def _trained_sizes(recipe: Recipe) -> list[tuple[int, int]]:
    """Return the sizes, height and width, that the recipe's steps are trained at."""

    def size(step: Step) -> tuple[int, int]:
        parent = recipe.parent(step)
        return step.image_size or (size(parent) if parent else recipe.image_size)

    return sorted({size(step) for step in recipe.step if step.train})


def warn_of_leaks(splits: Mapping[Split, Sequence[Pair]], say: Callable[[str], None]) -> None:
    """Say which pictures are in two splits: a test of what was learnt by heart tells nothing."""
    leaks = shared(splits)
    if leaks:
        more = f" and {len(leaks) - 1} more" if len(leaks) > 1 else ""
        say(f"warning: {leaks[0].words}{more}; mobileseg data check lists all that is wrong")


def preview(
    recipe: Recipe, out: Path, rows: int, each: bool, split: Split, step: str | None = None
) -> dict[str, Any]:
    """Write a contact sheet of pictures as training changes them, masks laid over, as PNG.

    each: a row per augmentation that the recipe switches on, alone; else a row per picture. step:
    as this one is trained. Raises MobilesegError for a step that there is not.
    """
    if step is not None:
        recipe = replace(recipe, augment=recipe.augmentation(recipe[step]))
    size = recipe.image_size
    chosen = pairs(recipe.data, split)
    chosen = tuple(chosen[i] for i in np.linspace(0, len(chosen) - 1, rows).astype(int))
    opened = [read_pair(pair, recipe.data) for pair in chosen]
    images = np.stack([resize_image(image, size) for image, _ in opened])
    masks = np.stack([resize_mask(mask, size) for _, mask in opened])
    if each:
        names, lines = _each(recipe, images, masks)
    else:
        names, lines = [pair.image.name for pair in chosen], _all(recipe, images, masks)
    sheet = np.concatenate(
        [captioned(np.concatenate(line, 1), name) for name, line in zip(names, lines, strict=True)]
    )
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "png")
    write_atomic(out, buffer.getvalue())
    return {"sheet": str(out), "rows": names, "columns": len(lines[0]), "image_size": list(size)}


def _all(recipe: Recipe, images: U8, masks: U8) -> list[list[U8]]:
    """Return per picture itself and what training makes of it."""
    plain = [_shown(image, mask) for image, mask in zip(images, masks, strict=True)]
    drawn = [_drawn(images, masks, recipe.augment, recipe, i) for i in range(_COLUMNS - 1)]
    return [[first, *rest] for first, *rest in zip(plain, *drawn, strict=True)]


def _each(recipe: Recipe, images: U8, masks: U8) -> tuple[list[str], list[list[U8]]]:
    """Return per augmentation that is on its name, and what it does alone."""
    off = _off()
    on = [
        f.name
        for f in fields(AugmentConfig)
        if getattr(recipe.augment, f.name) != getattr(off, f.name)
    ]
    if not on:
        raise MobilesegError(
            "augment: no change is on; switch one on (augment.flip = 0.5), or leave out --each"
        )
    captions, lines = [], []
    for name in on:
        value = getattr(recipe.augment, name)
        alone = replace(off, **{name: value})
        count = -(-_COLUMNS // len(images))
        drawn = [one for i in range(count) for one in _drawn(images, masks, alone, recipe, i)]
        captions.append(f"{name} = {list(value) if isinstance(value, tuple) else value}")
        lines.append(drawn[:_COLUMNS])
    return captions, lines


def _off() -> AugmentConfig:
    """Return what changes nothing: 0, or the range 1 to 1."""
    nothing: dict[str, Any] = {f.name: 0.0 for f in fields(AugmentConfig)}
    return AugmentConfig(**nothing | {"scale": (1.0, 1.0), "crop": 1.0})


def _drawn(images: U8, masks: U8, config: AugmentConfig, recipe: Recipe, number: int) -> list[U8]:
    draws = torch.Generator().manual_seed(recipe.seed + number)
    x, labels = augment(
        torch.from_numpy(images), torch.from_numpy(masks), recipe.image_size, config, draws
    )
    pixels = (x * 128 + 128).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return [_shown(image, mask) for image, mask in zip(pixels, labels.byte().numpy(), strict=True)]


def _shown(image: U8, mask: U8) -> U8:
    """Return a picture with its classes tinted; what is ignored is as it was."""
    return np.where((mask == IGNORE)[..., None], image, tinted(image, mask * (mask != IGNORE)))
