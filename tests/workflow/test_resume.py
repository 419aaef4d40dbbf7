"""A ladder killed at any moment ends in the same files."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.workflow.conftest import Place, make_place


def climb(place: Place) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "mobileseg.cli", "slim", place.recipe, "--runs", place.runs]
    # Checkpoints after every step, so that the kill lands between two of them.
    words += ["--resume", "--set", "train.checkpoint_seconds=0"]
    return subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while not path.exists() and process.poll() is None:
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "moment", ["thin/checkpoint.safetensors", "thin/weights.safetensors", "skips/train.jsonl"]
)
def test_killed_and_resumed_is_the_same_to_the_bit(
    moment: str, trained: Place, tmp_path: Path
) -> None:
    place = make_place(tmp_path)
    process = climb(place)
    wait_for(place.runs / "tiny" / moment, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert climb(place).wait() == 0
    for step in ("thin", "skips"):
        weights = (place.step(step) / "weights.safetensors").read_bytes()
        assert weights == (trained.step(step) / "weights.safetensors").read_bytes()
    names = {path.name for path in place.step("skips").rglob("*")}
    assert not any(name.endswith(".tmp") for name in names)
