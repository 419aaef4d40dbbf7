"""A ladder climbed by two processes, on one machine and on two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow.conftest import Place, make_place

pytestmark = pytest.mark.slow
# Hosts as names of network namespaces, and the two ends of the cable between them.
HOSTS = {"mobileseg_a": ("msg_a", "10.77.31.1"), "mobileseg_b": ("msg_b", "10.77.31.2")}


def slim(place: Place, runs: Path) -> list[str]:
    words = ["slim", str(place.recipe), "--runs", str(runs), "--step", "thin"]
    return [*words, "--set", "train.epochs=6"]


def helper_of(process: subprocess.Popen[str]) -> int:
    """Return the process that only helps."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in map(int, children):
        if b"RANK=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return child
    raise AssertionError(children)


def epochs(run: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (run / "train.jsonl").read_text().splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_dies_and_the_same_command_goes_on(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    words = [sys.executable, "-m", "mobileseg.cli", *slim(place, place.runs), "--devices", "2"]
    log = place.runs / "tiny" / "thin" / "train.jsonl"
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        while not log.exists():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        os.kill(helper_of(process), signal.SIGKILL)
        said = process.communicate()[1]
    assert process.returncode == 1
    errors = [line for line in said.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and "process 1 of 2 was ended by signal 9 (SIGKILL)" in errors[0]
    assert "Traceback" not in said

    before = epochs(log.parent)
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert epochs(log.parent) == [1, 2, 3, 4, 5, 6]
    assert again.stderr.count("epoch ") == 6 - len(before)
    assert json.loads((log.parent / "report.json").read_text())["epochs"] == 6


@pytest.fixture
def hosts() -> Iterator[None]:
    """Two network namespaces with a cable between them; skips where that is not allowed."""
    made = []
    try:
        for host in HOSTS:
            ip("netns", "add", host)
            made.append(host)
            ip("-n", host, "link", "set", "lo", "up")
        (a, (end_a, _)), (b, (end_b, _)) = HOSTS.items()
        ip("link", "add", end_a, "netns", a, "type", "veth", "peer", end_b, "netns", b)
        for host, (end, address) in HOSTS.items():
            ip("-n", host, "address", "add", f"{address}/24", "dev", end)
            ip("-n", host, "link", "set", end, "up")
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces are not allowed here: {error}")
    finally:
        for host in made:
            ip("netns", "delete", host)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.mark.usefixtures("hosts")
def test_two_hosts(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    started = []
    for rank, (host, (end, _)) in enumerate(HOSTS.items()):
        words = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"]
        words += ["--nnodes=2", f"--node-rank={rank}", "--nproc-per-node=1"]
        words += ["--master-addr=10.77.31.1", "--master-port=29500", "-m", "mobileseg.cli"]
        # Each host has folders of its own; only the first one's are written to.
        words += slim(place, tmp_path / host)
        environment = os.environ | {"GLOO_SOCKET_IFNAME": end}
        started.append(subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    assert epochs(tmp_path / "mobileseg_a" / "tiny" / "thin") == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "mobileseg_b").exists()
    assert "epoch 6/6" in said[0] and "epoch" not in said[1]
