"""Instructions of the calibration's networks on an emulated Arm core, fitted as a profile is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mobileseg.export.arm.emulator import CORES, Job
from mobileseg.export.arm.setup import set_up
from mobileseg.export.tflite import write_tflite
from mobileseg.files import write_atomic
from mobileseg.latency.calibrate import FUSES, Noise, calibrated, sample
from mobileseg.latency.design import Model, design
from mobileseg.latency.profile import Coefficients, DeviceProfile, Precision
from mobileseg.latency.toml import profile_toml
from mobileseg.workflow.calibrate import as_precision, file_name
from mobileseg.workflow.forms import ARM_COUNTS

COMMAND = "python -m tests.bench arm"
ORIGIN = "from instructions counted under emulation; count again rather than edit"
# As the phones' fast cores of 2019 and later have it.
CORE = next(core for core in CORES.values() if core.dot_product)
_AT_ONCE = 50


def count_arm(folder: Path, out: Path, say: Callable[[str], None]) -> None:
    """Write the instruction counts of one inference, in millions, as a device profile."""
    models = design()
    float32, int8 = (_table(models, each, folder, say) for each in ("float32", "int8"))
    made = profile(float32, int8, 2 * len(models), datetime.now(UTC).year)
    write_atomic(out, profile_toml(made, COMMAND, ORIGIN).encode())


def profile(float32: Coefficients, int8: Coefficients, networks: int, year: int) -> DeviceProfile:
    """Return the counts as a profile that says what it is."""
    return DeviceProfile(
        name=ARM_COUNTS,
        title="Arm with dot product, millions of instructions instead of milliseconds",
        soc="none: emulated",
        core=f"{CORE.name} under user-mode emulation",
        threads=1,
        runtime="LiteRT 2.3.0",
        year=year,
        source=(f"instructions of one inference of the {networks} networks of the calibration",),
        fuses=FUSES,
        float32=float32,
        int8=int8,
        note="counts are no times: they compare two forms of an operator, nothing else",
    )


def _table(
    models: list[Model], precision: Precision, folder: Path, say: Callable[[str], None]
) -> Coefficients:
    graphs = [as_precision(model, precision) for model in models]
    jobs = []
    for model, graph in zip(models, graphs, strict=True):
        path = folder / file_name(model, precision)
        path.write_bytes(write_tflite(graph))
        given = graph[graph.inputs[0]]
        jobs.append(Job(path, np.zeros(given.shape, given.dtype)))
    samples = [
        sample(graph, model.family, count / 1e6)
        for model, graph, count in zip(models, graphs, _counts(jobs, say), strict=True)
    ]
    # The same every time: nothing to widen the bands for.
    return calibrated(samples, Noise(0.0, 0.0))


def _counts(jobs: list[Job], say: Callable[[str], None]) -> Iterator[int]:
    emulator = set_up(say)
    for start in range(0, len(jobs), _AT_ONCE):
        say(f"networks {start} to {min(start + _AT_ONCE, len(jobs))} of {len(jobs)}")
        runs = emulator.run(CORE, jobs[start : start + _AT_ONCE])
        yield from (run.instructions for run in runs)
