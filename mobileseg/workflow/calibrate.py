"""`mobileseg latency calibrate`: a device profile of any machine, from times taken on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.export.tflite import write_tflite
from mobileseg.files import write_atomic
from mobileseg.graph.ir import Graph
from mobileseg.latency.adb import Phone, time_on_phone
from mobileseg.latency.calibrate import FUSES, Noise, calibrated, noise, sample, visits
from mobileseg.latency.design import Model, design
from mobileseg.latency.place import Job, Place, run_job
from mobileseg.latency.profile import Coefficients, DeviceProfile, Precision, precisions
from mobileseg.latency.toml import profile_toml
from mobileseg.quantize.convert import quantize
from mobileseg.workflow.where import Where

COMMAND = "mobileseg latency calibrate"
_ORIGIN = "from times taken on the machine; calibrate again rather than edit"
# Medians over so many rounds: each loads a network anew, and where it comes to lie in memory is
# worth a tenth. A quick calibration times half of the networks.
_ROUNDS, _QUICK_ROUNDS = 7, 4


@dataclass(frozen=True)
class Calibrated:
    """What a calibration found. warning: empty where the machine was quiet."""

    path: Path
    profile: DeviceProfile
    noise: dict[Precision, Noise]
    warning: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "path": str(self.path),
            "device": self.profile.name,
            "title": self.profile.title,
            "threads": self.profile.threads,
            "runtime": self.profile.runtime,
            "warning": self.warning,
            "precisions": {
                precision: {
                    "median_error_percent": table.error.median_percent,
                    "spearman": table.error.spearman,
                    "factor": table.error.factor,
                    "spread_percent": self.noise[precision].spread_percent,
                    "stolen_percent": self.noise[precision].stolen_percent,
                }
                for precision, table in precisions(self.profile)
            },
        }


def file_name(model: Model, precision: Precision) -> str:
    """Return the name of a network's file."""
    return f"{model.name}-{precision}.tflite"


def as_precision(model: Model, precision: Precision) -> Graph:
    """Return the network's graph; int8 with made-up ranges, right in types and sizes."""
    if precision == "float32":
        return model.graph
    return quantize(model.graph, dict.fromkeys(model.graph.tensors, (-1.0, 1.0)), model.ends)


def calibrate_machine(
    name: str,
    out: Path,
    where: Where,
    threads: int,
    quick: bool,
    say: Callable[[int, int], None],
) -> Calibrated:
    """Time the designed networks, fit, write NAME.toml. say: visits done, of how many."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise MobilesegError(f"calibrate: {name!r} is no name; use letters, digits, '_', '-'")
    place = where.place()
    job = Job(threads=threads, rounds=_QUICK_ROUNDS if quick else _ROUNDS, ms=40)
    models = design(quick)
    graphs = {
        (model.name, precision): as_precision(model, precision)
        for precision in PRECISIONS
        for model in models
    }
    files = {
        file_name(model, precision): write_tflite(graphs[model.name, precision])
        for precision in PRECISIONS
        for model in models
    }
    total = job.rounds * len(files)
    answer = _timed(place, job, files, lambda done: say(done, total))
    tables: dict[Precision, Coefficients] = {}
    busy: dict[Precision, Noise] = {}
    for precision in PRECISIONS:
        seen = [visits(answer["files"][file_name(model, precision)]) for model in models]
        busy[precision] = noise(seen)
        samples = [
            sample(graphs[model.name, precision], model.family, one.ms)
            for model, one in zip(models, seen, strict=True)
        ]
        tables[precision] = calibrated(samples, busy[precision])
    day = datetime.now(UTC).date()
    profile = _profile(name, answer, job, len(files), day, tables)
    path = out / f"{name}.toml"
    write_atomic(path, profile_toml(profile, COMMAND, _ORIGIN))
    warning = next((one.warning() for one in busy.values() if one.warning()), "")
    return Calibrated(path, profile, busy, warning)


def _timed(
    place: Place | Phone, job: Job, files: dict[str, bytes], say: Callable[[int], None]
) -> dict[str, Any]:
    if isinstance(place, Phone):
        return time_on_phone(place, job, files, say)
    return run_job(place, job, files, say)


def _profile(
    name: str,
    answer: dict[str, Any],
    job: Job,
    files: int,
    day: date,
    tables: dict[Precision, Coefficients],
) -> DeviceProfile:
    cpu = answer["cpu"] or answer["machine"]
    title = answer["board"] or f"{cpu}, {answer['cores']} cores"
    return DeviceProfile(
        name=name,
        title=title,
        soc=cpu,
        core=f"{cpu} ({answer['machine']})",
        threads=job.threads,
        runtime=answer["runtime"],
        year=day.year,
        source=(
            f"measured on this machine, {day.isoformat()}: {files} networks of the calibration, "
            f"medians of {job.rounds} rounds, {answer['system']}",
        ),
        fuses=FUSES,
        float32=tables["float32"],
        int8=tables["int8"],
        note=tables["float32"].note,
    )


PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
