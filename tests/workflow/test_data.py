"""`mobileseg data` on the shipped pictures."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from mobileseg.files import shipped
from mobileseg.recipe import read_recipe, recipe_text
from mobileseg.workflow.data import _off
from tests.workflow.conftest import Call

SAMPLE = shipped("assets", "data", "portrait_sample")


def test_the_shipped_pictures_are_sound(call: Call) -> None:
    said = call("data", "check", "portrait", "--json")
    assert said.code == 0, said.err
    found = said.json()
    assert found["findings"] == []
    assert [found["splits"][split]["pairs"] for split in ("train", "val", "test")] == [86, 10, 32]


def test_a_leak_is_an_error_and_slim_warns_of_it(call: Call, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(SAMPLE, root)
    lines = (root / "train.txt").read_text().splitlines()
    (root / "test.txt").write_text("\n".join(lines[:3]))
    said = call("data", "check", "portrait", "--data", root)
    assert said.code == 1
    assert "leak" in said.out
    assert "3 things to mend" in said.err


def test_a_class_that_is_nowhere_is_an_error(call: Call) -> None:
    said = call("data", "check", "portrait", "--set", 'data.classes=["a", "b", "c"]')
    assert said.code == 1
    assert "absent" in said.out
    assert "'c' is in none of the 86 train masks; take the class out" in said.out
    assert "1 thing to mend" in said.err


def test_a_class_is_sought_at_the_sizes_that_are_trained(call: Call, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(SAMPLE, root)
    first = root / (root / "train.txt").read_text().split()[1]
    with Image.open(first) as opened:
        mask = np.array(opened)
    mask[1, 0] = 2
    Image.fromarray(mask).save(first)
    words = ("--data", root, "--json", "--set", 'data.classes=["a", "b", "c"]')
    # Its first step is only counted, at 160x160, where of 192 rows the second is left; the others
    # are trained at 112x112.
    said = call("data", "check", "portrait_ladder", *words)
    assert said.code == 1
    (lost,) = said.json()["findings"]
    assert "none of its pixels is left at 112x112;" in lost["words"]


def test_each_change_where_none_is_on(call: Call, tmp_path: Path) -> None:
    off = asdict(_off())
    words = [word for key, value in off.items() for word in ("--set", f"augment.{key}={value}")]
    words = [word.replace("(", "[").replace(")", "]") for word in words]
    sheet = tmp_path / "sheet.png"
    said = call("data", "preview", "portrait", "--each", "--out", sheet, "--rows", "1", *words)
    assert said.code == 1
    assert "augment: no change is on; switch one on" in said.err
    assert not sheet.exists()


def test_the_sheet_shows_every_augmentation_that_is_on(call: Call, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    said = call(
        "data", "preview", "portrait_ladder", "--each", "--rows", "2", "--out", sheet, "--json"
    )
    assert said.code == 0, said.err
    rows = said.json()["rows"]
    assert "flip = 0.5" in rows
    assert not any(row.startswith("cutout") for row in rows)
    with Image.open(sheet) as drawn:
        assert drawn.size == (6 * 160, len(rows) * (160 + 20))
    said = call("data", "preview", "portrait_ladder", "--rows", "3", "--runs", tmp_path)
    assert said.code == 0, said.err
    with Image.open(tmp_path / "portrait_ladder" / "preview.png") as drawn:
        pixels = np.asarray(drawn)
    assert pixels.shape == (3 * 180, 6 * 160, 3)
    assert call("data", "preview", "portrait_ladder", "--out", "sheet.gif").code == 2


def test_the_sheet_shows_a_step_s_own_augmentation(call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text(recipe_text("portrait_ladder") + "[step.augment]\ncutout = 0.5\n")
    words = ("--data", SAMPLE, "--each", "--rows", "1", "--out", tmp_path / "sheet.png", "--json")
    step = read_recipe(recipe, [], SAMPLE).step[-1].name
    with_step = call("data", "preview", recipe, "--step", step, *words).json()["rows"]
    assert "cutout = 0.5" in with_step
    assert "cutout = 0.5" not in call("data", "preview", recipe, *words).json()["rows"]
    assert "no step is named 'v9'" in call("data", "preview", recipe, "--step", "v9", *words).err
