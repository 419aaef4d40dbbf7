"""`mobileseg check` on files of every kind."""

from __future__ import annotations

from pathlib import Path

from mobileseg.export.tflite import write_tflite
from tests.export import small
from tests.workflow.conftest import Call


def test_a_file_that_runs(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(small.float_graph()))
    said = call("check", path)
    assert said.code == 0
    assert "float32 32x48" in said.out


def test_a_damaged_file_exits_with_3_and_still_shows_its_rows(tmp_path: Path, call: Call) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(small.float_graph())[:-999])
    said = call("check", path, "--json")
    assert said.code == 3
    assert said.json()["rows"][-1]["verdict"] == "violated"
    assert "violates 1 of raw's rules" in said.err
