"""A file of anybody's timed in a process of its own: what a runtime does to it stays there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.latency.measure import Measurement, Operator, measure

# A network that takes seconds per run is no phone's; more means that the runtime hangs.
_SECONDS = 300


def measure_apart(path: Path, threads: int = 1) -> Measurement:
    """Return `measure(path, threads)`. Raises MobilesegError where the runtime breaks over it."""
    command = [sys.executable, "-m", "mobileseg.latency.apart", str(path), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise _broken(path, f"no end after {_SECONDS} s") from None
    lines = done.stdout.decode(errors="replace").splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        status = done.returncode
        ended = f"by signal {-status}" if status < 0 else f"with status {status}"
        raise _broken(path, f"its process ended {ended}") from None
    if "error" in answer:
        raise MobilesegError(answer["error"])
    operators = tuple(Operator(**each) for each in answer.pop("operators"))
    return Measurement(path=path, operators=operators, **answer)


def _broken(path: Path, reason: str) -> MobilesegError:
    return MobilesegError(f"{path}: the runtime cannot run it ({reason}); export it again")


def main() -> None:
    """Arguments: file, threads. Prints the measurement or the error as one line of JSON."""
    path, threads = sys.argv[1:]
    try:
        answer = measure(Path(path), int(threads)).as_dict()
        del answer["file"]
    except MobilesegError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
