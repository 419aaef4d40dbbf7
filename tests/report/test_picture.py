"""Masks and heat as pictures: what stays bare, what grows brighter, what a page holds."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from mobileseg.report.picture import HOTTEST, embedded, heated, palette, tinted


def test_a_class_has_its_colour_and_the_background_none() -> None:
    photo = np.full((4, 6, 3), 100, np.uint8)
    labels = np.zeros((4, 6), np.uint8)
    labels[:, 2:4], labels[:, 4:] = 1, 2
    shown = tinted(photo, labels)
    assert (shown[:, :2] == 100).all()
    for number, columns in ((1, slice(2, 4)), (2, slice(4, 6))):
        expected = (100 + palette(3)[number].astype(int)) // 2
        assert (abs(shown[:, columns] - expected) <= 1).all()
    assert len({tuple(colour) for colour in palette(20)}) == 20


def test_heat_grows_brighter_up_to_the_hottest() -> None:
    heat = np.linspace(0, 1, 50, dtype=np.float32)[None]
    light = heated(heat).astype(int).sum(axis=2)[0]
    assert (np.diff(light) >= 0).all()
    assert light[0] < 100 and light[-1] > 600
    assert (light[heat[0] >= HOTTEST] == light[-1]).all()
    # Another scale, another end.
    assert (heated(heat, hottest=1.0)[0, 25] != heated(heat)[0, 25]).any()


def test_nothing_hot_is_not_an_error() -> None:
    still = heated(np.zeros((3, 5), np.float32), hottest=0.0)
    assert (still == still[0, 0]).all()


def test_the_photo_shows_through_where_it_is_cold() -> None:
    photo = np.zeros((20, 30, 3), np.uint8)
    photo[:, 15:] = 200
    shown = heated(np.zeros((4, 6), np.float32), photo)
    assert shown.shape == photo.shape
    assert (shown[:, :15] == 0).all() and (shown[:, 15:] == 90).all()


@pytest.mark.parametrize("size", [(1, 1), (31, 17)])
def test_a_page_holds_the_picture_itself(size: tuple[int, int]) -> None:
    kind, _, data = embedded(np.full((*size, 3), 128, np.uint8)).partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (size[1], size[0])
        assert abs(np.asarray(image.convert("RGB")).astype(int) - 128).max() <= 3
