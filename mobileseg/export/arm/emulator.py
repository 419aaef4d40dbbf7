"""The emulator at work: a file, a core and inputs in; outputs and instruction counts back."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.export.arm.packages import GUEST, PYTHON
from mobileseg.graph.ir import Array

# A large network's inference takes seconds there, and Python's start ten.
_PATIENCE_S = 900


@dataclass(frozen=True)
class Core:
    """A processor to emulate. QEMU's name, and what Linux says of it in /proc/cpuinfo.

    XNNPACK picks its kernels by that text, and crashes where text and processor disagree.
    """

    name: str
    part: str
    features: str
    dot_product: bool

    def cpuinfo(self) -> str:
        """Return the text of /proc/cpuinfo for one such core."""
        return (
            "processor\t: 0\nBogoMIPS\t: 243.75\n"
            f"Features\t: {self.features}\n"
            "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\n"
            f"CPU part\t: {self.part}\nCPU revision\t: 1\n\n"
        )


# QEMU's `max` is left out: its vectors of variable length give wrong results.
CORES: Mapping[str, Core] = {
    core.name: core
    for core in (
        Core(
            "neoverse-n1",
            "0xd0c",
            "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
            "dcpop asimddp",
            dot_product=True,
        ),
        Core(
            "cortex-a72",
            "0xd08",
            "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid",
            dot_product=False,
        ),
    )
}


@dataclass(frozen=True, eq=False)
class Job:
    """A .tflite or .onnx file, and inputs `(N, C, H, W)` of its own type."""

    file: Path
    images: Array

    def stored(self) -> Array:
        """Return the inputs in the file's own layout."""
        return self.images.transpose(0, 2, 3, 1) if self._channels_last else self.images

    def ours(self, output: Array) -> Array:
        """Return the file's output channels first; classes have no channels."""
        return np.moveaxis(output, 3, 1) if self._channels_last and output.ndim == 4 else output

    @property
    def _channels_last(self) -> bool:
        return self.file.suffix == ".tflite"


@dataclass(frozen=True, eq=False)
class ArmRun:
    """Outputs `(N, C, H, W)` in the file's own type; instructions: of one inference, the median."""

    output: Array
    instructions: int


# What the user's shell preloads or sets is not for the Arm system.
CLEAN: Mapping[str, str] = {"LC_ALL": "C.UTF-8", "PATH": os.defpath}


@dataclass(frozen=True)
class Emulator:
    """A folder that holds the emulator, the Arm system and the wheels."""

    folder: Path

    def command(self, core: Core, log: Path, *words: object) -> list[str]:
        """Return the command that runs `guest.py` on the core; counts go to the log."""
        qemu = [*self.native("qemu-aarch64"), "-cpu", core.name, "-L", self.folder / core.name]
        # QEMU takes a comma for the end of the name, and two for one.
        plugin = str(self.folder / "count.so").replace(",", ",,")
        counting = ["-plugin", plugin, "-d", "plugin", "-D", log]
        python = self.folder / "arm" / "usr" / "bin" / f"python{PYTHON}"
        # -I: nothing of the user's Python reaches in.
        called = [python, "-I", GUEST, self.folder / "wheels", *words]
        return [str(word) for word in (*qemu, *counting, *called)]

    def run(self, core: Core, jobs: Sequence[Job]) -> list[ArmRun]:
        """Run files, each on its inputs one by one, all in one process: its start is the dear part.

        Raises MobilesegError naming the file that does not run there.
        """
        with tempfile.TemporaryDirectory() as scratch:
            log = Path(scratch) / "counts"
            words: list[Path] = []
            for number, job in enumerate(jobs):
                given, made = (Path(scratch) / f"{number}.{end}.npy" for end in ("in", "out"))
                np.save(given, job.stored())
                words += [job.file.resolve(), given, made]
            said = _start(self.command(core, log, *words), _PATIENCE_S * len(jobs))
            results = words[2::3]
            if said:
                ended = sum(made.is_file() for made in results)
                guilty = jobs[min(ended, len(jobs) - 1)].file
                raise MobilesegError(
                    f"{guilty}: does not run on {core.name}: {said}; export it again"
                )
            outputs = [job.ours(np.load(made)) for job, made in zip(jobs, results, strict=True)]
            marks = np.array([int(line) for line in log.read_text(encoding="ascii").split()])
        runs = []
        for job, output in zip(jobs, outputs, strict=True):
            # A mark before and one after each run; the first run of all only sets things up.
            mine, marks = np.split(marks, [2 * (1 + len(job.images))])
            runs.append(ArmRun(output, int(np.median(np.diff(mine)[2::2]))))
        return runs

    def native(self, program: str) -> list[str]:
        """Return the words that start a program of Debian's with Debian's own C library."""
        host = self.folder / "host"
        libraries = ":".join(str(host / part / "x86_64-linux-gnu") for part in ("lib", "usr/lib"))
        loader = host / "lib64" / "ld-linux-x86-64.so.2"
        return [str(loader), "--library-path", libraries, str(host / "usr" / "bin" / program)]


def _start(command: Sequence[str], patience: float) -> str:
    """Run the command; return what went wrong, nothing where nothing did."""
    try:
        done = subprocess.run(
            command, env=CLEAN, capture_output=True, text=True, timeout=patience, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end after {patience:g} s"
    except OSError as error:
        return str(error.strerror)
    if not done.returncode:
        return ""
    lines = done.stderr.strip().splitlines() or [""]
    return lines[-1] if done.returncode > 0 else f"it ended by signal {-done.returncode}"
