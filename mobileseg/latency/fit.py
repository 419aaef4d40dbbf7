"""Published measurements -> `assets/devices/*.toml`, the same bytes every time.

The coefficients are non-negative, the price never falls when a layer grows and never lies below
the roofline: the formula of `cost` cannot do otherwise. The error stands in the profile and comes
from rows that the fit had not seen: every family (a kind of block, an architecture) is left out in
turn and foretold from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.files import write_atomic
from mobileseg.latency.accuracy import Line, accuracy_text
from mobileseg.latency.devices import (
    CHANNEL_TILE,
    DEVICES,
    RELATIONS,
    STARTS,
    TILED,
    TRANSFERS,
    Device,
    gpu_start,
    start,
)
from mobileseg.latency.error import (
    FEW_FAMILIES,
    LEAST_FACTOR,
    UNSEEN_FACTOR,
    fit_error,
    layer_power,
    macs_only,
    short,
)
from mobileseg.latency.facts import Measured, read_facts
from mobileseg.latency.hardware import borrowed, transferred
from mobileseg.latency.profile import (
    Coefficients,
    DeviceProfile,
    FitError,
    Kernel,
    Precision,
    precisions,
)
from mobileseg.latency.solve import (
    OWN,
    SHARED,
    Floats,
    Prior,
    Problem,
    Solution,
    names,
    operators_ms,
    problem,
    rows_ms,
    solve,
)
from mobileseg.latency.toml import profile_toml

COMMAND = "mobileseg devices fit"
# Every k-th block of a kind with thousands is enough for twenty coefficients; all are foretold.
THIN = 3


@dataclass(frozen=True)
class Fitted:
    """The coefficients of one device and precision, and what they came from.

    naive: the error of the model that knows nothing but multiply-adds, checked alike.
    layer_power: a layer's band is the network's to this power.
    """

    solution: Solution
    data: Problem
    pixel_tile: int
    error: FitError
    naive: FitError
    layer_power: float


Done: TypeAlias = dict[tuple[str, Precision], Fitted]


def fit_devices(
    facts: Path, out: Path, say: Callable[[str], None], only: Sequence[str] = ()
) -> list[Path]:
    """Fit every device (or those named and their donors), write the profiles, return the paths.

    `say` receives a line per device: the cross-validated errors. The table of all of them is
    written beside the profiles, unless only some devices were named.
    """
    rows = read_facts(facts)
    fitted: Done = {}
    lines, written = [], []
    for device in chosen(only):
        for precision in PRECISIONS:
            own = [r for r in rows if (r.device, r.precision) == (device.name, precision)]
            if own:
                fitted[device.name, precision] = _fit(device, precision, own, fitted)
        if (device.name, "float32") not in fitted:
            raise MobilesegError(f"devices: {device.name} has no float32 row in the tables")
    made = {device.name: device_profile(device, rows, fitted) for device in chosen(only)}
    for one in TRANSFERS if not only else ():
        made[one.name] = transferred(made[one.base], facts, one.soc, one.name, one.title)
    for name, profile in made.items():
        path = out / f"{name}.toml"
        write_atomic(path, profile_toml(profile, COMMAND))
        written.append(path)
        for precision, table in precisions(profile):
            own_fit = fitted.get((name, precision))
            lines.append(Line(profile, precision, table, own_fit.naive if own_fit else None))
            say(lines[-1].text())
    if not only:
        path = out / "ACCURACY.md"
        write_atomic(path, accuracy_text(lines, COMMAND))
        written.append(path)
    return written


def chosen(only: Sequence[str]) -> list[Device]:
    """The devices named and all that they need, in the order of fitting; all if none is named."""
    by_name = {device.name: device for device in DEVICES}
    for name in only:
        if name not in by_name:
            raise MobilesegError(f"devices: {name!r} has no facts; there are: {', '.join(by_name)}")
    wanted = list(only or by_name)
    for name in wanted:
        need = by_name[name]
        wanted += [other for other in (need.donor, need.like) if other not in ("", *wanted)]
    return [device for device in DEVICES if device.name in wanted]


def _fit(device: Device, precision: Precision, own: Sequence[Measured], fitted: Done) -> Fitted:
    """Fit a precision's rows: from scratch, or from what is known of the device or its donor."""
    prior = _prior(device, precision, fitted, len({row.family for row in own}))
    tile = device.pixel_tile
    data = problem(own, {kernel: _tiles(kernel, tile) for kernel in STARTS})
    thin = _thin(own)
    families = [row.family for row in own]
    part = data.subset(thin)
    solution = solve(part, prior(part))
    foretold, doubts = _foretold(data, np.array(families), thin, prior)
    least = GPU_FACTOR if device.accelerator == "gpu" else LEAST_FACTOR
    return Fitted(
        solution,
        data,
        tile,
        fit_error("family", foretold, data.ms, families, doubts, least),
        fit_error("family", macs_only(_macs(own), data.ms, families), data.ms, families),
        layer_power(data, solution.theta),
    )


PriorOf: TypeAlias = Callable[[Problem], dict[str, Prior]]


def _prior(device: Device, precision: Precision, fitted: Done, families: int) -> PriorOf:
    if precision != "float32":
        float32 = fitted[device.name, "float32"]
        pattern = _pattern(device, precision, fitted)
        if pattern is None or families > FEW_FAMILIES:
            return partial(_donated, _values(float32), PRECISION_SPREAD)
        return partial(_donated, _scaled(_values(float32), *map(_values, pattern)), RATE_SPREAD)
    if device.donor:
        return partial(_donated, _values(fitted[device.donor, "float32"]), RATE_SPREAD)
    if device.accelerator == "gpu":
        return lambda data: gpu_start(data.kernels)
    return partial(_alike, device.speed)


def _alike(speed: float, data: Problem) -> dict[str, Prior]:
    """The start of a device, its dense convolutions as fast as its pointwise ones.

    Both run the same micro-kernel, and the blocks hold no dense convolution but a network's first,
    whose three input channels say little of the rate for many.
    """
    prior = start(speed, data.kernels)
    at = names(data.kernels).index("pointwise.giga_per_s")
    rate = float(np.exp(solve(data, prior, steps=8).theta[at]))
    return prior | {"dense.giga_per_s": Prior(rate, ALIKE_SPREAD)}


def _pattern(device: Device, precision: Precision, fitted: Done) -> tuple[Fitted, Fitted] | None:
    """The device whose ratios of a precision to float32 are taken: those two fits, if it has."""
    like = fitted.get((device.like, precision))
    return None if like is None else (like, fitted[device.like, "float32"])


def _values(fitted: Fitted) -> dict[str, float]:
    known = np.exp(fitted.solution.theta).tolist()
    return dict(zip(names(fitted.data.kernels), known, strict=True))


def _scaled(
    values: dict[str, float], to: dict[str, float], of: dict[str, float]
) -> dict[str, float]:
    """Rates times the ratio that another device shows between two precisions."""
    return {
        name: value * to[name] / of[name] if name.endswith("giga_per_s") else value
        for name, value in values.items()
    }


def _donated(known: dict[str, float], spread: float, data: Problem) -> dict[str, Prior]:
    """Known coefficients; all rates scaled by what the median row is slower or faster."""
    values = start(1.0, data.kernels)
    values |= {
        name: Prior(value, spread if name.endswith("per_s") else SHAPE_SPREAD)
        for name, value in known.items()
        if name in values
    }
    theta = np.log([values[name].value for name in names(data.kernels)])
    scale = float(np.exp(np.median(np.log(rows_ms(data, theta) / data.ms))))
    return {
        name: replace(one, value=one.value * scale) if name.endswith("per_s") else one
        for name, one in values.items()
    }


def _tiles(kernel: str, tile: int) -> tuple[int, int]:
    if kernel in TILED:
        return CHANNEL_TILE, tile
    return (CHANNEL_TILE if kernel == "depthwise" else 1), 1


def _thin(own: Sequence[Measured]) -> NDArray[np.bool_]:
    count: dict[str, int] = {}
    keep = []
    for row in own:
        count[row.family] = count.get(row.family, -1) + 1
        keep.append(count[row.family] % THIN == 0 or len(own) < 1000)
    return np.array(keep)


def _foretold(
    data: Problem, families: NDArray[np.str_], thin: NDArray[np.bool_], prior: PriorOf
) -> tuple[Floats, Floats]:
    """Times of every family by coefficients that come from the others, and the rows' doubts."""
    foretold, doubts = np.zeros(len(data.ms)), np.zeros(len(data.ms))
    for family in sorted(set(families.tolist())):
        here = families == family
        rest, part = data.subset(thin & ~here), data.subset(here)
        found = solve(rest, prior(rest))
        foretold[here] = rows_ms(part, found.theta)
        doubts[here] = _doubts(part, found)
    return foretold, doubts


def _doubts(part: Problem, found: Solution) -> Floats:
    """What kernels that the fit has not seen add to a row's band: shares of time, by kernel."""
    times, count = operators_ms(part, found.theta), len(part.ms)
    total = np.bincount(part.row, times, count)
    squares = np.zeros(count)
    for kernel in range(len(part.kernels)):
        if not found.seen[len(SHARED) + kernel * len(OWN)]:
            mine = part.kernel == kernel
            share = np.bincount(part.row[mine], times[mine], count) / total
            squares += (np.log(UNSEEN_FACTOR) * share) ** 2
    return np.asarray(np.sqrt(squares))


def _macs(own: Sequence[Measured]) -> Floats:
    return np.array([sum(op.work for op in row.operators if op.macs) for row in own], np.float64)


def device_profile(device: Device, rows: Sequence[Measured], fitted: Done) -> DeviceProfile:
    """Gather a device's tables into its profile."""
    return DeviceProfile(
        name=device.name,
        title=device.title,
        soc=device.soc,
        core=device.core,
        accelerator=device.accelerator,
        threads=device.threads,
        runtime=device.runtime,
        year=device.year,
        source=tuple(sorted({row.source for row in rows if row.device == device.name})),
        note=device.note,
        fuses=("pad",),
        float32=coefficients(fitted[device.name, "float32"]),
        float16=_other(device, "float16", fitted),
        int8=_other(device, "int8", fitted),
    )


def _other(device: Device, precision: Precision, fitted: Done) -> Coefficients | None:
    """A precision beside float32: its own fit, or the device's float32 times another's ratios."""
    own = fitted.get((device.name, precision))
    if own is not None:
        return coefficients(own)
    pattern = _pattern(device, precision, fitted)
    if pattern is None:
        return None
    float32 = coefficients(fitted[device.name, "float32"])
    to, of = map(coefficients, pattern)
    return borrowed(float32, to, of, device.like, precision)


def coefficients(fitted: Fitted) -> Coefficients:
    """Return a precision's table: the fitted kernels, then those derived from them."""
    values: Floats = np.exp(fitted.solution.theta)
    bandwidth, ratio, cache, overlap, overhead = map(float, values[: len(SHARED)])
    own = np.asarray(values[len(SHARED) :]).reshape(-1, len(OWN))
    kernels = {}
    for i, name in enumerate(fitted.data.kernels):
        seen = fitted.solution.seen[len(SHARED) + i * len(OWN)]
        if not seen and name in RELATIONS:
            continue
        kernels[name] = _kernel(fitted, name, own[i], bool(seen))
    for name, relation in RELATIONS.items():
        if name not in kernels:
            like = kernels[relation.like]
            kernels[name] = replace(
                like,
                giga_per_s=short(like.giga_per_s * relation.share),
                reduction_half=relation.reduction_half,
                error_factor=short(max(relation.error_factor, like.error_factor)),
                basis="assumed",
                note=f"{relation.share:g} of the rate of {relation.like}: {relation.note}",
            )
    return Coefficients(
        basis="fitted",
        note="",
        bandwidth_gb_per_s=short(bandwidth),
        dram_gb_per_s=short(bandwidth / (1.0 + ratio)),
        cache_kb=short(cache),
        overlap=short(1.0 + overlap),
        overhead_us=short(overhead),
        error=fitted.error,
        kernels=kernels,
    )


def _kernel(fitted: Fitted, name: str, values: Floats, seen: bool) -> Kernel:
    layer = fitted.error.factor**fitted.layer_power
    return solved_kernel(values, _tiles(name, fitted.pixel_tile), layer, seen)


def solved_kernel(values: Floats, tile: tuple[int, int], factor: float, seen: bool) -> Kernel:
    """Return a profile's kernel of the solver's rate and halves; `seen`: rows told it apart."""
    rate, reduction, pixels = map(float, values)
    wide, long = tile
    return Kernel(
        giga_per_s=short(rate),
        reduction_half=short(reduction) if reduction > 0.01 else 0.0,
        pixels_half=short(pixels) if pixels > 0.01 else 0.0,
        channel_tile=wide,
        pixel_tile=long,
        error_factor=short(factor if seen else max(factor, UNSEEN_FACTOR)),
        basis="fitted" if seen else "assumed",
        note="" if seen else "the measurements do not tell it apart; the fit's prior",
    )


PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")

# How far a coefficient may leave the donor's without evidence (logarithms): rates by a third, the
# shape of the curves by a sixth; another precision's rates by two thirds, since kernels gain
# differently, unless a device of the same kind shows by how much.
RATE_SPREAD = 0.3
SHAPE_SPREAD = 0.15
PRECISION_SPREAD = 0.5
ALIKE_SPREAD = 0.1
# A GPU's time hangs on its driver and on what else is drawn: 12 to 36 % in the first experiment.
GPU_FACTOR = 1.36
