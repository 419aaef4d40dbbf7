"""What TFLite's `benchmark_model --enable_op_profiling=true` prints -> times per operator.

Reads the regular form and `--profiling_output_csv_file` (CSV), of builds with a [start] column
(before 2022) and without it.
Source: tensorflow/tensorflow, tensorflow/core/util/stats_calculator.cc.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mobileseg.errors import MobilesegError
from mobileseg.latency.measure import Measurement, Operator

_RUNS = "Operator-wise Profiling Info for Regular Benchmark Runs"
_ORDER = "= Run Order ="
# Both forms name the operator first and the tensor last; either may hold blanks and commas, as in
# "Convolution (NHWC, F32) IGEMM". Between them stand six numbers, seven with a start.
_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?%?"
_REGULAR = r"\s*(?P<kind>\S.*?)\s+(?P<numbers>(?:{number}\s+){{{count}}})(?P<name>\S.*)?"
_CSV = r"\s*(?P<kind>\S.*?)\s*,\s*(?P<numbers>(?:{number}\s*,\s*){{{count}}})(?P<name>.*)"


@dataclass(frozen=True)
class Event:
    """One line of the run order: the kernel, the tensor it writes, what it took in one run.

    times: how often it was called in one run. More than once means that several operators of one
    kind, from several partitions, share the line.
    """

    kind: str
    name: str
    ms: float
    times: int


def read_profile(path: Path) -> Measurement:
    """Read a profile that benchmark_model wrote. Raises MobilesegError where it is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MobilesegError(f"{path}: cannot be read ({error.strerror})") from None
    events = parse_profile(text, str(path))
    whole = _inference_ms(text)
    total = sum(event.ms for event in events)
    return Measurement(
        path=path,
        runtime="TFLite benchmark_model",
        threads=_threads(text),
        runs=_runs(text),
        median_ms=total if whole is None else whole,
        p90_ms=total if whole is None else whole,
        operators=tuple(Operator(event.kind, 1000.0 * event.ms) for event in events),
        how="sum of the operators' means" if whole is None else "benchmark_model's mean",
    )


def parse_profile(text: str, where: str) -> list[Event]:
    """Return the operators in running order.

    Raises MobilesegError where there is no table, or where operators share a line: their own times
    cannot be told apart.
    """
    lines = text.splitlines()
    begin = max((i for i, line in enumerate(lines) if _RUNS in line), default=-1)
    order = next((i for i in range(begin + 1, len(lines)) if _ORDER in lines[i]), None)
    if order is None or order + 1 >= len(lines):
        raise MobilesegError(
            f"{where}: has no 'Run Order' table; "
            "run benchmark_model with --enable_op_profiling=true"
        )
    pattern = _pattern(lines[order + 1], f"{where}: line {order + 2}")
    events = []
    for number, line in enumerate(lines[order + 2 :], order + 3):
        if not line.strip() or line.startswith("="):
            break
        found = pattern.fullmatch(line.rstrip())
        if found is None:
            raise MobilesegError(f"{where}: line {number}: is no operator: {line.strip()[:80]!r}")
        events.append(_event(found))
    if not events:
        raise MobilesegError(f"{where}: line {order + 2}: the 'Run Order' table is empty")
    shared = [event for event in events if event.times > 1]
    if shared:
        raise MobilesegError(
            f"{where}: {shared[0].kind!r} stands for {shared[0].times} operators at once, as "
            "benchmark_model prints a file of several partitions; profile a file that the delegate "
            "takes whole, or run it with --use_xnnpack=false"
        )
    return events


def _pattern(header: str, where: str) -> re.Pattern[str]:
    words = header.lower()
    if "node type" not in words:
        raise MobilesegError(f"{where}: is no header of benchmark_model: {header.strip()[:80]!r}")
    form = _REGULAR if "[" in words else _CSV
    count = 7 if "start" in words else 6
    return re.compile(form.format(number=_NUMBER, count=count))


def _event(found: re.Match[str]) -> Event:
    numbers = [float(part.rstrip("%")) for part in re.split(r"[\s,]+", found["numbers"]) if part]
    mean, times = numbers[-5], int(numbers[-1])
    return Event(found["kind"], (found["name"] or "").strip(), mean * times, times)


def _inference_ms(text: str) -> float | None:
    """The mean of whole runs, which the tool prints with or without a profile."""
    found = re.search(r"Inference \(avg\): ([\d.]+(?:e[+-]?\d+)?)", text)
    return None if found is None else float(found[1]) / 1000.0


def _threads(text: str) -> int | None:
    """The CSV form does not say it."""
    found = re.search(r"(?:Num threads|#threads used for CPU inference): \[(\d+)\]", text)
    return int(found[1]) if found else None


def _runs(text: str) -> int | None:
    counts = re.findall(r"^(?:INFO: )?count=(\d+) ", text, re.MULTILINE)
    return int(counts[-1]) if counts else None
