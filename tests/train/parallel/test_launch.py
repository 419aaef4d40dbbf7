"""Processes are started together and end together, with one word of why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.train.parallel.launch import launch, ranked

# Every process leaves its number; `END` is what number 1 does, the others wait for long.
PROGRAM = """
import os, signal, sys, time
rank = int(os.environ["RANK"])
open(os.path.join(sys.argv[1], f"{rank} {os.environ['WORLD_SIZE']} {os.getpid()}"), "w").close()
if rank == 1:
    END
time.sleep(60)
"""
FIRST = """
import os, sys, time
if os.environ["RANK"] == "0":
    sys.exit(int(sys.argv[1]))
time.sleep(60)
"""


def program(end: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", PROGRAM.replace("END", end), str(folder)]


def pids(folder: Path) -> list[int]:
    return [int(path.name.split()[2]) for path in sorted(folder.iterdir())]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A grandchild stays a zombie until somebody asks for its end.
    state = Path(f"/proc/{pid}/stat")
    return state.is_file() and state.read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        pytest.param(
            "os.kill(os.getpid(), signal.SIGKILL)",
            r"process 1 of 3 was ended by signal 9 \(SIGKILL\); .* the same command goes on",
            id="killed",
        ),
        pytest.param(
            "sys.exit('error: train: loss is nan')",
            r"process 1 of 3 ended with code 1: train: loss is nan; nothing is lost",
            id="failed",
        ),
        pytest.param(
            "raise ValueError('broken')", r"ended with code 1: ValueError: broken", id="crashed"
        ),
    ],
)
def test_one_that_ends_ends_all(
    end: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mobileseg.train.parallel.launch._GRACE_SECONDS", 0.3)
    with pytest.raises(MobilesegError, match=said):
        launch(3, program(end, tmp_path))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.split()[:2] for name in names] == [["0", "3"], ["1", "3"], ["2", "3"]]
    assert all(gone(pid) for pid in pids(tmp_path))


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_first_ones_code_is_the_commands(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mobileseg.train.parallel.launch._GRACE_SECONDS", 0.3)
    assert launch(2, [sys.executable, "-c", FIRST, str(code)]) == code


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_none_outlives_who_started_it(sent: signal.Signals, tmp_path: Path) -> None:
    code = "import sys; from mobileseg.train.parallel.launch import launch; launch(2, sys.argv[1:])"
    words = [sys.executable, "-c", code, *program("pass", tmp_path)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as launcher:
        until = time.monotonic() + 30
        while len(list(tmp_path.iterdir())) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        launcher.send_signal(sent)
    while not all(gone(pid) for pid in pids(tmp_path)):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_who_is_one_of_several() -> None:
    assert ranked({"RANK": "0", "WORLD_SIZE": "2"})
    assert not ranked({"RANK": "0", "WORLD_SIZE": "1"})
    assert not ranked({})
