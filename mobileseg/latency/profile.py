"""A phone as text: what its kernels reach, as a TOML file that people can read and compare.

A profile answers for one device, one runtime and one number of threads; it holds a table of
coefficients per precision and kernel. `assets/devices/*.toml` are written by the fit from
published measurements; a person may write one by hand.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt

from mobileseg.errors import MobilesegError, unknown
from mobileseg.validate import Table, parse

Precision: TypeAlias = Literal["float32", "float16", "int8"]
Basis: TypeAlias = Literal["fitted", "transferred", "assumed"]
Fused: TypeAlias = Literal["pad", "lookup", "winograd"]

# Every band is to hold this share of what it speaks for.
BAND_PERCENT = 80
# Published float32-to-int8 ratios of one network differ by this between cores of one kind.
TRANSFER_FACTOR = 1.25


Positive: TypeAlias = Annotated[float, Gt(0)]
NotNegative: TypeAlias = Annotated[float, Ge(0)]
Factor: TypeAlias = Annotated[float, Ge(1)]
Count: TypeAlias = Annotated[int, Gt(0)]


@dataclass(frozen=True)
class Kernel(Table):
    """What one kernel reaches: the coefficients of `cost.milliseconds`.

    giga_per_s: 1e9 units of work a second at best; a unit is a multiply-add in a convolution and
        an element elsewhere.
    reduction_half, pixels_half: the reduction length and the number of output positions at which
        half of that is reached; 0 where short loops cost nothing.
    channel_tile, pixel_tile: output channels and positions come in steps of this many; a remainder
        costs a whole step.
    error_factor: eight of ten layers of this kernel lie within ms / factor and ms * factor.
    basis: "fitted" to measurements of this device, "transferred" from another device or precision
        by a measured ratio, "assumed" from a relation that `note` states.
    """

    giga_per_s: Positive
    reduction_half: NotNegative
    pixels_half: NotNegative
    channel_tile: Count
    pixel_tile: Count
    error_factor: Factor
    basis: Basis
    note: str


@dataclass(frozen=True)
class FitError(Table):
    """How well the fit foretold measurements that it had not seen.

    check: what was left out ("family": each kind of block or network in turn).
    factor: eight of ten networks lie within ms / factor and ms * factor.
    within_10_percent: share of rows foretold to 10 %.
    inside_percent: share of rows inside a band made without their own family.
    """

    check: str
    rows: Count
    families: Count
    median_percent: NotNegative
    mean_percent: NotNegative
    p90_percent: NotNegative
    within_10_percent: NotNegative
    spearman: Annotated[float, Ge(-1)]
    factor: Factor
    inside_percent: NotNegative


@dataclass(frozen=True)
class Coefficients(Table):
    """One precision of a device.

    bandwidth_gb_per_s: bytes an operator reads and writes that stay in the caches.
    dram_gb_per_s: the same where the operator's data is far larger than `cache_kb`, and what a
        first tile waits for where all that a run touches is far larger than `weights_cache_kb`.
    overlap: 1 where arithmetic and memory traffic add up; towards infinity one hides the other.
    overhead_us: cost of starting one operator.
    """

    basis: Basis
    note: str
    bandwidth_gb_per_s: Positive
    dram_gb_per_s: Positive
    cache_kb: Positive
    weights_cache_kb: Positive
    overlap: Factor
    overhead_us: NotNegative
    error: FitError
    kernels: dict[str, Kernel]

    def doubt(self, kernel: Kernel) -> float:
        """The factor by which a network of that kernel alone is less certain than `error` says.

        A table that is transferred as a whole says so in its own error already.
        """
        if kernel.basis == "assumed":
            return kernel.error_factor
        told = kernel.basis == "fitted" or self.basis == "transferred"
        return 1.0 if told else TRANSFER_FACTOR


@dataclass(frozen=True)
class DeviceProfile(Table):
    """A device, its runtime and thread count, and the coefficients per precision.

    fuses: operators that the runtime folds into the next one and that therefore take no time:
        "pad" into a convolution, "lookup" a chain of point-wise ones at int8 into one table; and
        what it folds arithmetic with: "winograd" for 3x3 convolutions in floats at stride 1.
    source: where the measurements came from. note: what to bear in mind.
    """

    name: str
    title: str
    soc: str
    core: str
    threads: Count
    runtime: str
    year: Count
    source: tuple[str, ...]
    fuses: tuple[Fused, ...]
    float32: Coefficients
    float16: Coefficients | None = None
    int8: Coefficients | None = None
    accelerator: Literal["cpu", "gpu"] = "cpu"
    note: str = ""

    def coefficients(self, precision: Precision) -> Coefficients:
        """The table of one precision. Raises MobilesegError if the device has none."""
        found = dict(precisions(self)).get(precision)
        if found is None:
            raise MobilesegError(
                f"device {self.name}: has no {precision} coefficients, for nobody measured what it "
                f"gains there or its cores cannot; it has {', '.join(dict(precisions(self)))}: "
                f"price one of them, or add a table [{precision}] to the profile"
            )
        return found

    def basis(self, kernel: str, precision: Precision) -> Basis:
        """Whether a kernel's price is fitted, transferred or assumed (`kernel_of` names it).

        Raises MobilesegError if the device does not price that kernel or precision.
        """
        found = self.coefficients(precision).kernels.get(kernel)
        if found is None:
            raise unknown(f"device {self.name}", "kernel", kernel, KERNELS)
        return found.basis


def precisions(profile: DeviceProfile) -> list[tuple[Precision, Coefficients]]:
    """Return the precisions that a profile has a table for."""
    tables: tuple[tuple[Precision, Coefficients | None], ...] = (
        ("float32", profile.float32),
        ("float16", profile.float16),
        ("int8", profile.int8),
    )
    return [(name, table) for name, table in tables if table is not None]


def profiles(folder: Path) -> dict[str, Path]:
    """Return the profiles in a folder by name, in order of name."""
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_profile(path: Path) -> DeviceProfile:
    """Read and check a profile. Raises one MobilesegError that lists every mistake."""
    try:
        return _loaded(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise MobilesegError(f"{path}: cannot be read ({error.strerror})") from None


@lru_cache(maxsize=64)
def _loaded(path: Path, _changed: int) -> DeviceProfile:
    # A ladder's forms are chosen by the same few profiles, asked for dozens of times.
    profile = parse(DeviceProfile, _read(path), path.name)
    mistakes = _contradictions(profile, path)
    if mistakes:
        raise MobilesegError("\n".join(f"{path.name}: {line}" for line in mistakes))
    return profile


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise MobilesegError(f"{path.name}: is not UTF-8 text; write the profile as TOML") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MobilesegError(f"{path.name}: is not TOML: {error}") from None


def _contradictions(profile: DeviceProfile, path: Path) -> list[str]:
    lines = []
    if profile.name != path.stem:
        lines.append(f"name = {profile.name!r}: must be the file's, {path.stem!r}")
    if not profile.source:
        lines.append("source: is empty; say where the measurements come from")
    for precision, table in precisions(profile):
        for name in sorted(table.kernels.keys() - KERNELS.keys()):
            known = ", ".join(KERNELS)
            lines.append(f"{precision}.kernels.{name}: is no kernel; there are: {known}")
        if table.dram_gb_per_s > table.bandwidth_gb_per_s:
            lines.append(
                f"{precision}.dram_gb_per_s = {table.dram_gb_per_s}: is above bandwidth_gb_per_s = "
                f"{table.bandwidth_gb_per_s}; memory is not faster than the caches before it"
            )
    return lines


# Every kernel that can have a price, and what a unit of its work is. `reduction` is what
# `reduction_half` is compared with.
KERNELS: dict[str, str] = {
    "pointwise": "1x1 convolution: MACs; reduction = input channels",
    "dense": "convolution: MACs; reduction = input channels",
    "dilated": "dilated convolution: MACs; reduction = input channels",
    "grouped": "grouped convolution: MACs; reduction = input channels of a group",
    "depthwise": "depthwise convolution: MACs; reduction = kernel",
    "depthwise_dilated": "dilated depthwise convolution: MACs; reduction = kernel",
    "transposed": "transposed convolution: MACs; reduction = input channels * kernel / stride",
    "relu": "relu of any kind alone: elements; reduction = 1",
    "sigmoid": "sigmoid: elements; reduction = 1",
    "hard_swish": "hard swish: elements; reduction = 1",
    "hard_sigmoid": "hard sigmoid: elements; reduction = 1",
    "neg": "minus: elements; reduction = 1",
    "add": "addition: elements; reduction = 1",
    "mul": "multiplication: elements; reduction = 1",
    "concat": "concatenation: elements; reduction = channels",
    "pad": "zero padding: elements; reduction = channels",
    "crop": "crop: elements; reduction = channels",
    "depth_to_space": "depth to space: elements; reduction = output channels",
    "max_pool": "maximum pooling: elements * window; reduction = window",
    "mean_pool": "mean pooling: elements * window; reduction = window",
    "global_mean": "mean over the picture: input elements; reduction = height * width",
    "resize_bilinear": "bilinear resize: output elements; reduction = channels",
    "resize_nearest": "nearest resize: output elements; reduction = channels",
    "softmax": "softmax: elements; reduction = channels",
    "argmax": "argmax: input elements; reduction = channels",
    "quantize": "float to integer, or integer to integer: elements; reduction = 1",
    "dequantize": "integer to float: elements; reduction = 1",
}
