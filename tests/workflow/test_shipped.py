"""The trained networks that come with mobileseg, used as runs right after installation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileseg.export.runtime import load
from mobileseg.files import shipped
from mobileseg.runs import find_run, shipped_networks
from tests.workflow.conftest import Call

PICTURES = shipped("assets", "data", "public_figures")
# Of the eight pictures, that nobody trained on.
MIOU_PERCENT = {"portrait": 89, "portrait_tiny": 83}
BYTES = {"portrait": 400_000, "portrait_tiny": 100_000}


def test_both_networks_ship() -> None:
    assert shipped_networks().keys() == MIOU_PERCENT.keys()


def test_a_picture_needs_no_training(call: Call, tmp_path: Path) -> None:
    picture = PICTURES / "images" / "lincoln.jpg"
    said = call("predict", picture, "--runs", tmp_path)
    assert said.code == 0, said.err
    mask = np.asarray(
        Image.open(tmp_path / "portrait" / "shipped" / "predict" / "lincoln_mask.png")
    )
    assert 0.4 < (mask == 1).mean() < 0.75


@pytest.mark.parametrize("name", MIOU_PERCENT)
def test_the_files_are_small_and_see_people(name: str, call: Call, tmp_path: Path) -> None:
    run = find_run(name, tmp_path)
    assert run == find_run(f"{name}/shipped", tmp_path)
    (file,) = run.export_folder.glob("*.tflite")
    assert file.stat().st_size < BYTES[name]
    assert load(file).partitions == 1
    data = ("--data", PICTURES, "--recipe", name, "--split", "test", "--json")
    said = call("eval", file, *data)
    assert said.code == 0, said.err
    (scores,) = said.json()["executors"]
    assert scores["scores"]["miou_percent"] > MIOU_PERCENT[name]


def test_the_size_of_a_network_without_weights_is_that_of_its_file(
    call: Call, tmp_path: Path
) -> None:
    (step,) = call("slim", "portrait_tiny", "--dry-run", "--json", "--runs", tmp_path).json()[
        "steps"
    ]
    (file,) = find_run("portrait_tiny", tmp_path).export_folder.glob("*.tflite")
    assert step["int8_bytes"] == pytest.approx(file.stat().st_size, rel=0.005)


def test_what_was_changed_is_written_anew(tmp_path: Path) -> None:
    run = find_run("portrait_tiny", tmp_path)
    before = run.weights_digest
    run.weights_path.unlink()
    assert find_run("portrait_tiny", tmp_path).weights_digest == before


def test_weights_of_a_run_start_another(call: Call, tmp_path: Path) -> None:
    find_run("portrait_tiny", tmp_path)
    out = tmp_path / "mine.safetensors"
    said = call("weights", "export", "portrait_tiny/shipped", "--out", out, "--runs", tmp_path)
    assert said.code == 0, said.err
    wish = ("--set", f"weights={out}", "--dry-run", "--json", "--runs", tmp_path)
    (step,) = call("slim", "portrait_tiny", *wish).json()["steps"]
    assert step["inherited_share"] == 1.0
