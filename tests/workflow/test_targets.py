"""`mobileseg export --target`: what a consumer cannot take is refused, what it takes is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.workflow.options import ExportOptions, default_output
from tests.workflow.conftest import Call, Place


def test_a_file_for_task_library(trained: Place, tmp_path: Path, call: Call) -> None:
    run = trained.step("skips")
    words = ("--precision", "float32", "--target", "task", "--out", tmp_path)
    said = call("export", run, *words)
    assert said.code == 0
    path = tmp_path / "tiny-skips-float32-softmax-task.tflite"
    assert sorted(each.name for each in tmp_path.glob("*.tflite*")) == [
        path.name,
        f"{path.name}.kt",
        f"{path.name}.py",
    ]
    for code in (f"{path}.kt", f"{path}.py"):
        assert f"--- {code}\n{Path(code).read_text()}" in said.out
    assert call("check", path, "--target", "task").code == 0
    # What has a softmax in it needs none from MediaPipe.
    rows = call("check", path, "--target", "mediapipe", "--json").json()["rows"]
    assert {row["verdict"] for row in rows} == {"ok"}
    assert {"rule": "an activation is named", "found": "none", "verdict": "ok", "mend": ""} in rows


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ExportOptions(target="mediapipe", formats=("onnx",)), "loads TFLite files only"),
        (ExportOptions(target="mediapipe", output="argmax"), "takes a value per class"),
        (ExportOptions(target="mediapipe", interface="int8"), "takes uint8 or float32, not int8"),
        (ExportOptions(target="task"), "calls class 0 where all logits are negative"),
    ],
)
def test_what_a_target_cannot_take(options: ExportOptions, said: str) -> None:
    with pytest.raises(MobilesegError, match=said):
        options.require()


def test_what_a_target_can_take() -> None:
    ExportOptions(target="mediapipe").require()
    ExportOptions(target="mediapipe", precision="float32", interface="int8").require()
    ExportOptions(target="task", output=default_output("task")).require()
    ExportOptions(output="argmax", interface="int8", formats=("onnx",)).require()
