"""Masks and heat as small pictures, and pictures as part of a page."""

from __future__ import annotations

import base64
import colorsys
import io
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

U8: TypeAlias = NDArray[np.uint8]

# The picture shows through the class's colour.
_TINT = 0.5
# What `heated` paints as hottest: int8 rarely moves more, and less would not be seen.
HOTTEST = 0.2
# From nothing to all of it; lightness grows throughout, so that grey prints read the same.
_HEAT = np.array([(13, 8, 40), (90, 20, 110), (190, 55, 85), (245, 130, 30), (252, 245, 160)])
_QUALITY = 72
# Pixels of a line of text.
_LINE = 20


def palette(classes: int) -> U8:
    """Return a colour per class `(classes, 3)`: black, then hues a golden ratio apart."""
    hues = [(0.33 + 0.618034 * i) % 1 for i in range(classes - 1)]
    colours = [(0.0, 0.0, 0.0), *(colorsys.hsv_to_rgb(hue, 0.8, 1.0) for hue in hues)]
    return (np.array(colours) * 255).round().astype(np.uint8)


def tinted(image: U8, labels: U8) -> U8:
    """Return the picture [H, W, 3] with the colour of each pixel's class over it; class 0 bare."""
    colours = palette(int(labels.max()) + 1)
    mixed = image * (1 - _TINT) + colours[labels] * _TINT
    shown: U8 = np.where((labels > 0)[..., None], mixed, image).astype(np.uint8)
    return shown


def heated(heat: NDArray[np.float32], over: U8 | None = None, hottest: float = HOTTEST) -> U8:
    """Return heat [h, w] in [0, 1] as colours, `hottest` and more the brightest.

    over: a picture [H, W, 3] of another size that shows through, in grey.
    """
    share = np.clip(heat / max(hottest, 1e-9), 0, 1)
    if over is not None:
        plane = Image.fromarray(share.astype(np.float32))
        size = (over.shape[1], over.shape[0])
        share = np.clip(np.asarray(plane.resize(size, Image.Resampling.BILINEAR)), 0, 1)
    at = share * (len(_HEAT) - 1)
    low = np.minimum(at.astype(int), len(_HEAT) - 2)
    part = (at - low)[..., None]
    colours = _HEAT[low] * (1 - part) + _HEAT[low + 1] * part
    if over is not None:
        grey = over.mean(axis=2, keepdims=True) * 0.45
        colours = grey * (1 - share[..., None]) + colours * share[..., None]
    painted: U8 = colours.round().astype(np.uint8)
    return painted


def captioned(image: U8, text: str) -> U8:
    """Return the picture [H, W, 3] below a line of text."""
    strip = Image.new("RGB", (image.shape[1], _LINE), "white")
    ImageDraw.Draw(strip).text((4, 2), text, fill="black", font=ImageFont.load_default(_LINE - 6))
    return np.concatenate([np.asarray(strip), image])


def embedded(image: U8) -> str:
    """Return the picture as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "webp", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
