"""A phone over adb, timed with the user's own build of TFLite's `benchmark_model`.

What is run there is built as plain lists of words, for a reader and a test to see. The phone's
folder is removed in every case.
"""

from __future__ import annotations

import re
import secrets
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.latency.benchmark_model import read_profile
from mobileseg.latency.measure import Measurement
from mobileseg.latency.place import Job, Say


@dataclass(frozen=True)
class Phone:
    """One phone. serial: as `adb devices` lists it. program: benchmark_model, built for Android."""

    serial: str
    program: Path
    folder: str = "/data/local/tmp/mobileseg-0000"

    def adb(self, *words: str) -> list[str]:
        """A command of adb for this phone."""
        return ["adb", "-s", self.serial, *words]

    def begin(self) -> list[list[str]]:
        """Make the folder and bring the program."""
        target = f"{self.folder}/benchmark_model"
        return [
            self.adb("shell", f"mkdir -p -m 700 {self.folder}"),
            self.adb("push", str(self.program), target),
            self.adb("shell", f"chmod 700 {target}"),
        ]

    def push(self, path: Path, name: str) -> list[str]:
        """Bring a file."""
        return self.adb("push", str(path), f"{self.folder}/{name}")

    def run(self, name: str, *options: str) -> list[str]:
        """Run the program on a file that was brought."""
        words = ["./benchmark_model", f"--graph={name}", *options]
        return self.adb("shell", f"cd {self.folder} && {' '.join(words)}")

    def end(self) -> list[str]:
        """Remove all that was brought."""
        return self.adb("shell", f"rm -rf {self.folder}")


def profile_options(threads: int, runs: int, warmup: int) -> list[str]:
    """Options for the times per operator, as CSV on standard output."""
    return [
        f"--num_threads={threads}",
        f"--num_runs={runs}",
        f"--warmup_runs={warmup}",
        "--use_xnnpack=true",
        "--enable_op_profiling=true",
        "--op_profiling_output_mode=csv",
    ]


def time_options(job: Job) -> list[str]:
    """Options for one visit of a job."""
    return [
        f"--num_threads={job.threads}",
        f"--num_runs={job.least}",
        f"--min_secs={job.ms / 1000}",
        f"--warmup_runs={job.warmup}",
        "--warmup_min_secs=0",
        "--use_xnnpack=true",
    ]


def find_phone(on: str, program: Path | None) -> Phone:
    """Return the phone of `adb` or `adb:serial`. Raises MobilesegError where there is none."""
    _, _, serial = on.partition(":")
    if on.partition(":")[0] != "adb" or (serial and not _SERIAL.fullmatch(serial)):
        raise MobilesegError(f"--on {on!r}: is no phone; give adb or adb:SERIAL (see adb devices)")
    if program is None:
        raise MobilesegError(
            f"--on {on}: a phone is timed with TFLite's benchmark_model; give your build of it "
            "with --benchmark-model PATH"
        )
    if not program.is_file():
        raise MobilesegError(f"--benchmark-model {program}: there is no such file")
    known = listed(_adb(["adb", "devices"]))
    chosen = chosen_serial(serial, known)
    return Phone(chosen, program, f"/data/local/tmp/mobileseg-{secrets.token_hex(4)}")


_SERIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]*")


def listed(text: str) -> dict[str, str]:
    """Return state by serial from what `adb devices` prints."""
    rows = [line.split("\t") for line in text.splitlines() if "\t" in line]
    return {row[0].strip(): row[1].strip() for row in rows}


def chosen_serial(serial: str, known: Mapping[str, str]) -> str:
    """Return the phone that is meant. Raises MobilesegError where it cannot be used."""
    if not known:
        raise MobilesegError(
            "adb: no phone is connected; plug one in with USB debugging on, or run adb connect"
        )
    if not serial and len(known) > 1:
        raise MobilesegError(f"adb: several phones; choose: {_choices(known)}")
    serial = serial or next(iter(known))
    if serial not in known:
        raise MobilesegError(f"adb: no phone {serial!r}; there are: {_choices(known)}")
    state = known[serial]
    if state != "device":
        mend = STATES.get(state, "plug it in again")
        raise MobilesegError(f"adb: phone {serial} is {state}; {mend}")
    return serial


def _choices(known: Mapping[str, str]) -> str:
    return ", ".join(f"--on adb:{serial}" for serial in known)


STATES = {
    "unauthorized": "allow this computer on the phone's screen",
    "offline": "unlock it and plug it in again",
    "no permissions": "this user may not use USB devices: add the udev rules of Android",
}


def profile_on_phone(phone: Phone, name: str, data: bytes, job: Job, runs: int = 50) -> Measurement:
    """Return a file's times and operators on a phone."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / name
        local.write_bytes(data)
        try:
            _all(phone.begin())
            _adb(phone.push(local, name))
            options = profile_options(job.threads, runs, job.warmup)
            printed = Path(folder) / "profile.txt"
            printed.write_text(_adb(phone.run(name, *options)), encoding="utf-8")
            found = read_profile(printed)
        finally:
            _quietly(phone.end())
    runtime = f"{found.runtime} on {phone.serial}"
    return replace(found, path=Path(name), runtime=runtime, threads=job.threads)


def time_on_phone(phone: Phone, job: Job, files: Mapping[str, bytes], say: Say) -> dict[str, Any]:
    """Return what `place.run_job` returns of a board; each visit is one run of the program."""
    visits: dict[str, list[dict[str, float]]] = {name: [] for name in files}
    with tempfile.TemporaryDirectory() as folder:
        try:
            _all(phone.begin())
            for name, data in files.items():
                local = Path(folder) / name
                local.write_bytes(data)
                _adb(phone.push(local, name))
            for number in range(job.rounds):
                for at, name in enumerate(files):
                    printed = _adb(phone.run(name, *time_options(job)))
                    visits[name].append(inference(printed))
                    say(number * len(files) + at + 1)
        finally:
            _quietly(phone.end())
    model = _adb(phone.adb("shell", "getprop ro.product.model")).strip()
    soc = _adb(phone.adb("shell", "getprop ro.soc.model")).strip()
    facts = {"cpu": soc, "board": model, "machine": "aarch64", "system": "Android", "cores": 0}
    return {"files": visits, "runtime": "TFLite benchmark_model"} | facts


def inference(printed: str) -> dict[str, float]:
    """Return one visit from what benchmark_model prints without a profile."""
    found = re.search(r"Inference \(avg\): ([\d.]+(?:e[+-]?\d+)?)", printed)
    if found is None:
        last = (printed.strip().splitlines() or ["nothing"])[-1]
        raise MobilesegError(f"benchmark_model: printed no inference time but: {last[:200]}")
    us = float(found[1])
    return {"us": us, "p90_us": us, "wall_us": us, "runs": 1}


def _all(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        _adb(command)


def _adb(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=600, check=False
        )
    except FileNotFoundError:
        raise MobilesegError("adb: is not installed; on Debian: apt-get install adb") from None
    except subprocess.TimeoutExpired:
        raise MobilesegError(f"adb: no answer within 10 minutes to: {' '.join(command)}") from None
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines() or ["it says nothing"]
        raise MobilesegError(f"adb: {lines[-1]} (in: {' '.join(command[:5])})")
    # benchmark_model logs to standard error; over adb both may come either way.
    return done.stdout + done.stderr


def _quietly(command: Sequence[str]) -> None:
    """Clean up as well as it goes: the error that led here is the one to show."""
    try:
        _adb(command)
    except MobilesegError:
        return
