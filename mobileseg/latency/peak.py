"""What a data sheet lets a device's cores do: no rate of a profile lies above it.

A core's vector pipes start so many multiply-adds a cycle; a kernel that does anything else to an
element needs at least one such slot for it, too.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from mobileseg.latency.error import short
from mobileseg.latency.profile import Coefficients, DeviceProfile, Precision


@dataclass(frozen=True)
class Core:
    """A kind of core: multiply-adds a cycle at float32, and whether it has int8 dot products."""

    name: str
    float32_per_cycle: float
    dot_product: bool
    source: str


Cores = Mapping[str, Core]


def read_cores(path: Path) -> dict[str, Core]:
    """Read the committed facts: kinds of core by name."""
    with path.open(encoding="utf-8") as file:
        return {
            row["core"]: Core(
                row["core"],
                float(row["float32_per_cycle"]),
                row["dot_product"] == "yes",
                row["source"],
            )
            for row in csv.DictReader(file)
        }


def clocks(text: str, threads: int) -> list[tuple[str, float]]:
    """Return the kind and the clock in GHz of every core that a profile's text names.

    One name alone stands for all threads: `Cortex-A72 1.5 GHz`; else each says how many:
    `Cortex-A76 2.84 GHz and 3 at 2.42 GHz`. Of a range the faster end; empty where no core is
    named, as of a GPU.
    """
    found = list(_CORE.finditer(text))
    several = threads if len(found) == 1 else 1
    each: list[tuple[str, float]] = []
    for one in found:
        name = one["name"] or each[-1][0]
        each += [(name, float(one["clock"]))] * int(one["count"] or several)
    return each


_CORE = re.compile(
    r"(?:(?P<count>\d+) )?(?:(?P<name>Cortex-[AX]\d+|Kryo) |at )"
    r"(?:[\d.]+ to )?(?P<clock>[\d.]+) GHz"
)


def peak(text: str, threads: int, precision: Precision, cores: Cores) -> float:
    """Return the units of work, 1e9 a second, that no kernel can exceed; infinite if unknown.

    Source: Arm Architecture Reference Manual: a 128-bit FMLA multiplies 4 float32 or 8 float16,
    SDOT 16 int8; without SDOT, SMLAL multiplies 8 int8.
    """
    each = clocks(text, threads)
    if not each or any(name not in cores for name, _ in each):
        return inf
    return sum(clock * _per_cycle(cores[name], precision) for name, clock in each)


def _per_cycle(core: Core, precision: Precision) -> float:
    at_int8 = 4.0 if core.dot_product else 2.0
    wider = {"float32": 1.0, "float16": 2.0, "int8": at_int8}
    return core.float32_per_cycle * wider[precision]


def held(profile: DeviceProfile, cores: Cores, memory: float) -> DeviceProfile:
    """Return the profile with no rate above its cores' peak, nor above its memory's in GB/s.

    Ratios that another device shows can lead there.
    """

    def most(precision: Precision) -> float:
        return peak(profile.core, profile.threads, precision, cores)

    return replace(
        profile,
        float32=_held(profile.float32, most("float32"), memory),
        float16=profile.float16 and _held(profile.float16, most("float16"), memory),
        int8=profile.int8 and _held(profile.int8, most("int8"), memory),
    )


def _held(table: Coefficients, most: float, memory: float) -> Coefficients:
    kernels = {
        name: replace(kernel, giga_per_s=short_below(most)) if kernel.giga_per_s > most else kernel
        for name, kernel in table.kernels.items()
    }
    slowest = min(table.dram_gb_per_s, memory)
    return replace(table, kernels=kernels, dram_gb_per_s=slowest)


def short_below(value: float) -> float:
    """Four digits, never more than the value."""
    near = short(value)
    return near if near <= value else short(value * (1.0 - 5e-4))
