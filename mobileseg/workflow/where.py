"""The machine that files are timed on: this one, a board over ssh, a phone over adb."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobileseg.latency.adb import Phone, find_phone, profile_on_phone
from mobileseg.latency.measure import Measurement, medians
from mobileseg.latency.place import HERE, Job, Place, run_job, ssh_place


@dataclass(frozen=True)
class Where:
    """Where to time: here by default; on: `ssh://user@host:port`, `adb` or `adb:SERIAL`."""

    on: str = ""
    python: str = "python3"
    ssh_config: Path | None = None
    benchmark_model: Path | None = None

    def place(self) -> Place | Phone:
        """Return the machine. Raises MobilesegError where it cannot be meant or found."""
        if not self.on:
            return HERE
        if self.on.startswith("adb"):
            return find_phone(self.on, self.benchmark_model)
        return ssh_place(self.on, self.python, self.ssh_config)


THIS_MACHINE = Where()


def measure_on(data: bytes, where: Where, threads: int) -> Measurement:
    """Return a .tflite file's times, and its operators' where the runtime there tells them."""
    place = where.place()
    name = "network.tflite"
    job = Job(threads=threads, rounds=3, warmup=5, ms=500, least=20)
    if isinstance(place, Phone):
        return profile_on_phone(place, name, data, job)
    answer = run_job(place, job, {name: data}, lambda _done: None, profiler=True)
    seen = answer["files"][name]
    profile = answer.get("profile", {})
    operators = medians(profile["operators"]) if "operators" in profile else ()
    how = "LiteRT's profiler" if operators else f"whole network only: {profile.get('unsupported')}"
    return Measurement(
        Path(name),
        f"{answer['runtime']} on {place.name} ({answer['cpu']})",
        threads,
        int(sum(one["runs"] for one in seen)),
        float(np.median([one["us"] for one in seen])) / 1000.0,
        float(np.median([one["p90_us"] for one in seen])) / 1000.0,
        operators,
        how,
    )
