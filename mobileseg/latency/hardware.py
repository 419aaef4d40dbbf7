"""A profile for a phone that nobody measured: another's, scaled by what their data sheets say.

Only between cores of one generation: scaled by the clock, the first experiment missed networks by
4 to 22 %; across generations by 93 to 213 %, which is refused.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from mobileseg.errors import MobilesegError, unknown
from mobileseg.latency.devices import Threaded
from mobileseg.latency.error import short, together
from mobileseg.latency.profile import (
    KERNELS,
    TRANSFER_FACTOR,
    Basis,
    Coefficients,
    DeviceProfile,
    Kernel,
    Precision,
)

# Clock and memory say nothing of a scheduler, of heat, of a governor. Source: Kirin 980 foretold
# from a Snapdragon 855, both with a Cortex-A76; the upper end of the first experiment's errors.
SPREAD = 1.25


@dataclass(frozen=True)
class Cluster:
    """One kind of core of a system on chip. dram_gb_per_s: 0 where no source was seen."""

    soc: str
    core: str
    clock_ghz: float
    dram_gb_per_s: float
    source: str


def read_clusters(path: Path) -> list[Cluster]:
    """Read the committed hardware facts: fast clusters only, clocks known."""
    with path.open(encoding="utf-8") as file:
        return [
            Cluster(
                row["soc"],
                row["core"],
                float(row["clock_ghz"]),
                float(row["dram_gb_per_s"] or 0.0),
                row["source"],
            )
            for row in csv.DictReader(file)
        ]


def memory_of(clusters: list[Cluster], soc: str) -> float:
    """Return what a chip's memory reaches in GB/s; infinite where no source was seen."""
    known = [one.dram_gb_per_s for one in clusters if one.soc == soc and one.dram_gb_per_s]
    return max(known, default=inf)


def cluster(clusters: list[Cluster], soc: str, core: str) -> Cluster:
    """Return a chip's cores of that kind, the fastest. Raises MobilesegError for an unknown chip.

    A chip that has no such core answers with its fastest one, which `scaled` then refuses.
    """
    mine = sorted((one for one in clusters if one.soc == soc), key=lambda one: -one.clock_ghz)
    if not mine:
        raise unknown("devices transfer", "chip with known facts", soc, {c.soc for c in clusters})
    return next((one for one in mine if one.core == core), mine[0])


def core_of(profile: DeviceProfile) -> tuple[str, float]:
    """Return the core and the clock in GHz that a profile was measured on."""
    found = re.search(r"(Cortex-[AX]\d+|Kryo)\D*?([\d.]+) GHz", profile.core)
    if found is None or profile.accelerator != "cpu":
        raise MobilesegError(
            f"device {profile.name}: {profile.core!r} names no CPU core and clock to scale by"
        )
    return found[1], float(found[2])


def transferred(
    profile: DeviceProfile, facts: Path, soc: str, name: str, title: str
) -> DeviceProfile:
    """Return the profile as the chip `soc` would have it, by the committed hardware facts.

    Raises MobilesegError for a chip without facts, or with cores of another generation.
    """
    clusters = read_clusters(facts / "clusters.csv")
    target = cluster(clusters, soc, core_of(profile)[0])
    memory = [one.dram_gb_per_s for one in clusters if one.soc == profile.soc]
    return scaled(profile, target, max(memory, default=0.0), name, title)


def scaled(
    profile: DeviceProfile, target: Cluster, base_dram: float, name: str, title: str
) -> DeviceProfile:
    """Return the profile at the target's clock and memory, marked as transferred, its band wider.

    base_dram: the measured device's memory in GB/s, 0 if unknown: then memory keeps its speed.
    Raises MobilesegError where the cores are of different generations.
    """
    core, clock = core_of(profile)
    if target.core != core:
        raise MobilesegError(
            f"devices transfer: {target.soc} has {target.core}, {profile.name} was measured on "
            f"{core}: times do not scale by the clock across generations (93 to 213 % off where "
            "it was tried); take a device with the same core, or measure"
        )
    speed = target.clock_ghz / clock
    memory = target.dram_gb_per_s / base_dram if base_dram and target.dram_gb_per_s else 1.0
    note = (
        f"{profile.name} at {target.clock_ghz:g} instead of {clock:g} GHz, "
        f"memory times {short(memory):g}; no TFLite or Paddle-Lite time is public"
    )

    def table(of: Coefficients | None) -> Coefficients | None:
        return None if of is None else _scaled(of, speed, memory, note)

    float32 = table(profile.float32)
    assert float32 is not None
    return replace(
        profile,
        name=name,
        title=title,
        soc=target.soc,
        core=f"{target.core} {target.clock_ghz:g} GHz",
        source=(*profile.source, target.source),
        note=note,
        float32=float32,
        float16=table(profile.float16),
        int8=table(profile.int8),
    )


def _scaled(table: Coefficients, speed: float, memory: float, note: str) -> Coefficients:
    bandwidth = short(table.bandwidth_gb_per_s * speed)
    error = replace(
        table.error,
        check=f"{table.error.check}, before the transfer",
        factor=short(together(table.error.factor, SPREAD)),
    )
    return replace(
        table,
        basis="transferred",
        note=note,
        bandwidth_gb_per_s=bandwidth,
        dram_gb_per_s=min(bandwidth, short(table.dram_gb_per_s * memory)),
        overhead_us=short(table.overhead_us / speed),
        error=error,
        kernels={kernel: _kernel(one, speed, note) for kernel, one in table.kernels.items()},
    )


def _kernel(kernel: Kernel, speed: float, note: str) -> Kernel:
    basis: Basis = "assumed" if kernel.basis == "assumed" else "transferred"
    return replace(
        kernel,
        giga_per_s=short(kernel.giga_per_s * speed),
        error_factor=short(together(kernel.error_factor, SPREAD)),
        basis=basis,
        note=kernel.note if basis == "assumed" else note,
    )


def threaded(
    profile: DeviceProfile, of: DeviceProfile, to: DeviceProfile, goal: Threaded
) -> DeviceProfile:
    """Return the profile with the threads of `to`, by what `of` gains from them kernel by kernel.

    Starting an operator costs what it costs `to`: it is the threads' meeting, not the core's work.
    """
    note = (
        f"{profile.name} times the ratios of {to.name} to {of.name}, kernel by kernel; "
        f"no TFLite or Paddle-Lite time with {to.threads} thread(s) is public"
    )

    def table(mine: Coefficients | None) -> Coefficients | None:
        return None if mine is None else _threaded(mine, of.float32, to.float32, note)

    float32 = table(profile.float32)
    assert float32 is not None
    return replace(
        profile,
        name=goal.name,
        title=goal.title,
        core=goal.core,
        threads=to.threads,
        source=tuple(sorted({*profile.source, *to.source})),
        note=note,
        float32=float32,
        float16=table(profile.float16),
        int8=table(profile.int8),
    )


def _threaded(table: Coefficients, of: Coefficients, to: Coefficients, note: str) -> Coefficients:
    bandwidth = short(table.bandwidth_gb_per_s * to.bandwidth_gb_per_s / of.bandwidth_gb_per_s)
    spread = max(TRANSFER_FACTOR, to.error.factor)
    return replace(
        table,
        basis="transferred",
        note=note,
        bandwidth_gb_per_s=bandwidth,
        dram_gb_per_s=min(
            bandwidth, short(table.dram_gb_per_s * to.dram_gb_per_s / of.dram_gb_per_s)
        ),
        overhead_us=to.overhead_us,
        error=replace(
            table.error,
            check=f"{table.error.check}, before the transfer",
            factor=short(together(spread, table.error.factor)),
        ),
        kernels={
            name: _borrowed(one, to.kernels[name], of.kernels[name], spread, note)
            for name, one in table.kernels.items()
        },
    )


def borrowed(
    float32: Coefficients,
    to: Coefficients,
    of: Coefficients,
    name: str,
    precision: Precision,
    least: float = 0.0,
) -> Coefficients:
    """Another device's gain from float32 to a precision, kernel by kernel, on this device.

    least: the gain that products are given where the other one's runtime shows less.
    """
    note = f"float32 of this device times {name}'s ratios of {precision} to float32"
    if least:
        note += ", no product slower"
    spread = max(TRANSFER_FACTOR, to.error.factor)
    kernels = {
        kernel: _borrowed(
            value,
            to.kernels[kernel],
            of.kernels[kernel],
            spread,
            note,
            least if "MACs" in KERNELS[kernel] else 0.0,
        )
        for kernel, value in float32.kernels.items()
    }
    factor = short(together(spread, float32.error.factor))
    error = replace(to.error, check=f"{name}'s own", factor=factor)
    return replace(float32, basis="transferred", note=note, error=error, kernels=kernels)


def _borrowed(
    kernel: Kernel, to: Kernel, of: Kernel, spread: float, note: str, least: float = 0.0
) -> Kernel:
    basis: Basis = "assumed" if kernel.basis == "assumed" else "transferred"
    return replace(
        kernel,
        giga_per_s=short(kernel.giga_per_s * max(least, to.giga_per_s / of.giga_per_s)),
        reduction_half=short(
            kernel.reduction_half * to.reduction_half / of.reduction_half
            if of.reduction_half
            else to.reduction_half
        ),
        error_factor=short(together(kernel.error_factor, spread)),
        basis=basis,
        note=kernel.note if basis == "assumed" else note,
    )
