"""Every verb does its real job on a really trained ladder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mobileseg.export.runtime import load, pixels_as
from tests.workflow.conftest import SAMPLE, Call, Place


def pixels(path: str | Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_ladder_report(trained: Place) -> None:
    report = json.loads((trained.runs / "tiny" / "report.json").read_text())
    whole, thin, skips = report["steps"]
    assert [s["step"] for s in (whole, thin, skips)] == ["whole", "thin", "skips"]
    assert "miou_percent" not in whole
    assert thin["macs"] < whole["macs"] / 10
    assert skips["inherited_share"] > 0.9 > thin["inherited_share"] > 0
    assert skips["change_parent_points"] == pytest.approx(
        skips["miou_percent"] - thin["miou_percent"], abs=0.011
    )
    for step in (thin, skips):
        assert 20 < step["miou_percent"] <= 100
        assert abs(step["miou_int8_percent"] - step["miou_percent"]) < 5
        assert step["int8_bytes"] < step["float32_bytes"] / 2
        assert step["int8_check"]["share_within_one_step"] >= 0.999
    names = {Path(each["path"]).suffix for each in report["exported"]}
    assert names == {".tflite", ".onnx"}
    assert report["seed"] == 0
    assert {"torch", "mobileseg"} <= set(report["versions"])


def test_sizes_of_the_table_are_those_of_the_files(trained: Place) -> None:
    report = json.loads((trained.runs / "tiny" / "report.json").read_text())
    skips = report["steps"][-1]
    path = trained.step("skips") / "export" / "tiny-skips-int8.tflite"
    assert path.stat().st_size == skips["int8_bytes"]


def test_slim_again_keeps_what_is_done(trained: Place, call: Call) -> None:
    weights = trained.step("thin") / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    said = call("slim", trained.recipe, "--runs", trained.runs)
    assert said.code == 0
    assert "thin: done before, kept" in said.err
    assert weights.stat().st_mtime_ns == before
    assert "The ladder" in said.out


def test_another_recipe_does_not_overwrite(trained: Place, call: Call) -> None:
    said = call("slim", trained.recipe, "--runs", trained.runs, "--set", "train.lr=1e-4")
    assert said.code == 1
    assert "--restart" in said.err


def test_calibration_pictures_are_of_the_training_split(trained: Place) -> None:
    export = trained.step("skips") / "export"
    manifest = json.loads((export / "tiny-skips-int8.calibration.json").read_text())
    train = (trained.folder / "data" / "train.txt").read_text().split()
    test = (trained.folder / "data" / "test.txt").read_text().split()
    names = {Path(image).name for image in manifest["images"]}
    assert len(names) == 8
    assert names <= {Path(line).name for line in train}
    assert not names & {Path(line).name for line in test}


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("output", ["logits", "softmax", "sigmoid", "argmax"])
def test_export(precision: str, output: str, trained: Place, call: Call, tmp_path: Path) -> None:
    words = ["export", "tiny/skips", "--runs", trained.runs, "--out", tmp_path, "--json"]
    said = call(*words, "--precision", precision, "--output", output, "--format", "both")
    assert said.code == 0, said.err
    for file in said.json()["files"]:
        assert Path(file["path"]).stat().st_size == file["bytes"]
        check = file["check"]
        assert not check["problems"]
        if output == "argmax":
            assert check["share_equal"] >= 0.999
        elif precision == "int8":
            assert check["share_within_one_step"] >= 0.999
        else:
            assert check["relative_error"] <= 1e-5


@pytest.mark.parametrize("interface", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("rewrite", ["auto", "none"])
def test_int8_interfaces(
    interface: str, rewrite: str, trained: Place, call: Call, tmp_path: Path
) -> None:
    words = ["export", "tiny/skips", "--int8", "--runs", trained.runs, "--out", tmp_path]
    said = call(*words, "--interface", interface, "--rewrite", rewrite, "--json")
    (file,) = said.json()["files"]
    assert file["check"]["max_steps"] <= 2
    assert load(Path(file["path"])).input_dtype == np.dtype(interface)


def test_eval_side_by_side(trained: Place, call: Call) -> None:
    said = call("eval", "tiny/skips", "--runs", trained.runs, "--json")
    rows = {row["executor"]: row for row in said.json()["executors"]}
    assert set(rows) == {
        "float",
        "int8 graph",
        "tiny-skips-int8.tflite",
        "tiny-skips-int8.onnx",
    }
    graph, file = rows["int8 graph"], rows["tiny-skips-int8.tflite"]
    assert graph["scores"]["miou_percent"] == pytest.approx(file["scores"]["miou_percent"], abs=0.1)
    assert rows["float"]["agreement"] == 1
    for row in rows.values():
        for figure in ("foreground_iou_percent", "foreground_iou_per_image_percent"):
            assert 0 <= row["scores"][figure] <= 100
        assert set(row["scores"]["iou_percent"]) == {"background", "person"}
    assert "boundary F-score" in call("eval", "tiny/skips", "--runs", trained.runs).out


def test_predict_from_run_and_from_file(trained: Place, call: Call, tmp_path: Path) -> None:
    photo = sorted((SAMPLE / "images").iterdir())[0]
    file = trained.step("skips") / "export" / "tiny-skips-int8.tflite"
    masks = []
    for model in ("tiny/skips", file):
        out = tmp_path / Path(str(model)).stem
        words = ["predict", model, photo, "--out", out, "--runs", trained.runs]
        (each,) = call(*words, "--json").json()
        mask = pixels(each["mask"])
        assert mask.shape == pixels(photo).shape[:2]
        assert set(np.unique(mask)) <= {0, 1}
        assert pixels(each["overlay"]).shape == pixels(photo).shape
        assert sum(each["shares"].values()) == pytest.approx(1, abs=1e-3)
        masks.append(mask)
    assert (masks[0] == masks[1]).mean() > 0.9


def test_predict_a_folder_into_the_run(copy: Place, call: Call) -> None:
    (copy.folder / "photos").mkdir()
    for photo in sorted((SAMPLE / "images").iterdir())[:2]:
        shutil.copy(photo, copy.folder / "photos")
    said = call("predict", "tiny", copy.folder / "photos", "--runs", copy.runs)
    assert said.code == 0
    assert len(list((copy.step("skips") / "predict").glob("*_overlay.png"))) == 2


def test_the_uint8_byte_is_the_pixel(trained: Place) -> None:
    runner = load(trained.step("skips") / "export" / "tiny-skips-int8.tflite")
    pictures = np.arange(64 * 96 * 3).astype(np.uint8).reshape(1, 64, 96, 3)
    assert np.array_equal(pixels_as(pictures, runner.input_dtype)[0, 2], pictures[0, :, :, 2])


def test_latency_measures_the_file_here(trained: Place, call: Call) -> None:
    words = ["latency", "tiny/skips", "--int8", "--device", "pixel6", "--runs", trained.runs]
    done = call(*words, "--measure", "--json").json()
    measured = done["measured"]
    assert 0 < measured["median_ms"] <= measured["p90_ms"]
    rows = done["devices"][0]["rows"]
    fused = [
        row["kernel"]
        for row, ms in zip(rows, measured["operators_ms"], strict=True)
        if ms == "fused"
    ]
    assert set(fused) <= {"pad"}
    assert (trained.step("skips") / "latency" / "int8.json").is_file()
    assert "measured" in call(*words, "--measure").out


def test_compare(trained: Place, call: Call) -> None:
    rows = call("compare", "tiny", "--runs", trained.runs, "--json").json()["steps"]
    assert [row["step"] for row in rows] == ["tiny/thin", "tiny/skips"]
    (row,) = call("compare", "tiny/thin", "--runs", trained.runs, "--json").json()["steps"]
    assert row["miou_percent"] == rows[0]["miou_percent"]
