"""`mobileseg check --arm`: a file on emulated Arm cores, against our execution and this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.arm.emulator import CORES, Core, Emulator, Job
from mobileseg.export.arm.setup import find_emulator, set_up
from mobileseg.export.check import CLASS_SHARE, FLOAT_TOLERANCE, kind_of, steps_apart
from mobileseg.export.runtime import load, pixels_as
from mobileseg.files import shipped
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8
from mobileseg.graph.ir import Array, Graph
from mobileseg.reading.read import read_network
from mobileseg.train.data import read_image, resize_image

Say = Callable[[str], None]

_RUNTIMES = {".tflite": "LiteRT", ".onnx": "ONNX Runtime"}

# XNNPACK's int8 kernels agree to the bit from processor to processor.
STEPS = 1
# An inference there is a hundred times slower than here.
_PICTURES = 4


@dataclass(frozen=True)
class Agreement:
    """How outputs compare.

    In steps for integers, relative to the largest output for reals, by equality for classes.
    """

    share_equal: float
    max_steps: int | None = None
    relative_error: float | None = None

    def problem(self) -> str:
        """Return what is wrong; empty where nothing is."""
        if self.max_steps is not None:
            wrong = self.max_steps > STEPS
            return f"an output is {self.max_steps} steps away; {STEPS} is allowed" if wrong else ""
        if self.relative_error is not None:
            wrong = not self.relative_error <= FLOAT_TOLERANCE
            found, allowed = f"{self.relative_error:.1e}", f"{FLOAT_TOLERANCE:.0e}"
            said = f"an output differs by {found} of the largest; {allowed} is allowed"
            return said if wrong else ""
        wrong = self.share_equal < CLASS_SHARE
        said = f"{100 * self.share_equal:.3f} % of the classes are equal; {100 * CLASS_SHARE:g} % "
        return said + "must be" if wrong else ""


@dataclass(frozen=True)
class OnCore:
    """A file on one core. instructions: of one inference, the median over the pictures.

    against: what it was compared with, by name.
    """

    core: str
    dot_product: bool
    instructions: int
    against: Mapping[str, Agreement]

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        found = {name: agreement.problem() for name, agreement in self.against.items()}
        return [f"{self.core} against {name}: {what}" for name, what in found.items() if what]


@dataclass(frozen=True)
class ArmCheck:
    """A file on all cores. notes: what could not be compared, and why."""

    path: Path
    images: int
    cores: Sequence[OnCore]
    notes: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        cores = [asdict(core) | {"problems": core.problems()} for core in self.cores]
        return {"images": self.images, "cores": cores, "notes": list(self.notes)}

    def require(self) -> None:
        """Raise GateError listing what is wrong, if anything is."""
        problems = [problem for core in self.cores for problem in core.problems()]
        if problems:
            raise GateError(f"{self.path}: {'; '.join(problems)}")


def check_arm(path: Path, setup: bool = False, say: Say = lambda _: None) -> ArmCheck:
    """Run the file on shipped photos on every core, and compare.

    setup: fetch the emulator where it is not there; see `set_up`. Raises MobilesegError where it
    is missing or cannot be had, or where the file does not run here.
    """
    emulator = set_up(say) if setup else find_emulator()
    runner = load(path)
    pixels = pixels_as(_photos(runner.image_size), runner.input_dtype)
    references = {f"{_RUNTIMES[path.suffix]} here": runner(pixels)}
    graph, notes = _readable(path)
    if graph is not None:
        try:
            references = {"our execution": _execute(graph, pixels), **references}
        # A foreign file may hold what our kernels are not made for, each its own way.
        except Exception as error:
            notes = [f"our execution: cannot run it ({type(error).__name__}: {error})"]
    say(f"running {path.name} on {len(pixels)} photos on {' and '.join(CORES)}, emulated")
    compare = _Comparison(graph, references)
    with ThreadPoolExecutor(len(CORES)) as pool:
        jobs = pool.map(lambda core: compare.on(emulator, core, path, pixels), CORES.values())
        return ArmCheck(path, len(pixels), list(jobs), notes)


def count_instructions(paths: Sequence[Path]) -> list[dict[str, int]]:
    """Return the instructions of one inference of each file, per core by name.

    They compare forms of a network without a phone; they are not time. Raises MobilesegError where
    the emulator is not set up or a file does not run.
    """
    emulator = find_emulator()
    jobs = []
    for path in paths:
        runner = load(path)
        jobs.append(Job(path, pixels_as(_photos(runner.image_size)[:1], runner.input_dtype)))
    with ThreadPoolExecutor(len(CORES)) as pool:
        runs = list(pool.map(lambda core: emulator.run(core, jobs), CORES.values()))
    counts = [[run.instructions for run in of_core] for of_core in runs]
    return [dict(zip(CORES, each, strict=True)) for each in zip(*counts, strict=True)]


@dataclass(frozen=True, eq=False)
class _Comparison:
    graph: Graph | None
    references: Mapping[str, Array]

    def on(self, emulator: Emulator, core: Core, path: Path, pixels: Array) -> OnCore:
        (done,) = emulator.run(core, [Job(path, pixels)])
        if not np.isfinite(done.output).all():
            raise GateError(f"{path}: the output on {core.name} holds NaN or infinity")
        against = {
            name: self._agreement(done.output, expected)
            for name, expected in self.references.items()
        }
        return OnCore(core.name, core.dot_product, done.instructions, against)

    def _agreement(self, result: Array, expected: Array) -> Agreement:
        if result.shape != expected.shape:
            raise MobilesegError(f"the output is {result.shape} there and {expected.shape} here")
        equal = float((result == expected).mean())
        if result.dtype in (np.int32, np.int64):
            return Agreement(equal)
        if self.graph is not None and kind_of(self.graph) == "int8":
            return Agreement(equal, int(steps_apart(self.graph, result, expected).max()))
        difference = np.abs(result.astype(np.float64) - expected.astype(np.float64)).max()
        if result.dtype.kind in "iu":
            return Agreement(equal, int(difference))
        largest = max(float(np.abs(expected).max()), 1e-30)
        return Agreement(equal, relative_error=float(difference) / largest)


def _readable(path: Path) -> tuple[Graph | None, list[str]]:
    """Return the file as a graph that computes the same; None, and why, where there is none."""
    try:
        reading = read_network(path)
    except MobilesegError as error:
        return None, [f"our execution: {error}"]
    if reading.notes:
        return None, [f"our execution: {note}" for note in reading.notes]
    return reading.graph, []


def _execute(graph: Graph, pixels: Array) -> Array:
    if kind_of(graph) == "int8":
        return execute_int8(graph, pixels)
    with torch.inference_mode():
        out: Array = execute(graph, torch.from_numpy(pixels)).numpy()
    return out


def _photos(size: tuple[int, int]) -> Array:
    folder = shipped("assets", "data", "public_figures", "images")
    paths = sorted(folder.iterdir())[:_PICTURES]
    return np.stack([resize_image(read_image(path), size) for path in paths])
