"""`mobileseg check` on files of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobileseg.export.onnx import write_onnx
from mobileseg.export.tflite import write_tflite
from tests.export import small
from tests.workflow.conftest import Call


def test_a_file_that_runs(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(small.float_graph()))
    said = call("check", path, "--json")
    assert said.code == 0
    assert {row["verdict"] for row in said.json()["rows"]} == {"ok"}


def test_an_onnx_file(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(write_onnx(small.int8_graph()))
    said = call("check", path)
    assert said.code == 0
    assert "ONNX Runtime loads and runs it" in said.out
    said = call("check", path, "--target", "mediapipe")
    assert said.code == 1
    assert "mediapipe loads TFLite files only" in said.err


@pytest.mark.parametrize("ending", [".tflite", ".onnx"])
def test_a_damaged_file_is_rows_too(ending: str, tmp_path: Path, call: Call) -> None:
    path = tmp_path / f"net{ending}"
    write = write_tflite if ending == ".tflite" else write_onnx
    path.write_bytes(write(small.float_graph())[:-999])
    said = call("check", path, "--json")
    assert said.code == 3
    assert said.json()["rows"][-1]["verdict"] == "violated"
    assert "violates 1 of raw's rules" in said.err


def test_a_breach_comes_with_its_mend(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(small.float_graph()))
    said = call("check", path, "--target", "mediapipe")
    assert said.code == 3
    assert "one normalization of pixels" in said.err
    assert "write NormalizationOptions with the mean and std of training" in said.out
