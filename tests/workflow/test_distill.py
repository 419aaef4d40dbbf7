"""A step that a step, a run or a file teaches, with pictures that have no masks."""

from __future__ import annotations

import numpy as np
import pytest

from mobileseg.train.config import IGNORE
from tests.workflow.conftest import Call, Place

STEP = """
[[step]]
name = "taught"
from = "thin"
distill = { teacher = "%s", channel = 1.0, unlabelled = "%s", sure = 0.55%s }
epochs_share = 0.34
"""


def taught(place: Place, call: Call, teacher: object, pictures: str, more: str = "") -> str:
    text = place.recipe.read_text() + STEP % (teacher, pictures, more)
    place.recipe.write_text(text)
    said = call("slim", place.recipe, "--runs", place.runs, "--step", "taught")
    assert said.code in {0, 3}, said.err
    return said.err


def test_a_step_teaches_on_pictures_without_masks(copy: Place, call: Call) -> None:
    taught(copy, call, "skips", "images", ', features = { "conv3_1" = "conv3_1" }')
    (file,) = (copy.step("taught") / "cache").glob("taught-*.npy")
    masks = np.load(file)
    pictures = len(list((copy.folder / "data" / "images").iterdir()))
    assert masks.shape == (pictures, 64, 96)
    assert set(np.unique(masks)) <= {0, 1, IGNORE}
    log = (copy.step("taught") / "report.json").read_text()
    assert f'"train_images": {18 + pictures}' in log


def test_a_file_teaches(copy: Place, call: Call) -> None:
    file = next((copy.step("skips") / "export").glob("*int8.tflite"))
    (copy.folder / "data" / "few.txt").write_text(
        "images/" + sorted(p.name for p in (copy.folder / "data" / "images").iterdir())[0]
    )
    taught(copy, call, file, "few.txt")


@pytest.mark.parametrize(
    ("teacher", "more", "words"),
    [
        ("nobody", "", "nobody: is no run"),
        ("taught", "", "'taught' is no step above this one"),
        ("whole", "", "'whole' has learnt nothing"),
        ("nofile.onnx", "", "nofile.onnx: there is no such file"),
        ("skips", ', features = { "conv99" = "conv3_1" }', "conv99"),
        (
            "skips",
            ', mimic = { "conv99" = "conv3_1" }',
            "distill.mimic: no block is named 'conv99'",
        ),
        ("FILE", ', features = { "conv1" = "conv1" }', "whose layers cannot be watched"),
        ("FILE", ', mimic = { "conv1" = "conv1" }', "or leave mimic out"),
    ],
)
def test_who_cannot_teach_is_named(
    copy: Place, call: Call, teacher: str, more: str, words: str
) -> None:
    if teacher == "FILE":
        teacher = str(next((copy.step("skips") / "export").glob("*int8.tflite")))
    copy.recipe.write_text(copy.recipe.read_text() + STEP % (teacher, "images", more))
    said = call("slim", copy.recipe, "--runs", copy.runs, "--step", "taught")
    assert said.code == 1
    assert words in said.err
