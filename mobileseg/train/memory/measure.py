"""What steps of a training really take here: the peak of the process's memory, and seconds."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path

from torch import Tensor

from mobileseg.train.memory.heap import kept_heap
from mobileseg.train.memory.way import Trial

_KB = 1024
_ROUNDS, _LONG = 3, 10.0  # steps of which the middle one counts; fewer where they took such seconds


def measured(trial: Trial, images: Tensor) -> dict[str, float]:
    """Return the most bytes that a step adds to the process, and its seconds."""
    # The first step loads code and starts threads. What it leaves is given back at the end.
    with kept_heap():
        trial.step(images)
    _forget_peak()
    before = _memory("VmRSS")
    trial.step(images)
    peak = _memory("VmHWM") - before
    saving = trial.way.lean or trial.way.recompute
    seconds: list[float] = []
    with nullcontext() if saving else kept_heap():
        trial.step(images)
        while len(seconds) < _ROUNDS and sum(seconds) < _LONG:
            started = time.perf_counter()
            trial.step(images)
            seconds.append(time.perf_counter() - started)
    return {"peak_bytes": peak, "seconds": statistics.median(seconds)}


def free_bytes() -> int:
    """Return the memory that nobody uses."""
    # Where the system does not say: what the least of today's computers have.
    return _line(Path("/proc/meminfo"), "MemAvailable") or 8 * 10**9


def _memory(which: str) -> int:
    """Return bytes that the process has (VmRSS), or had at most (VmHWM)."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, and only the most.
    return _line(Path("/proc/self/status"), which) or most * (
        1 if sys.platform == "darwin" else _KB
    )


def _line(file: Path, name: str) -> int | None:
    """Return the bytes of a line `name: count kB`; None where there is no such file."""
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * _KB
    return None


def _forget_peak() -> None:
    """Let the most that the process had be what it has, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
