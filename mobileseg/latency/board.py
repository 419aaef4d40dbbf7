"""A program that times .tflite files wherever there is Python with LiteRT or tflite-runtime.

It stands alone: it is sent as text to a board and imports nothing of mobileseg. Standard input
holds, after this program itself: a line of JSON (the job), a line with a length, a .tar.gz of that
length. Then input stays open; where it ends early, whoever asked is gone and the program stops.
Standard output gets a line of JSON for each step and one at the end. The folder it unpacks to is
removed in every case.
"""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Any


def runtime() -> tuple[Any, str]:
    """Return the interpreter class and the runtime's name. Raises ImportError without one."""
    try:
        import ai_edge_litert  # noqa: PLC0415
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

        return Interpreter, f"LiteRT {ai_edge_litert.__version__}"
    except ImportError:
        import tflite_runtime  # noqa: PLC0415
        from tflite_runtime.interpreter import Interpreter  # noqa: PLC0415

        return Interpreter, f"tflite-runtime {tflite_runtime.__version__}"


def time_files(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Return {"files": {name: [{"us", "p90_us", "wall_us", "runs"} per round]}}.

    The files take turns, so that what disturbs the machine for a while disturbs all alike. With
    one thread the clock is the process's own, which stands still while another process has the
    core; the wall clock beside it says how much that was.
    """
    maker, name = runtime()
    files: dict[str, list[dict[str, float]]] = {file: [] for file in job["files"]}
    for number in range(job["rounds"]):
        for file, visits in files.items():
            visits.append(_visit(maker, folder / file, job))
            _tell({"round": number, "file": file})
    return {"files": files, "runtime": name} | machine()


def _visit(maker: Any, path: Path, job: dict[str, Any]) -> dict[str, float]:
    interpreter = maker(model_path=str(path), num_threads=job["threads"])
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.tensor(detail["index"])()[...] = 0
    for _ in range(job["warmup"]):
        interpreter.invoke()
    clock = time.process_time_ns if job["threads"] == 1 else time.perf_counter_ns
    spent: list[float] = []
    begin = time.perf_counter_ns()
    until = begin + job["ms"] * 1_000_000
    while len(spent) < job["least"] or (
        time.perf_counter_ns() < until and len(spent) < job["most"]
    ):
        start = clock()
        interpreter.invoke()
        spent.append((clock() - start) / 1000.0)
    wall = (time.perf_counter_ns() - begin) / 1000.0 / len(spent)
    spent.sort()
    return {
        "us": spent[len(spent) // 2],
        "p90_us": spent[len(spent) * 9 // 10],
        "wall_us": wall,
        "runs": len(spent),
    }


def machine() -> dict[str, Any]:
    """Return what the machine is: processor, board, cores, load."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {
        "cpu": _cpu(),
        "board": _first("/proc/device-tree/model"),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count() or 1,
        "load": load,
    }


def _cpu() -> str:
    facts: dict[str, str] = {}
    for line in _text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip().lower(), value.strip())
    for key in ("model name", "hardware", "cpu model"):
        if facts.get(key):
            return facts[key]
    if "cpu part" in facts:
        implementer = facts.get("cpu implementer", "?")
        return f"implementer {implementer} part {facts['cpu part']}"
    return platform.processor() or platform.machine()


def _first(path: str) -> str:
    return _text(path).replace("\0", "").strip()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def profile(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Return what `litert_profile.py`, sent beside the file, prints of it."""
    program = folder / "litert_profile.py"
    if not program.is_file():
        return {}
    numbers = [str(job[key]) for key in ("threads", "least", "warmup")]
    command = [sys.executable, str(program), str(folder / job["files"][0]), *numbers]
    try:
        done = subprocess.run(command, capture_output=True, timeout=job["patience"], check=False)
        answer = json.loads(done.stdout.decode(errors="replace").splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"profile": {"unsupported": "the profiler gave no answer in time"}}
    except (IndexError, ValueError):
        return {"profile": {"unsupported": "the profiler's process did not end well"}}
    return {"profile": answer}


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _stop_when_left(folder: Path) -> None:
    """End, and clean up, as soon as nobody listens any more."""
    while sys.stdin.buffer.read(1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(3)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(3)


def main() -> None:
    """Read the job, run it, print the answer."""
    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, _leave)
    given = sys.stdin.buffer
    job = json.loads(given.readline())
    packed = given.read(int(given.readline()))
    folder = Path(tempfile.mkdtemp(prefix="mobileseg-"))
    try:
        threading.Thread(target=_stop_when_left, args=(folder,), daemon=True).start()
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
            for member in tar:
                source = tar.extractfile(member)
                if source is not None:
                    (folder / Path(member.name).name).write_bytes(source.read())
        answer = time_files(folder, job) | profile(folder, job)
        _tell({"done": answer})
    except ImportError:
        _tell({"no_runtime": sys.executable, "python": platform.python_version()})
    except Exception as error:  # whatever it is, the one who asked must hear of it
        _tell({"error": f"{type(error).__name__}: {error}"})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        sys.stdout.flush()
    # The thread that waits for the end of input must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
