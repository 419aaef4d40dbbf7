"""Damaged runs and data: one clear error, exit 1, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from tests.workflow.conftest import Call, Place, make_place


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "garbage":
        path.write_bytes(b"\x93NUMPY" + bytes(range(256)))
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "garbage", "gone"])
@pytest.mark.parametrize("name", ["weights.safetensors", "net.json", "recipe.json"])
def test_damaged_run_files_are_named(name: str, how: str, copy: Place, call: Call) -> None:
    damage(copy.step("skips") / name, how)
    said = call("export", copy.step("skips"), "--int8", "--runs", copy.runs)
    assert said.code == 1
    assert name in said.err or "is no run" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("change", ["shape", "missing", "surplus", "nan"])
def test_weights_of_another_network(change: str, copy: Place, call: Call) -> None:
    path = copy.step("skips") / "weights.safetensors"
    tensors = load_file(path)
    name = "conv1.conv.weight"
    if change == "shape":
        tensors[name] = tensors[name][:-1]
    elif change == "missing":
        del tensors[name]
    elif change == "surplus":
        tensors["extra"] = tensors[name]
    else:
        tensors[name][0] = float("nan")
    save_file(tensors, path)
    said = call("eval", "tiny/skips", "--runs", copy.runs)
    assert said.code == 1
    assert "weights.safetensors" in said.err


def test_a_report_that_is_none(copy: Place, call: Call) -> None:
    (copy.step("thin") / "report.json").write_text("[]")
    said = call("slim", copy.recipe, "--runs", copy.runs)
    assert said.code == 1
    assert "report.json" in said.err


def test_a_damaged_picture_stops_before_anything_is_written(tmp_path: Path, call: Call) -> None:
    place = make_place(tmp_path)
    picture = sorted((tmp_path / "data" / "images").iterdir())[0]
    damage(picture, "truncated")
    said = call("slim", place.recipe, "--runs", place.runs)
    assert said.code == 1
    assert picture.name in said.err
    assert not list(place.runs.glob("*/*/weights.safetensors"))


def test_calibration_without_training_pictures(copy: Place, call: Call) -> None:
    lists = copy.folder / "data"
    (lists / "train.txt").write_text((lists / "test.txt").read_text())
    said = call("export", "tiny/skips", "--int8", "--runs", copy.runs, "--data", lists)
    assert said.code == 1
    assert "calibration" in said.err


def test_a_run_path_cannot_climb(copy: Place, call: Call) -> None:
    path = copy.step("skips") / "recipe.json"
    recipe = json.loads(path.read_text())
    recipe["name"] = "../../up"
    path.write_text(json.dumps(recipe))
    said = call("export", "tiny/skips", "--runs", copy.runs)
    assert said.code == 1
    assert "no folder's name" in said.err
