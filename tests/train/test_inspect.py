"""A data set with one of each mistake, and what is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileseg.train.config import DataConfig
from mobileseg.train.inspect import Finding, inspect, shared
from mobileseg.train.pairs import pairs

SIDE = 40


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Six sound pairs in train, two in val, two in test, every picture another one."""
    generator = np.random.default_rng(0)
    number = 0
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        lines = []
        for _ in range(count):
            coarse = generator.integers(0, 256, (5, 5, 3), np.uint8)
            picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            picture.save(tmp_path / f"{number}.png")
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[10:20] = 1
            Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
            lines.append(f"{number}.png {number}_mask.png")
            number += 1
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    return DataConfig(root=tmp_path, val=Path("val.txt"), test=Path("test.txt"))


def found(data: DataConfig) -> list[Finding]:
    return list(inspect(data, {s: pairs(data, s) for s in ("train", "val", "test")}).findings)


def test_nothing_is_wrong(data: DataConfig) -> None:
    calls: list[int] = []
    splits = {s: pairs(data, s) for s in ("train", "val", "test")}
    seen = inspect(data, splits, lambda done, total: calls.append(total - done))
    assert seen.findings == ()
    assert calls == list(range(9, -1, -1))
    assert seen.pixels["val"].tolist() == [2 * 30 * SIDE, 2 * 10 * SIDE]
    assert shared(splits) == []


def test_a_class_that_no_train_mask_shows(data: DataConfig) -> None:
    with_third = replace(data, classes=("background", "band", "dot"))
    (absent,) = found(with_third)
    assert (absent.kind, absent.split, absent.serious) == ("absent", "train", True)
    assert absent.words == (
        "data.classes: 'dot' is in none of the 6 train masks; take the class out, or add pictures "
        "that show it"
    )
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:20] = 1
    mask[1, 1] = 2
    # Val and test teach nothing.
    Image.fromarray(mask).save(data.root / "9_mask.png")
    assert found(with_third) == [absent]
    Image.fromarray(mask).save(data.root / "0_mask.png")
    assert found(with_third) == []
    splits = {s: pairs(data, s) for s in ("train", "val", "test")}
    (lost,) = inspect(with_third, splits, sizes=[(SIDE // 4, SIDE // 4), (SIDE, SIDE)]).findings
    assert (lost.kind, lost.serious) == ("absent", True)
    assert "'dot' is in the train masks, but none of its pixels is left at 10x10;" in lost.words


def test_no_mask_can_be_read(data: DataConfig) -> None:
    for number in range(6):
        (data.root / f"{number}_mask.png").write_bytes(b"no mask")
    assert {each.kind for each in found(data)} == {"unreadable"}


def test_one_of_each(data: DataConfig) -> None:
    root = data.root
    (root / "0.png").write_bytes(b"no picture")
    Image.new("L", (SIDE, SIDE + 1)).save(root / "1_mask.png")
    Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(root / "2_mask.png")
    Image.new("RGB", (SIDE, SIDE), "red").save(root / "3.png")
    Image.new("L", (SIDE, SIDE), 255).save(root / "4_mask.png")
    (root / "5_mask.png").write_bytes((root / "5_mask.png").read_bytes()[:40])
    findings = found(data)
    kinds = {(each.kind, Path(each.file).name) for each in findings}
    # The mask of another size is of one class, too.
    assert kinds == {
        ("unreadable", "0.png"),
        ("mismatched", "1_mask.png"),
        ("constant", "1_mask.png"),
        ("out of range", "2_mask.png"),
        ("constant", "3.png"),
        ("constant", "4_mask.png"),
        ("unreadable", "5_mask.png"),
    }
    assert all(each.words.startswith(each.file) for each in findings)
    assert {each.kind for each in findings if each.serious} == {
        "unreadable",
        "mismatched",
        "out of range",
    }


def test_twice_and_in_two_splits(data: DataConfig) -> None:
    root = data.root
    (root / "1.png").write_bytes((root / "0.png").read_bytes())
    # Saved anew by a lossy format: other bytes, the same picture.
    Image.open(root / "2.png").save(root / "again.jpg", quality=92)
    Image.open(root / "again.jpg").save(root / "8.png")
    first, second = sorted(found(data), key=lambda each: each.kind, reverse=True)
    assert (first.kind, Path(first.file).name, first.serious) == ("twice", "1.png", False)
    assert (second.kind, Path(second.file).name, second.serious) == ("leak", "8.png", True)
    assert "looks like 2.png of train" in second.words
    splits = {s: pairs(data, s) for s in ("train", "val", "test")}
    assert shared(splits) == []
    (root / "9.png").write_bytes((root / "3.png").read_bytes())
    (leak,) = shared(splits)
    assert leak.words == f"{root / '9.png'}: is 3.png of train; keep it in one of the splits"
