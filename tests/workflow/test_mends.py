"""Verbs with class maps, bad pictures, an export's ranges and contradictory options."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileseg.errors import MobilesegError
from mobileseg.files import read_json, write_json
from mobileseg.train.evaluate import labels_at
from tests.workflow.conftest import SAMPLE, Call, Place
from tests.workflow.test_verbs import pixels

PHOTOS = sorted((SAMPLE / "images").iterdir())
CALIBRATION = "tiny-skips-int8.calibration.json"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo, name in zip(PHOTOS, ("a.jpg", "b.jpg"), strict=False):
        shutil.copy(photo, folder / name)
    return folder


def test_class_numbers_are_resized_to_the_nearest() -> None:
    classes = np.array([[0, 2], [3, 0]], np.float32)
    assert np.array_equal(labels_at(classes, (4, 4)), classes.repeat(2, 0).repeat(2, 1))
    with pytest.raises(MobilesegError, match="class numbers"):
        labels_at(classes[0], (4, 4))


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_files_that_give_classes(
    precision: str, trained: Place, call: Call, tmp_path: Path
) -> None:
    words = ["export", "tiny/skips", "--runs", trained.runs, "--out", tmp_path, "--format", "both"]
    said = call(*words, "--precision", precision, "--output", "argmax", "--json")
    files = [Path(file["path"]) for file in said.json()["files"]]
    given = [word for file in files for word in ("--file", file)]
    rows = call("eval", "tiny/skips", "--runs", trained.runs, *given, "--json").json()["executors"]
    float_row, int8_row, *file_rows = rows
    assert [row["executor"] for row in file_rows] == [file.name for file in files]
    beside = int8_row if precision == "int8" else float_row
    for file, row in zip(files, file_rows, strict=True):
        assert row["agreement"] == pytest.approx(beside["agreement"], abs=1e-3)
        # Edges are the network's coarse ones.
        assert abs(row["scores"]["miou_percent"] - beside["scores"]["miou_percent"]) < 5
        (each,) = call("predict", file, PHOTOS[0], "--out", tmp_path / "out", "--json").json()
        mask = pixels(each["mask"])
        assert mask.shape == pixels(PHOTOS[0]).shape[:2]
        assert set(np.unique(mask)) <= {0, 1}


def test_equal_names_are_refused_before_anything_is_written(
    photos: Path, trained: Place, call: Call, tmp_path: Path
) -> None:
    with Image.open(photos / "b.jpg") as picture:
        picture.save(photos / "a.png")
    out = tmp_path / "out"
    said = call("predict", "tiny", photos, "--runs", trained.runs, "--out", out)
    assert said.code == 1
    assert "a.jpg and" in said.err and "a.png: both become a_mask.png" in said.err
    assert not out.exists()


def test_a_result_never_overwrites_a_picture(photos: Path, trained: Place, call: Call) -> None:
    (photos / "a.jpg").rename(photos / "b_mask.png")
    before = (photos / "b_mask.png").read_bytes()
    said = call("predict", "tiny", photos, "--runs", trained.runs, "--out", photos)
    assert said.code == 1
    assert "b_mask.png: " in said.err and "would overwrite it" in said.err
    assert (photos / "b_mask.png").read_bytes() == before


def test_damaged_pictures_do_not_stop_the_rest(
    photos: Path, trained: Place, call: Call, tmp_path: Path
) -> None:
    (photos / "0.jpg").write_bytes(b"no picture")
    (photos / "aa.png").write_bytes((photos / "a.jpg").read_bytes()[:1000])
    words = ["predict", "tiny", photos, "--runs", trained.runs, "--out", tmp_path / "out"]
    said = call(*words, "--json")
    assert said.code == 1
    assert [Path(each["image"]).name for each in said.json()] == ["a.jpg", "b.jpg"]
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["error", "error"]
    assert "0.jpg" in said.err and "aa.png" in said.err
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert call(*words).out.count("_overlay.png") == 2


def int8_miou(call: Call, place: Place, *words: object) -> float:
    said = call("eval", "tiny/skips", "--runs", place.runs, "--json", *words)
    assert said.code == 0, said.err
    rows = {row["executor"]: row for row in said.json()["executors"]}
    return float(rows["int8 graph"]["scores"]["miou_percent"])


def test_eval_takes_the_ranges_of_the_export(copy: Place, call: Call) -> None:
    path = copy.step("skips") / "export" / CALIBRATION
    exact = int8_miou(call, copy)
    manifest = read_json(path)
    wide = {name: [1e3 * low, 1e3 * high] for name, (low, high) in manifest["ranges"].items()}
    write_json(path, manifest | {"ranges": wide})
    assert int8_miou(call, copy) < exact - 1
    # Ranges of other weights are none.
    write_json(path, manifest | {"ranges": wide, "weights_sha256": "0"})
    assert int8_miou(call, copy) == exact
    path.unlink()
    assert int8_miou(call, copy) == exact
    path.write_text("{}")
    said = call("eval", "tiny/skips", "--runs", copy.runs)
    assert said.code == 1
    assert CALIBRATION in said.err


def test_eval_needs_no_training_list_after_an_export(copy: Place, call: Call) -> None:
    data = copy.folder / "data"
    (data / "train.txt").unlink()
    assert int8_miou(call, copy, "--data", data) > 0
    (copy.step("skips") / "export" / CALIBRATION).unlink()
    said = call("eval", "tiny/skips", "--runs", copy.runs, "--data", data)
    assert said.code == 1
    assert "train.txt" in said.err


def test_every_export_keeps_its_own_calibration(copy: Place, call: Call) -> None:
    folder = copy.step("skips") / "export"
    before = (folder / CALIBRATION).read_bytes()
    words = ["export", "tiny/skips", "--runs", copy.runs, "--int8", "--interface", "int8"]
    said = call(*words, "--images", 3)
    assert said.code == 0, said.err
    assert (folder / CALIBRATION).read_bytes() == before
    name = "tiny-skips-int8-3images-int8io.calibration.json"
    other = json.loads((folder / name).read_text())
    assert len(other["images"]) == 3
    (folder / CALIBRATION).unlink()
    (copy.folder / "data" / "train.txt").unlink()
    assert int8_miou(call, copy, "--data", copy.folder / "data") > 0


def test_fewer_pictures_than_wished_are_said(copy: Place, call: Call, tmp_path: Path) -> None:
    words = ["export", "tiny/skips", "--int8", "--runs", copy.runs, "--out", tmp_path]
    said = call(*words, "--images", 1000)
    name = "tiny-skips-int8-1000images.calibration.json"
    manifest = json.loads((tmp_path / name).read_text())
    assert f"calibrated on {len(manifest['images'])} pictures" in said.err
    assert "calibrated on" not in call(*words, "--images", 4).err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--precision", "float32", "--int8"], "--precision float32"),
        (["--precision", "float16", "--int8"], "--precision float16"),
        (["--interface", "int8"], "--interface int8"),
        (["--interface", "float32", "--precision", "float16"], "--interface float32"),
        (["--images", "5"], "--images"),
    ],
)
def test_contradictions_are_usage_errors(words: list[str], named: str, call: Call) -> None:
    said = call("export", "tiny/skips", *words)
    assert said.code == 2
    assert named in said.err


def test_what_comes_next_times_the_written_file(trained: Place, call: Call, tmp_path: Path) -> None:
    said = call("export", "tiny", "--precision", "int8", "--runs", trained.runs, "--out", tmp_path)
    assert f"next: mobileseg latency {tmp_path / 'tiny-skips-int8.tflite'} --measure" in said.err
