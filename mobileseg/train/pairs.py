"""Which image belongs to which mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.train.config import DataConfig, Source
from mobileseg.train.pictures import IMAGES, picture_paths

Split: TypeAlias = Literal["train", "val", "test"]

_MASK_ENDINGS = ("", "_L", "_mask")  # `_L`: CamVid's original labels
_SHOWN = 5  # enough to see the pattern, few enough to read


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file."""

    image: Path
    mask: Path


def pairs(config: DataConfig, split: Split) -> tuple[Pair, ...]:
    """Return the pairs of a split, in the list's order or sorted by name.

    Without `val` in the config, `val` is a seeded share of train and `train` is the rest.
    """
    path = {"train": config.train, "val": config.val, "test": config.test}[split]
    if split == "test" and path is None:
        raise MobilesegError("data.test: not set; name a list file or a folder")
    if config.val is not None or split == "test":
        assert path is not None
        return _read(config.root, path, split)
    every = _read(config.root, config.train, "train")
    if len(every) < 2:
        raise MobilesegError(
            f"{config.root / listed(config.train)}: one pair cannot be split; set data.val"
        )
    count = min(len(every) - 1, max(1, round(len(every) * config.val_share)))
    order = np.random.default_rng(config.split_seed).permutation(len(every))
    held_out = set(order[:count].tolist())
    return tuple(pair for i, pair in enumerate(every) if (i in held_out) == (split == "val"))


def pictures_of(root: Path, sources: Source) -> list[Path]:
    """Return the pictures of folders, or of lists with a path per line, below `root`."""
    paths = (sources,) if isinstance(sources, Path) else sources
    return [picture for path in paths for picture in _pictures_of_one(root, root / path)]


def _pictures_of_one(root: Path, source: Path) -> list[Path]:
    if not source.is_file() or source.suffix.lower() in IMAGES:
        return picture_paths(source)
    lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines()]
    found = [_resolve(line, source.parent, root) for line in lines if line]
    absent = [f"{source}: no such file: {path}" for path in found if not path.is_file()]
    if absent or not found:
        raise several(str(source), absent or [f"{source}: no pictures in it"], max(1, len(found)))
    return found


def split_note(config: DataConfig) -> str:
    """Return one line that says what `val` is, for logs and reports."""
    if config.val is not None:
        return f"val is {listed(config.val)}"
    share, seed = f"{100 * config.val_share:g} %", config.split_seed
    return f"data.val is not set: val is {share} of {listed(config.train)}, drawn with seed {seed}"


def listed(source: Source) -> str:
    """Return the paths of a split as people read them."""
    return str(source) if isinstance(source, Path) else ", ".join(map(str, source))


def several(where: str, problems: Sequence[str], total: int) -> MobilesegError:
    """Return one error that lists the first few of many problems."""
    if len(problems) == 1:
        return MobilesegError(problems[0])
    lines = "".join(f"\n  {problem}" for problem in problems[:_SHOWN])
    more = len(problems) - _SHOWN
    rest = f"\n  and {more} more" if more > 0 else ""
    return MobilesegError(f"{where}: {len(problems)} of {total} are wrong:{lines}{rest}")


def _read(root: Path, sources: Source, split: str) -> tuple[Pair, ...]:
    paths = (sources,) if isinstance(sources, Path) else sources
    return tuple(pair for path in paths for pair in _read_one(root, path, split))


def _read_one(root: Path, path: Path, split: str) -> tuple[Pair, ...]:
    source = root / path
    if source.is_file():
        found = _from_list(source, root)
    elif source.is_dir():
        found = _from_folder(source)
    else:
        raise MobilesegError(
            f"{source}: data.{split} is neither a list file nor a folder; "
            "check data.root (--data DIR) and the split's name"
        )
    if not found:
        raise MobilesegError(f"{source}: no pairs in it")
    return found


def _from_list(source: Path, root: Path) -> tuple[Pair, ...]:
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MobilesegError(f"{source}: not a text file in UTF-8 ({error})") from error
    lines = [(i, line.strip()) for i, line in enumerate(text.splitlines(), 1)]
    lines = [(i, line) for i, line in lines if line and not line.startswith("#")]
    found: list[Pair] = []
    problems: list[str] = []
    for number, line in lines:
        names = line.split("\t") if "\t" in line else line.split()
        if len(names) != 2:
            problems.append(
                f"{source}:{number}: {line!r}: want `image mask` (tab if names hold spaces)"
            )
            continue
        image, mask = (_resolve(name.strip(), source.parent, root) for name in names)
        if absent := [str(p) for p in (image, mask) if not p.is_file()]:
            problems.append(f"{source}:{number}: no such file: {', '.join(absent)}")
            continue
        found.append(Pair(image, mask))
    if problems:
        raise several(str(source), problems, len(lines))
    return tuple(found)


def _resolve(name: str, folder: Path, root: Path) -> Path:
    beside = folder / name
    return beside if beside.is_file() or not (root / name).is_file() else root / name


def _from_folder(source: Path) -> tuple[Pair, ...]:
    images, masks = source / "images", source / "masks"
    if not images.is_dir() or not masks.is_dir():
        images, masks = source, source.parent / f"{source.resolve().name}annot"
    if not masks.is_dir():
        raise MobilesegError(
            f"{source}: has no images/ and masks/, and there is no folder {masks.name}/ beside it"
        )
    by_stem, masks_by_stem = _by_stem(images), _by_stem(masks)
    found: list[Pair] = []
    problems: list[str] = []
    for stem, image in by_stem.items():
        names = [stem + ending for ending in _MASK_ENDINGS if stem + ending in masks_by_stem]
        if names:
            found.append(Pair(image, masks_by_stem.pop(names[0])))
        else:
            problems.append(f"{image}: has no mask in {masks}")
    problems += [f"{mask}: has no image in {images}" for mask in masks_by_stem.values()]
    if problems:
        raise several(str(source), problems, len(by_stem) + len(masks_by_stem))
    return tuple(found)


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise MobilesegError(f"{path}: {found[path.stem].name} has the same name; remove one")
        found[path.stem] = path
    return found
