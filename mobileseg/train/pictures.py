"""Image and mask files to uint8 arrays; each mistake is an error with the file's name."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from mobileseg.errors import MobilesegError
from mobileseg.train.config import IGNORE, DataConfig

U8: TypeAlias = npt.NDArray[np.uint8]

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
"""Endings, in lower case, by which a folder's pictures are found."""

MAX_PIXELS = 80_000_000
"""Larger pictures are refused: no phone camera's plain photo has more, and 240 MB is decoded."""

_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"}
_SHOWN = 5  # wrong values or colours named in one error
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def picture_paths(given: Path) -> list[Path]:
    """Return a picture, or a folder's pictures by name. Raises MobilesegError where none is."""
    if given.is_file():
        return [given]
    if not given.is_dir():
        raise MobilesegError(f"{given}: there is no such picture or folder")
    found = sorted(path for path in given.iterdir() if path.suffix.lower() in IMAGES)
    if not found:
        raise MobilesegError(f"{given}: holds no picture ({', '.join(sorted(IMAGES))})")
    return found


def read_image(path: Path) -> U8:
    """Return the picture as RGB [H, W, 3], turned upright as its EXIF orientation says.

    Transparency is dropped, not blended. Damaged, truncated, giant or 16-bit files are errors.
    """
    with _opened(path) as image:
        if image.mode not in _EIGHT_BIT:
            raise MobilesegError(
                f"{path}: pixels are {image.mode}; convert it to 8 bits per channel"
            )
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def read_mask(path: Path, config: DataConfig) -> U8:
    """Return class numbers [H, W]; ignored pixels are `IGNORE` whatever the file's number is."""
    with _opened(path) as image:
        if config.masks == "binary":
            return _binary(path, image, config.threshold)
        if config.masks == "colour":
            return _from_colours(path, image, config)
        return _checked(path, _index(path, image), config)


def resize_image(array: U8, size: tuple[int, int]) -> U8:
    """Return [H, W, 3] at `size` (height, width): bilinear, averaging when it shrinks."""
    return _resized(array, size, Image.Resampling.BILINEAR)


def resize_mask(array: U8, size: tuple[int, int]) -> U8:
    """Return [H, W] at `size` (height, width): nearest, for class numbers have no mean."""
    return _resized(array, size, Image.Resampling.NEAREST)


def _resized(array: U8, size: tuple[int, int], how: Image.Resampling) -> U8:
    if array.shape[:2] == size:
        return array
    return np.asarray(Image.fromarray(array).resize((size[1], size[0]), how))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Give the decoded image; whatever Pillow finds wrong becomes our error."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of decompression bombs from 89 million pixels on; its other warnings
            # are about harmless metadata
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise _giant(path)
                image.load()
                yield image
    except _BOMBS as error:
        raise _giant(path) from error
    except FileNotFoundError as error:
        raise MobilesegError(f"{path}: no such file") from error
    except _DAMAGED as error:
        reason = str(error).replace(f" '{path}'", "")
        raise MobilesegError(f"{path}: damaged or not a picture ({reason}); replace it") from error


def _giant(path: Path) -> MobilesegError:
    return MobilesegError(f"{path}: more than {MAX_PIXELS // 10**6} million pixels; shrink it")


def _index(path: Path, image: Image.Image) -> U8:
    array = np.asarray(image)
    if image.mode in {"RGB", "RGBA"}:
        if (array[..., :1] != array[..., :3]).any():
            raise MobilesegError(
                f"{path}: a mask in colours; set data.masks = 'colour' and data.colours, "
                "or save it as grey or palette"
            )
        array = array[..., 0]
    elif image.mode in {"LA", "PA"}:
        array = array[..., 0]
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise MobilesegError(f"{path}: a {image.mode} mask; save it as grey or palette")
    if array.dtype != np.uint8 and int(array.max()) > 255:
        raise MobilesegError(f"{path}: mask value {int(array.max())}; class numbers go to 255")
    return np.asarray(array, np.uint8)


def _binary(path: Path, image: Image.Image, threshold: int) -> U8:
    if image.mode not in _EIGHT_BIT:
        raise MobilesegError(f"{path}: a {image.mode} mask; a binary mask has 8 bits")
    return np.asarray(np.asarray(image.convert("L")) >= threshold, np.uint8)


def _checked(path: Path, array: U8, config: DataConfig) -> U8:
    table = np.full(256, -1, np.int16)
    table[: len(config.classes)] = np.arange(len(config.classes))
    table[config.ignore] = IGNORE
    wrong = np.flatnonzero((table < 0) & (np.bincount(array.ravel(), minlength=256) > 0))
    if wrong.size:
        shown = ", ".join(map(str, wrong[:_SHOWN])) + (", ..." if wrong.size > _SHOWN else "")
        raise MobilesegError(
            f"{path}: mask values {shown}; classes are 0 to {len(config.classes) - 1}, "
            f"ignored is {config.ignore} (grey pictures of 0 and 255: data.masks = 'binary')"
        )
    return table.astype(np.uint8)[array]


def _from_colours(path: Path, image: Image.Image, config: DataConfig) -> U8:
    rgb = np.asarray(image.convert("RGB"), np.int32)
    packed = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
    seen, inverse = np.unique(packed, return_inverse=True)
    table = {
        (red << 16) | (green << 8) | blue: IGNORE
        if name == "ignore"
        else config.classes.index(name)
        for name, group in config.colours.items()
        for red, green, blue in group
    }
    wrong = [int(value) for value in seen if int(value) not in table]
    if wrong:
        shown = ", ".join(str([v >> 16, v >> 8 & 255, v & 255]) for v in wrong[:_SHOWN])
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise MobilesegError(f"{path}: colours {shown}{more} are not in data.colours")
    numbers = np.array([table[int(value)] for value in seen], np.uint8)
    mask: U8 = numbers[inverse.reshape(packed.shape)]
    return mask
