"""The README's first run, whole: the shipped network fitted to the shipped pictures, and cut."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

# Two cores, after installation.
SECONDS = 360
# What a person would call right.
MIOU_PERCENT = 88
# Of the pixels, the float net and the int8 file call so many alike.
AGREEMENT = 0.99


@pytest.mark.slow
def test_the_first_run_keeps_its_promise(tmp_path: Path) -> None:
    mobileseg = [sys.executable, "-m", "mobileseg.cli"]
    started = time.monotonic()
    subprocess.run([*mobileseg, "slim", "portrait"], check=True, cwd=tmp_path)
    assert time.monotonic() - started <= SECONDS
    report = json.loads((tmp_path / "runs" / "portrait" / "report.json").read_text())
    for step in report["steps"]:
        assert step["miou_percent"] >= MIOU_PERCENT
        assert step["miou_int8_percent"] >= MIOU_PERCENT
    done = subprocess.run(
        [*mobileseg, "eval", "portrait/fastest", "--split", "val", "--json"],
        check=True,
        cwd=tmp_path,
        capture_output=True,
    )
    executors = {row["executor"]: row for row in json.loads(done.stdout)["executors"]}
    for kind in ("tflite", "onnx"):
        assert executors[f"portrait-fastest-int8.{kind}"]["agreement"] >= AGREEMENT
    for each in report["exported"]:
        assert not each["check"]["problems"]


@pytest.mark.slow
def test_recipes_and_assets_travel_in_the_wheel(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, root]
    subprocess.run([str(word) for word in command], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("recipes", "assets"):
        for path in (root / folder).rglob("*"):
            if path.is_file():
                assert f"mobileseg/_data/{path.relative_to(root).as_posix()}" in names
