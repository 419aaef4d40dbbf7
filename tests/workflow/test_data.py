"""`mobileseg data` on the shipped pictures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from mobileseg.files import shipped
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
