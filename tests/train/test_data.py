"""Decoded splits: in RAM, mapped, and every bad file named at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from mobileseg.errors import MobilesegError
from mobileseg.train import data
from mobileseg.train.config import AugmentConfig, DataConfig, LossConfig, TrainConfig
from mobileseg.train.data import load
from tests.train.pictures import write_list

SIZE = (24, 20)


def test_ram_and_mapped_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_list(tmp_path)
    seen: list[tuple[int, int]] = []
    ram = load(config, "train", SIZE, progress=lambda done, total: seen.append((done, total)))
    assert ram.images.shape == (9, 24, 20, 3)
    assert ram.masks.shape == (9, 24, 20)
    assert seen == [(i, 9) for i in range(1, 10)]

    small = replace(config, cache_mb=0)
    mapped = load(small, "train", SIZE, tmp_path / "cache")
    assert isinstance(mapped.images, np.memmap)
    np.testing.assert_array_equal(mapped.images, ram.images)
    np.testing.assert_array_equal(mapped.masks, ram.masks)
    images, masks = mapped.batch(np.array([4, 1]))
    np.testing.assert_array_equal(images, ram.images[[4, 1]])
    assert not isinstance(images, np.memmap) or images.flags.owndata
    assert masks.shape == (2, 24, 20)
    with pytest.raises(MobilesegError, match=r"data\.cache_mb: 9 pictures of 24x20 need"):
        load(small, "train", SIZE)

    monkeypatch.setattr(data, "read_pair", None)  # found in the cache: nothing is decoded
    again = load(small, "train", SIZE, tmp_path / "cache")
    np.testing.assert_array_equal(again.images, ram.images)
    with pytest.raises(TypeError):  # another size is another cache
        load(small, "train", (10, 11), tmp_path / "cache")


def test_class_pixels(tmp_path: Path) -> None:
    dataset = load(write_list(tmp_path), "train", SIZE)
    counts = dataset.class_pixels(2)
    np.testing.assert_array_equal(counts[:, 1], (dataset.masks == 1).sum((1, 2)))
    assert (counts.sum(1) == 24 * 20).all()


def test_all_bad_files_in_one_error(tmp_path: Path) -> None:
    config = replace(write_list(tmp_path), val=Path("train.txt"))
    whole = (tmp_path / "images/p2.jpg").read_bytes()
    (tmp_path / "images/p2.jpg").write_bytes(whole[:400])
    Image.new("L", (38, 45)).save(tmp_path / "masks/p5.png")
    with pytest.raises(MobilesegError) as caught:
        load(config, "train", SIZE)
    text = str(caught.value)
    assert "2 of 10 are wrong" in text
    assert "p2.jpg: damaged" in text
    assert "p5.png: mask is 38x45, its image" in text
    assert "is 38x46" in text


def test_empty_class_is_named(tmp_path: Path) -> None:
    config = replace(write_list(tmp_path), classes=("background", "person", "dog"))
    with pytest.raises(MobilesegError, match=r"'dog' occurs in none of the 9 train masks"):
        load(config, "train", SIZE)
    assert len(load(config, "val", SIZE)) == 1  # only training needs every class


def test_shipped_sample() -> None:
    root = Path(__file__).parents[2] / "assets/data/portrait_sample"
    dataset = load(DataConfig(root=root, test=Path("test.txt")), "test", (48, 36))
    assert len(dataset) == 32
    assert set(np.unique(dataset.masks)) == {0, 1, 255}


@pytest.mark.parametrize(
    ("kind", "table", "message"),
    [
        (DataConfig, {"clases": ["a", "b"]}, "clases"),
        (DataConfig, {"classes": ["a"]}, "at least 2"),
        (DataConfig, {"classes": ["a", "a"]}, "occurs twice"),
        (DataConfig, {"ignore": 1}, "is the number of class 'person'"),
        (DataConfig, {"masks": "binary", "classes": ["a", "b", "c"]}, "needs 2 classes"),
        (DataConfig, {"masks": "colour"}, "none given for"),
        (DataConfig, {"masks": "colour", "colours": {"dog": [[1, 2, 3]]}}, "are no classes"),
        (DataConfig, {"threshold": 0}, "greater than or equal to 1"),
        (AugmentConfig, {"scale": [1.5, 0.5]}, "first number is the smaller"),
        (LossConfig, {}, "no weight above 0"),
        (TrainConfig, {"loss": {"huber": 1.0}}, "huber"),
        (TrainConfig, {"epochs": 0}, "greater than 0"),
        (TrainConfig, {"schedule": "linear"}, "cosine"),
    ],
)
def test_config_mistakes(kind: type, table: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(kind).validate_python(table)


def test_config_from_toml_types() -> None:
    table = {"loss": {"cross_entropy": 1.0, "lovasz": 0.5}, "class_weights": [1.0, 2.5]}
    config = TypeAdapter(TrainConfig).validate_python(table)
    assert config.loss == LossConfig(cross_entropy=1.0, lovasz=0.5)
    assert config.class_weights == (1.0, 2.5)
    data = TypeAdapter(DataConfig).validate_python({"root": "a/b", "classes": ["x", "y"]})
    assert data.root == Path("a/b")
    assert replace(data, root=Path("c")).classes == ("x", "y")
