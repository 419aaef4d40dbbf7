"""Reading images and masks: every format and every kind of damage."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileseg.errors import MobilesegError
from mobileseg.train import pictures
from mobileseg.train.config import IGNORE, DataConfig
from mobileseg.train.data import read_image, read_mask, resize_image, resize_mask
from tests.train.pictures import scene

LABELS = np.array([[0, 1, 2, 255], [1, 1, 0, 2], [2, 255, 0, 0]], np.uint8)
THREE = DataConfig(classes=("sky", "road", "tree"))


def test_image_turned_upright_and_rgb(tmp_path: Path) -> None:
    array, _ = scene(0, 17, 29)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it 90 degrees clockwise
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(array, -1))
    Image.fromarray(array[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "grey.png"), np.repeat(array[..., :1], 3, axis=2)
    )


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_truncated_file_is_named(tmp_path: Path, ending: str, keep: float) -> None:
    path = tmp_path / f"cut.{ending}"
    Image.fromarray(scene(1, 97, 83)[0]).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(MobilesegError, match=rf"{re.escape(str(path))}: damaged or not a picture"):
        read_image(path)
    with pytest.raises(MobilesegError, match=r"cut\."):
        read_mask(path, DataConfig())


def test_missing_giant_and_deep_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MobilesegError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    Image.new("I;16", (5, 3)).save(tmp_path / "deep.png")
    with pytest.raises(MobilesegError, match=r"deep\.png: pixels are I;16"):
        read_image(tmp_path / "deep.png")
    Image.new("1", (10_000, 9_000)).save(tmp_path / "giant.png")
    with pytest.raises(MobilesegError, match=r"giant\.png: more than 80 million pixels"):
        read_image(tmp_path / "giant.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 10)
    with pytest.raises(MobilesegError, match=r"deep\.png: more than"):
        read_image(tmp_path / "deep.png")


def test_grey_palette_and_equal_channels_are_the_same_mask(tmp_path: Path) -> None:
    grey = Image.fromarray(LABELS)
    palette = Image.new("P", grey.size)
    palette.putdata(LABELS.ravel().tolist())
    palette.putpalette([(37 * i) % 256 for i in range(768)])
    for name, image in {"L": grey, "P": palette, "RGB": grey.convert("RGB")}.items():
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png", THREE), LABELS)


def test_ignore_is_255_in_memory(tmp_path: Path) -> None:
    Image.fromarray(np.where(LABELS == 255, 11, LABELS).astype(np.uint8)).save(tmp_path / "m.png")
    config = DataConfig(classes=THREE.classes, ignore=11)
    assert read_mask(tmp_path / "m.png", config)[0, 3] == IGNORE


@pytest.mark.parametrize("threshold", [1, 128, 255])
def test_binary_threshold(tmp_path: Path, threshold: int) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(8, 32)
    Image.fromarray(ramp).save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png", DataConfig(masks="binary", threshold=threshold))
    np.testing.assert_array_equal(found, ramp >= threshold)


def test_binary_of_one_bit_files(tmp_path: Path) -> None:
    Image.fromarray(LABELS == 1).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png", DataConfig()), LABELS == 1)
    binary = DataConfig(masks="binary")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png", binary), LABELS == 1)


def test_colours(tmp_path: Path) -> None:
    colours = {
        "sky": ((128, 128, 128), (1, 2, 3)),
        "road": ((128, 64, 128),),
        "tree": ((128, 128, 0),),
        "ignore": ((0, 0, 0),),
    }
    config = DataConfig(classes=THREE.classes, masks="colour", colours=colours)
    table = np.zeros((256, 3), np.uint8)
    table[:3] = [colours[name][0] for name in THREE.classes]
    rgb = table[LABELS]
    rgb[0, 0] = (1, 2, 3)
    Image.fromarray(rgb).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", config), LABELS)
    with pytest.raises(MobilesegError, match=r"m\.png: a mask in colours; set data\.masks"):
        read_mask(tmp_path / "m.png", THREE)
    rgb[2, 1] = (9, 8, 7)
    Image.fromarray(rgb).save(tmp_path / "m.png")
    with pytest.raises(MobilesegError, match=r"m\.png: colours \[9, 8, 7\] are not"):
        read_mask(tmp_path / "m.png", config)


def test_wrong_value_is_named(tmp_path: Path) -> None:
    Image.fromarray(LABELS + 1).save(tmp_path / "m.png")
    with pytest.raises(MobilesegError, match=r"m\.png: mask values 3; classes are 0 to 2"):
        read_mask(tmp_path / "m.png", THREE)
    Image.fromarray(LABELS.astype(np.uint16) * 300).save(tmp_path / "m.png")
    with pytest.raises(MobilesegError, match=r"m\.png: mask value 10964"):
        read_mask(tmp_path / "m.png", THREE)


def test_resize_takes_height_first() -> None:
    array, mask = scene(2, 40, 30)
    assert resize_image(array, (13, 7)).shape == (13, 7, 3)
    assert resize_image(array, (40, 30)) is array
    np.testing.assert_array_equal(resize_mask(mask, (20, 15)), mask[1::2, 1::2])
    flat = np.full((9, 5, 3), 77, np.uint8)
    assert (resize_image(flat, (4, 11)) == 77).all()
