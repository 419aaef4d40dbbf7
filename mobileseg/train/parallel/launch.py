"""Starts the processes that train together on one machine, and watches them. Imports no torch."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from mobileseg.errors import MobilesegError

LAUNCHED = "MOBILESEG_LAUNCHED"
"""Set for processes whose end is noticed, and explained, by the one that started them."""

# For the first process to say itself what is wrong, where all of them found it.
_GRACE_SECONDS = 3.0
_POLL_SECONDS = 0.1
_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG


def ranked(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several: started by `launch` or by torchrun."""
    return "RANK" in environment and int(environment.get("WORLD_SIZE", "1")) > 1


@dataclass
class _Process:
    rank: int
    running: subprocess.Popen[bytes]
    said: IO[bytes]  # stderr of all but the first

    def ended(self) -> str:
        """Return how it ended."""
        code = self.running.returncode
        if code >= 0:
            return f"ended with code {code}"
        return f"was ended by signal {-code} ({signal.Signals(-code).name})"

    def last_words(self) -> str:
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return "\n".join(errors or lines[-1:])


def launch(count: int, command: Sequence[str]) -> int:
    """Run a command as so many processes, as torchrun would; return the first one's exit code.

    Raises MobilesegError where another one ends before it: then all are ended.
    """
    with _started(count, command) as processes:
        first, others = processes[0], processes[1:]
        while first.running.poll() is None:
            broken = next((each for each in others if each.running.poll()), None)
            if broken is None:
                time.sleep(_POLL_SECONDS)
                continue
            if not _waited(first, _GRACE_SECONDS):
                raise _lost(broken, count)
        if first.running.returncode < 0:
            raise _lost(first, count)
        if first.running.returncode == 0:
            for each in others:
                _waited(each, _GRACE_SECONDS)
        return first.running.returncode


def _lost(process: _Process, count: int) -> MobilesegError:
    why = process.last_words() if process.rank else ""
    return MobilesegError(
        f"devices: process {process.rank} of {count} {process.ended()}"
        f"{f': {why}' if why else ''}; nothing is lost but the steps since the last checkpoint: "
        "the same command goes on from there"
    )


def _waited(process: _Process, seconds: float) -> bool:
    """Return whether it ends in time."""
    try:
        process.running.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def _started(count: int, command: Sequence[str]) -> Iterator[list[_Process]]:
    """Start the processes; none is left when the context ends, however it does."""
    meeting = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        LAUNCHED: "1",
    }
    processes: list[_Process] = []
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for rank in range(count):
            said = tempfile.TemporaryFile()  # noqa: SIM115  (closed below)
            running = subprocess.Popen(
                command,
                env=os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.DEVNULL if rank else None,
                stderr=said if rank else None,
                # No threads here, which it would not get on with.
                preexec_fn=_obey_parent if os.name == "posix" else None,  # noqa: PLW1509
            )
            processes.append(_Process(rank, running, said))
        yield processes
    finally:
        _end(processes)
        signal.signal(signal.SIGTERM, before)


def _obey_parent() -> None:
    # Ctrl-C reaches all processes of a terminal: the one that started them answers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def _end(processes: Sequence[_Process]) -> None:
    for each in processes:
        each.running.terminate()
    for each in processes:
        if not _waited(each, _GRACE_SECONDS):
            each.running.kill()
            each.running.wait()
        each.said.close()


def free_port() -> int:
    """Return a port of this machine that nobody listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
