"""What is wrong with a data set: bad pairs, pictures twice or in two splits, classes in none."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mobileseg.errors import MobilesegError
from mobileseg.train.config import IGNORE, DataConfig
from mobileseg.train.data import Progress
from mobileseg.train.pairs import Pair, Split
from mobileseg.train.pictures import U8, read_image, read_mask, resize_image, resize_mask

Kind: TypeAlias = Literal[
    "unreadable", "mismatched", "out of range", "absent", "constant", "twice", "leak"
]
SERIOUS: frozenset[Kind] = frozenset({"unreadable", "mismatched", "out of range", "absent", "leak"})
"""What no training should begin with; the rest is worth a look."""

# Pictures are compared as thumbnails of so many pixels a side; so far apart, as the root of the
# mean square in grey levels, two are the same picture saved twice.
_SIDE, _SAME = 16, 3.0
_BLOCK = 1024  # pictures compared with all others at once


@dataclass(frozen=True)
class Finding:
    """One thing wrong. `words` names the file (of a class: the key), what is wrong, what to do."""

    kind: Kind
    split: Split
    file: str
    words: str

    @property
    def serious(self) -> bool:
        """Whether no training should begin with it."""
        return self.kind in SERIOUS


@dataclass(frozen=True)
class Inspection:
    """What all the splits hold. pixels: per split [classes] counted, and the number of pairs."""

    findings: tuple[Finding, ...]
    pairs: Mapping[Split, int]
    pixels: Mapping[Split, npt.NDArray[np.int64]]
    ignored: Mapping[Split, int]


@dataclass(frozen=True)
class _Seen:
    split: Split
    pair: Pair
    digest: str
    thumbnail: U8
    constant: bool


def inspect(
    config: DataConfig,
    splits: Mapping[Split, Sequence[Pair]],
    progress: Progress | None = None,
    sizes: Sequence[tuple[int, int]] = (),
) -> Inspection:
    """Return what is wrong with the pairs of the splits, every file opened once.

    sizes: heights and widths to train at; a class of few pixels may be lost at the small ones.
    """
    findings: list[Finding] = []
    seen: list[_Seen] = []
    pixels = {split: np.zeros(256, np.int64) for split in splits}
    resized = {size: np.zeros(256, np.int64) for size in sizes}
    every = [(split, pair) for split, chosen in splits.items() for pair in chosen]
    for number, (split, pair) in enumerate(every, 1):
        image, mask = _opened(pair, config, split, findings)
        if image is not None:
            seen.append(_look(split, pair, image))
            if seen[-1].constant:
                words = f"{pair.image}: has one colour everywhere; take the pair out"
                findings.append(Finding("constant", split, str(pair.image), words))
        if mask is not None:
            counts = np.bincount(mask.ravel(), minlength=256)
            pixels[split] += counts
            findings += _one_class(split, pair, counts, config)
            if split == "train":
                for size in sizes:
                    resized[size] += np.bincount(resize_mask(mask, size).ravel(), minlength=256)
        if progress:
            progress(number, len(every))
    findings += _twice([each for each in seen if not each.constant])
    findings += _absent(config, len(splits["train"]), pixels["train"], resized)
    return Inspection(
        tuple(findings),
        {split: len(chosen) for split, chosen in splits.items()},
        {split: counts[: len(config.classes)] for split, counts in pixels.items()},
        {split: int(counts[IGNORE]) for split, counts in pixels.items()},
    )


def shared(splits: Mapping[Split, Sequence[Pair]]) -> list[Finding]:
    """Return the pictures that are in two splits, file for file: quick, no picture is decoded."""
    every = [(split, pair) for split, chosen in splits.items() for pair in chosen]
    lengths = [pair.image.stat().st_size for _, pair in every]
    counts = Counter(lengths)
    where: dict[str, tuple[Split, Pair]] = {}
    findings = []
    for (split, pair), length in zip(every, lengths, strict=True):
        # A training begins with this: only what has another's length is read.
        if counts[length] > 1:
            digest = hashlib.sha256(pair.image.read_bytes()).hexdigest()
            first = where.setdefault(digest, (split, pair))
            if first[0] != split:
                findings.append(_same(first, (split, pair), "is"))
    return findings


def _opened(
    pair: Pair, config: DataConfig, split: Split, findings: list[Finding]
) -> tuple[U8 | None, U8 | None]:
    """Return image and mask as far as they can be read; what cannot is noted."""
    image = mask = None
    try:
        image = read_image(pair.image)
    except MobilesegError as error:
        findings.append(Finding("unreadable", split, str(pair.image), str(error)))
    try:
        mask = read_mask(pair.mask, config)
    except MobilesegError as error:
        # Decoded well: then it is its numbers or colours that are wrong.
        kind: Kind = "out of range" if _decodes(pair) else "unreadable"
        findings.append(Finding(kind, split, str(pair.mask), str(error)))
    if image is not None and mask is not None and image.shape[:2] != mask.shape:
        sizes = "x".join(map(str, mask.shape[::-1])), "x".join(map(str, image.shape[1::-1]))
        words = f"{pair.mask}: is {sizes[0]}, its image {pair.image.name} {sizes[1]}; save it anew"
        findings.append(Finding("mismatched", split, str(pair.mask), words))
    return image, mask


def _decodes(pair: Pair) -> bool:
    try:
        read_image(pair.mask)
    except MobilesegError:
        return False
    return True


def _look(split: Split, pair: Pair, image: U8) -> _Seen:
    digest = hashlib.sha256(image.tobytes() + str(image.shape).encode()).hexdigest()
    thumbnail = resize_image(image, (_SIDE, _SIDE))
    constant = bool((image == image[0, 0]).all())
    return _Seen(split, pair, digest, thumbnail, constant)


def _one_class(
    split: Split, pair: Pair, counts: npt.NDArray[np.int64], config: DataConfig
) -> list[Finding]:
    present = np.flatnonzero(counts)
    if len(present) > 1:
        return []
    only = int(present[0])
    said = "is ignored" if only == IGNORE else f"is {config.classes[only]!r}"
    words = f"{pair.mask}: all of it {said}; right if the picture shows nothing else"
    return [Finding("constant", split, str(pair.mask), words)]


def _absent(
    config: DataConfig,
    masks: int,
    pixels: npt.NDArray[np.int64],
    resized: Mapping[tuple[int, int], npt.NDArray[np.int64]],
) -> list[Finding]:
    """Return the classes that no train mask shows: a training would refuse them."""
    if not pixels.any():
        return []  # no mask could be read: of that there are findings
    findings = []
    for number, name in enumerate(config.classes):
        lost = [f"{size[0]}x{size[1]}" for size, sums in resized.items() if not sums[number]]
        if not pixels[number]:
            words = (
                f"data.classes: {name!r} is in none of the {masks} train masks; take the class "
                "out, or add pictures that show it"
            )
        elif lost:
            words = (
                f"data.classes: {name!r} is in the train masks, but none of its pixels is left at "
                f"{', '.join(lost)}; raise image_size, take the class out, or add pictures"
            )
        else:
            continue
        findings.append(Finding("absent", "train", "data.classes", words))
    return findings


def _twice(seen: Sequence[_Seen]) -> list[Finding]:
    if not seen:
        return []
    findings = []
    for a, b in _alike(seen):
        word = "is" if seen[a].digest == seen[b].digest else "looks like"
        findings.append(_same((seen[a].split, seen[a].pair), (seen[b].split, seen[b].pair), word))
    return findings


def _alike(seen: Sequence[_Seen]) -> Iterator[tuple[int, int]]:
    """Yield the first picture that each one repeats, and that one."""
    small = np.stack([each.thumbnail.ravel() for each in seen]).astype(np.float32)
    squares = (small**2).sum(1)
    limit = _SAME**2 * small.shape[1]
    for start in range(0, len(seen), _BLOCK):
        block = small[start : start + _BLOCK]
        apart = squares[start : start + _BLOCK, None] + squares - 2 * block @ small.T
        # Each is like itself, at the latest.
        for later, first in enumerate((apart < limit).argmax(1).tolist(), start):
            if first < later:
                yield first, later


def _same(first: tuple[Split, Pair], second: tuple[Split, Pair], word: str) -> Finding:
    (split, pair), (other, again) = first, second
    if split == other:
        words = f"{again.image}: {word} {pair.image.name}, in {split} too; keep one"
        return Finding("twice", other, str(again.image), words)
    words = f"{again.image}: {word} {pair.image.name} of {split}; keep it in one of the splits"
    return Finding("leak", other, str(again.image), words)
