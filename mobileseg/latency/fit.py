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

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.latency.devices import (
    CHANNEL_TILE,
    DEVICES,
    PIXEL_TILES,
    RELATIONS,
    STARTS,
    TILED,
    Device,
    start,
)
from mobileseg.latency.facts import Measured, read_facts
from mobileseg.latency.profile import (
    Basis,
    Coefficients,
    DeviceProfile,
    FitError,
    Kernel,
    Precision,
)
from mobileseg.latency.solve import (
    OWN,
    SHARED,
    Floats,
    Prior,
    Problem,
    Solution,
    names,
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
    """The coefficients of one device and precision, and what they came from."""

    solution: Solution
    data: Problem
    pixel_tile: int
    error: FitError
    basis: Basis
    note: str


def fit_devices(
    facts: Path, out: Path, say: Callable[[str], None], only: Sequence[str] = ()
) -> list[Path]:
    """Fit every device (or those named and their donors), write the profiles, return the paths.

    `say` receives a line per device: the cross-validated errors.
    """
    rows = read_facts(facts)
    fitted: dict[tuple[str, Precision], Fitted] = {}
    written = []
    for device in chosen(only):
        fitted[device.name, "float32"] = fit_float(device, rows, fitted)
        own = [r for r in rows if r.device == device.name and r.precision == "int8"]
        if own:
            fitted[device.name, "int8"] = fit_int8(own, fitted[device.name, "float32"])
    for device in chosen(only):
        profile = device_profile(device, rows, fitted)
        path = out / f"{device.name}.toml"
        _write(path, profile_toml(profile, COMMAND))
        written.append(path)
        for precision, table in (("float32", profile.float32), ("int8", profile.int8)):
            if table is not None:
                say(error_line(profile.name, precision, table))
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
        wanted += [other for other in (need.donor, need.int8_like) if other not in ("", *wanted)]
    return [device for device in DEVICES if device.name in wanted]


def error_line(name: str, precision: str, table: Coefficients) -> str:
    """One line of the report: what the fit foretold of what it had not seen."""
    error = table.error
    return (
        f"{name:15} {precision:8} {table.basis:12} {error.rows:5} rows  "
        f"median {error.median_percent:5.1f} %  mean {error.mean_percent:5.1f} %  "
        f"p90 {error.p90_percent:5.1f} %  Spearman {error.spearman:.4f}"
    )


def fit_float(
    device: Device,
    rows: Sequence[Measured],
    fitted: dict[tuple[str, Precision], Fitted],
) -> Fitted:
    """Fit a device's float32 rows, from scratch or from its donor's coefficients."""
    own = [r for r in rows if r.device == device.name and r.precision == "float32"]
    if not own:
        raise MobilesegError(f"devices: {device.name} has no float32 row in the tables")
    if device.donor:
        return _from_donor(own, fitted[device.donor, "float32"], RATE_SPREAD)
    tries = [_fit(own, partial(_start, device), tile) for tile in PIXEL_TILES]
    best = min(tries, key=lambda one: one[1].cost)
    return _checked(own, partial(_start, device), *best)


def fit_int8(own: Sequence[Measured], float32: Fitted) -> Fitted:
    """Fit int8 rows with the same device's float32 coefficients, scaled, as the prior."""
    return _from_donor(own, float32, INT8_SPREAD)


def _start(device: Device, data: Problem) -> dict[str, Prior]:
    return start(device.speed, data.kernels)


def _from_donor(own: Sequence[Measured], donor: Fitted, spread: float) -> Fitted:
    prior = partial(_donated, donor, spread)
    return _checked(own, prior, *_fit(own, prior, donor.pixel_tile))


def _donated(donor: Fitted, spread: float, data: Problem) -> dict[str, Prior]:
    """The donor's coefficients; all rates scaled by what the median row is slower or faster."""
    values = start(1.0, data.kernels)
    known = dict(zip(names(donor.data.kernels), np.exp(donor.solution.theta), strict=True))
    values |= {
        name: Prior(float(value), spread if name.endswith("per_s") else SHAPE_SPREAD)
        for name, value in known.items()
        if name in values
    }
    theta = np.log([values[name].value for name in names(data.kernels)])
    scale = float(np.exp(np.median(np.log(rows_ms(data, theta) / data.ms))))
    return {
        name: replace(one, value=one.value * scale) if name.endswith("per_s") else one
        for name, one in values.items()
    }


PriorOf = Callable[[Problem], dict[str, Prior]]


def _fit(own: Sequence[Measured], prior: PriorOf, tile: int) -> tuple[int, Solution, Problem]:
    data = _problem(own, tile)
    part = data.subset(_thin(own))
    return tile, solve(part, prior(part)), data


def _problem(own: Sequence[Measured], tile: int) -> Problem:
    return problem(own, {kernel: _tiles(kernel, tile) for kernel in STARTS})


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


def _checked(
    own: Sequence[Measured], prior: PriorOf, tile: int, solution: Solution, data: Problem
) -> Fitted:
    """Foretell every family from the others."""
    families = np.array([row.family for row in own])
    thin = _thin(own)
    foretold = np.zeros(len(own))
    for family in sorted(set(families)):
        rest = data.subset(thin & (families != family))
        theta = solve(rest, prior(rest)).theta
        foretold[families == family] = rows_ms(data.subset(families == family), theta)
    error = fit_error("family", foretold, data.ms)
    return Fitted(solution, data, tile, error, "fitted", "")


def fit_error(check: str, foretold: Floats, measured: Floats) -> FitError:
    """Sum up how far estimates lie from measurements."""
    percent = np.abs(foretold / measured - 1.0) * 100.0
    logs = np.abs(np.log(foretold / measured))
    return FitError(
        check=check,
        rows=len(measured),
        median_percent=_short(float(np.median(percent))),
        mean_percent=_short(float(percent.mean())),
        p90_percent=_short(float(np.percentile(percent, 90))),
        spearman=_short(spearman(foretold, measured)),
        factor=_short(max(LEAST_FACTOR, float(np.exp(np.percentile(logs, 90))))),
    )


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; 1 where fewer than three rows can be ranked in the same order."""
    first, second = (np.argsort(np.argsort(x, kind="stable"), kind="stable") for x in (a, b))
    return float(np.asarray(np.corrcoef(first, second))[0, 1]) if len(a) > 1 else 1.0


def device_profile(
    device: Device,
    rows: Sequence[Measured],
    fitted: dict[tuple[str, Precision], Fitted],
) -> DeviceProfile:
    """Gather a device's tables into its profile."""
    return DeviceProfile(
        name=device.name,
        title=device.title,
        soc=device.soc,
        core=device.core,
        threads=device.threads,
        runtime=device.runtime,
        year=device.year,
        source=tuple(sorted({row.source for row in rows if row.device == device.name})),
        fuses=("pad",),
        float32=coefficients(fitted[device.name, "float32"]),
        int8=_int8(device, fitted),
    )


def _int8(device: Device, fitted: dict[tuple[str, Precision], Fitted]) -> Coefficients:
    own = fitted.get((device.name, "int8"))
    if own is not None:
        return coefficients(own)
    float32 = coefficients(fitted[device.name, "float32"])
    like8 = coefficients(fitted[device.int8_like, "int8"])
    like32 = coefficients(fitted[device.int8_like, "float32"])
    note = f"float32 of this device times {device.int8_like}'s ratios of int8 to float32"
    factor = _short(max(TRANSFER_FACTOR, like8.error.factor) * float32.error.factor)
    kernels = {
        name: _transferred(kernel, like8.kernels[name], like32.kernels[name], note)
        for name, kernel in float32.kernels.items()
    }
    error = replace(like8.error, check=f"{device.int8_like}'s own", factor=factor)
    return replace(float32, basis="transferred", note=note, error=error, kernels=kernels)


def _transferred(kernel: Kernel, like8: Kernel, like32: Kernel, note: str) -> Kernel:
    basis: Basis = "assumed" if kernel.basis == "assumed" else "transferred"
    return replace(
        kernel,
        giga_per_s=_short(kernel.giga_per_s * like8.giga_per_s / like32.giga_per_s),
        error_factor=_short(kernel.error_factor * TRANSFER_FACTOR),
        basis=basis,
        note=kernel.note if basis == "assumed" else note,
    )


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
                giga_per_s=_short(like.giga_per_s * relation.share),
                reduction_half=relation.reduction_half,
                error_factor=_short(max(relation.error_factor, like.error_factor)),
                basis="assumed",
                note=f"{relation.share:g} of the rate of {relation.like}: {relation.note}",
            )
    return Coefficients(
        basis=fitted.basis,
        note=fitted.note,
        bandwidth_gb_per_s=_short(bandwidth),
        dram_gb_per_s=_short(bandwidth / (1.0 + ratio)),
        cache_kb=_short(cache),
        overlap=_short(1.0 + overlap),
        overhead_us=_short(overhead),
        error=fitted.error,
        kernels=kernels,
    )


def _kernel(fitted: Fitted, name: str, values: Floats, seen: bool) -> Kernel:
    rate, reduction, pixels = map(float, values)
    wide, long = _tiles(name, fitted.pixel_tile)
    layer = fitted.error.factor**LAYER_POWER
    return Kernel(
        giga_per_s=_short(rate),
        reduction_half=_short(reduction) if reduction > 0.01 else 0.0,
        pixels_half=_short(pixels) if pixels > 0.01 else 0.0,
        channel_tile=wide,
        pixel_tile=long,
        error_factor=_short(layer if seen else max(layer, UNSEEN_FACTOR)),
        basis="fitted" if seen else "assumed",
        note="" if seen else "the measurements do not tell it apart; the fit's prior",
    )


def _short(value: float) -> float:
    """Four digits: more would say more than is known, and differ between machines."""
    return float(f"{value:.4g}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    part.replace(path)


# How far a coefficient may leave the donor's without evidence (logarithms): rates by a third, the
# shape of the curves by a sixth; int8 rates by two thirds, since kernels gain differently.
RATE_SPREAD = 0.3
SHAPE_SPREAD = 0.15
INT8_SPREAD = 0.5
# No band is narrower than a phone's own warmth makes it.
LEAST_FACTOR = 1.1
# Single layers miss by two to four times as much as a whole network (as logarithms): their errors
# do not average out.
LAYER_POWER = 3
UNSEEN_FACTOR = 1.8
# Published float32-to-int8 ratios of one network differ by this between cores of one kind.
TRANSFER_FACTOR = 1.25
