"""Published measurements -> `assets/devices/*.toml`, the same bytes every time.

The coefficients are non-negative, the price never falls when a layer grows and never lies below
the roofline: the formula of `cost` cannot do otherwise. The error stands in the profile and comes
from rows that the fit had not seen: every family (a kind of block, an architecture) is left out in
turn and foretold from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, hypot, log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.files import write_atomic
from mobileseg.latency.accuracy import Line, accuracy_text
from mobileseg.latency.counts import counted
from mobileseg.latency.devices import (
    DEVICES,
    THREADED,
    TRANSFERS,
    Device,
)
from mobileseg.latency.error import (
    LEAST_FACTOR,
    UNSEEN_FACTOR,
    UNTIMED,
    LayerBand,
    fit_error,
    layer_band,
    macs_only,
    short,
    together,
)
from mobileseg.latency.facts import Measured, read_facts
from mobileseg.latency.hardware import borrowed, memory_of, read_clusters, threaded, transferred
from mobileseg.latency.peak import Cores, held, peak, read_cores
from mobileseg.latency.prior import (
    Beside,
    Done,
    Fitted,
    PriorOf,
    given_to,
    pattern_of,
    prior_of,
)
from mobileseg.latency.profile import (
    TRANSFER_FACTOR,
    Coefficients,
    DeviceProfile,
    Kernel,
    Precision,
    load_profile,
    precisions,
    profiles,
)
from mobileseg.latency.solve import (
    OWN,
    SHARED,
    Floats,
    Problem,
    Solution,
    operators_ms,
    problem,
    rows_ms,
    solve,
)
from mobileseg.latency.starts import CHANNEL_TILE, NOTHING, RELATIONS, STARTS, TILED
from mobileseg.latency.toml import profile_toml

COMMAND = "mobileseg devices fit"
# Every k-th block of a kind with thousands is enough for twenty coefficients; all are foretold.
THIN = 3
MANY_ROWS = 1000


def fit_devices(
    facts: Path, out: Path, say: Callable[[str], None], only: Sequence[str] = ()
) -> list[Path]:
    """Fit every device (or those named and their donors), write the profiles, return the paths.

    `say` receives a line per device: the cross-validated errors. The table of all of them is
    written beside the profiles, unless only some devices were named.
    """
    rows, cores = read_facts(facts), read_cores(facts / "cores.csv")
    counts = load_profile(facts / "arm_counts.toml")
    fitted: Done = {}
    for device in chosen(only):
        for precision in PRECISIONS:
            own = [r for r in rows if (r.device, r.precision) == (device.name, precision)]
            if len({row.family for row in own}) > 1:
                beside = _beside(device, precision, fitted, cores, counts)
                fitted[device.name, precision] = _fit(device, precision, own, fitted, beside)
        if (device.name, "float32") not in fitted:
            raise MobilesegError(f"devices: {device.name} has no float32 row in the tables")
    made = {device.name: device_profile(device, rows, fitted) for device in chosen(only)}
    for one in TRANSFERS if not only else ():
        made[one.name] = transferred(made[one.base], facts, one.soc, one.name, one.title)
    for other in THREADED if not only else ():
        made[other.name] = threaded(
            made[other.base], made[other.step[0]], made[other.step[1]], other
        )
    clusters = read_clusters(facts / "clusters.csv")
    made = {
        name: held(profile, cores, memory_of(clusters, profile.soc))
        for name, profile in made.items()
    }
    lines = [line for profile in made.values() for line in _lines(profile, rows, fitted)]
    files = {f"{name}.toml": profile_toml(profile, COMMAND) for name, profile in made.items()}
    if not only:
        theirs = [load_profile(path) for name, path in profiles(out).items() if name not in made]
        files["ACCURACY.md"] = accuracy_text(lines, COMMAND, theirs)
    for name, text in files.items():
        write_atomic(out / name, text)
    for line in lines:
        say(line.text())
    return [out / name for name in files]


def _lines(profile: DeviceProfile, rows: Sequence[Measured], fitted: Done) -> list[Line]:
    """What the report says of a device: a line per precision."""
    found = []
    for precision, table in precisions(profile):
        own = fitted.get((profile.name, precision))
        naive, layer = (own.naive, own.layer) if own else (None, None)
        mine = [row for row in rows if (row.device, row.precision) == (profile.name, precision)]
        single = "" if own else ", ".join(_single(row, table) for row in mine)
        found.append(Line(profile, precision, table, naive, layer, single))
    return found


def _single(row: Measured, table: Coefficients) -> str:
    """What a table that no fit made foretells of a network that was measured."""
    tiles = {name: (one.channel_tile, one.pixel_tile) for name, one in table.kernels.items()}
    shared = (
        *(table.bandwidth_gb_per_s, table.bandwidth_gb_per_s / table.dram_gb_per_s - 1.0),
        *(table.cache_kb, table.weights_cache_kb, table.overlap - 1.0, table.overhead_us),
    )
    own = [getattr(one, name) for one in table.kernels.values() for name in OWN]
    theta = np.log(np.maximum([*shared, *own], NOTHING**2))
    told = float(rows_ms(problem([row], tiles), theta)[0])
    return f"measured: {row.family} {row.ms:g} ms, foretold {told:.1f} ms"


def chosen(only: Sequence[str]) -> list[Device]:
    """The devices named and all that they need, in the order of fitting; all if none is named."""
    by_name = {device.name: device for device in DEVICES}
    for name in only:
        if name not in by_name:
            raise MobilesegError(f"devices: {name!r} has no facts; there are: {', '.join(by_name)}")
    wanted = list(only or by_name)
    for name in wanted:
        need = by_name[name]
        needs = (need.donor, need.like, *need.step)
        wanted += [other for other in dict.fromkeys(needs) if other not in ("", *wanted)]
    return [device for device in DEVICES if device.name in wanted]


def _beside(
    device: Device, precision: Precision, fitted: Done, cores: Cores, counts: DeviceProfile
) -> Beside:
    most = peak(device.core, device.threads, precision, cores)
    if precision != "int8":
        return Beside(most, {})
    float32 = coefficients(fitted[device.name, "float32"])
    return Beside(most, counted(counts, precision, float32.kernels))


def _fit(
    device: Device, precision: Precision, own: Sequence[Measured], fitted: Done, beside: Beside
) -> Fitted:
    """Fit a precision's rows: from scratch, or from what is known of the device or its donor."""
    prior = prior_of(device, precision, fitted, len({row.family for row in own}), beside)
    tile = device.pixel_tile
    data = problem(own, {kernel: _tiles(kernel, tile) for kernel in STARTS})
    thin = _thin(own, device.blocks)
    families = [row.family for row in own]
    part = data.subset(thin)
    solution = solve(part, prior(part))
    given = given_to(device, precision, fitted)
    foretold, doubts = _foretold(data, np.array(families), thin, prior, given)
    error = fit_error("family", foretold, data.ms, families, doubts, _least(device))
    if device.blocks:
        blocks = np.array([not row.whole for row in own])
        names_ = [row.family for row in own if not row.whole]
        layer = layer_band(data.subset(blocks), solution.theta, foretold[blocks], names_)
    else:
        # A device's own error and that of single layers, which the donor's blocks tell.
        known = fitted.get((device.name, "float32")) or fitted.get((device.donor, "float32"))
        single = known.layer.log if known else log(UNSEEN_FACTOR)
        layer = LayerBand(hypot(log(error.factor), single), UNTIMED)
    return Fitted(
        solution,
        data,
        tile,
        error,
        fit_error("family", macs_only(_macs(own), data.ms, families), data.ms, families),
        layer,
        given,
        beside,
    )


def _least(device: Device) -> float:
    """The narrowest band that a device may have around a whole network."""
    if device.accelerator == "gpu":
        return GPU_FACTOR
    return BLOCKS_FACTOR if device.blocks else LEAST_FACTOR


def _tiles(kernel: str, tile: int) -> tuple[int, int]:
    if kernel in TILED:
        return CHANNEL_TILE, tile
    return (CHANNEL_TILE if kernel == "depthwise" else 1), 1


def _thin(own: Sequence[Measured], blocks: bool) -> NDArray[np.bool_]:
    """Which rows to fit to. A phone with blocks is fitted to them alone: its networks, timed in
    another runtime or year, are foretold from the blocks, as all that it will be asked for is.
    """
    count: dict[str, int] = {}
    keep = []
    for row in own:
        count[row.family] = count.get(row.family, -1) + 1
        every = count[row.family] % THIN == 0 or len(own) < MANY_ROWS
        keep.append(every and not (blocks and row.whole))
    return np.array(keep)


def _foretold(
    data: Problem,
    families: NDArray[np.str_],
    thin: NDArray[np.bool_],
    prior: PriorOf,
    given: frozenset[str],
) -> tuple[Floats, Floats]:
    """Times of every family by coefficients that come from the others, and the rows' doubts."""
    foretold, doubts = np.zeros(len(data.ms)), np.zeros(len(data.ms))
    for family in sorted(set(families.tolist())):
        here = families == family
        rest, part = data.subset(thin & ~here), data.subset(here)
        found = solve(rest, prior(rest))
        foretold[here] = rows_ms(part, found.theta)
        doubts[here] = _doubts(part, found, given)
    return foretold, doubts


def _doubts(part: Problem, found: Solution, given: frozenset[str]) -> Floats:
    """What kernels that no row told apart add to a row's band: shares of time, by kernel."""
    times, count = operators_ms(part, found.theta), len(part.ms)
    total = np.bincount(part.row, times, count)
    squares = np.zeros(count)
    for kernel, name in enumerate(part.kernels):
        if not found.seen[len(SHARED) + kernel * len(OWN)]:
            mine = part.kernel == kernel
            share = np.bincount(part.row[mine], times[mine], count) / total
            doubt = TRANSFER_FACTOR if name in given else UNSEEN_FACTOR
            squares += (np.log(doubt) * share) ** 2
    return np.asarray(np.sqrt(squares))


def _macs(own: Sequence[Measured]) -> Floats:
    return np.array([sum(op.macs for op in row.operators) for row in own], np.float64)


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
        fuses=device.fuses,
        float32=coefficients(fitted[device.name, "float32"]),
        float16=_other(device, "float16", fitted),
        int8=_other(device, "int8", fitted),
    )


def _other(device: Device, precision: Precision, fitted: Done) -> Coefficients | None:
    """A precision beside float32: its own fit, or the device's float32 times another's ratios."""
    mine = fitted.get((device.name, precision))
    if mine is not None:
        return coefficients(mine)
    pattern = pattern_of(device, precision, fitted)
    if pattern is None:
        return None
    float32 = coefficients(fitted[device.name, "float32"])
    to, of = map(coefficients, pattern)
    runtime = next(each.runtime for each in DEVICES if each.name == device.like)
    same = precision != "int8" or runtime.split()[0] == device.runtime.split()[0]
    least = 0.0 if same else NO_SLOWER
    return borrowed(float32, to, of, device.like, precision, least)


def coefficients(fitted: Fitted) -> Coefficients:
    """Return a precision's table: the fitted kernels, then those derived from them."""
    values: Floats = np.exp(fitted.solution.theta)
    shared = map(float, values[: len(SHARED)])
    bandwidth, ratio, cache, weights_cache, overlap, overhead = shared
    own = np.asarray(values[len(SHARED) :]).reshape(-1, len(OWN))
    kernels: dict[str, Kernel] = {}
    known = fitted.beside.counted
    for i, name in enumerate(fitted.data.kernels):
        seen = fitted.solution.seen[len(SHARED) + i * len(OWN)]
        if name not in fitted.told and name in RELATIONS:
            continue
        kernels[name] = _kernel(fitted, name, own[i], bool(seen))
        if name in known and name not in fitted.told:
            kernels[name] = replace(known[name], giga_per_s=kernels[name].giga_per_s)
    kernels |= {name: kernel for name, kernel in known.items() if name not in kernels}
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
        weights_cache_kb=short(weights_cache),
        overlap=short(1.0 + overlap),
        overhead_us=short(overhead),
        error=fitted.error,
        kernels=kernels,
    )


def _kernel(fitted: Fitted, name: str, values: Floats, seen: bool) -> Kernel:
    factor = max(fitted.error.factor, exp(fitted.layer.log))
    kernel = solved_kernel(values, _tiles(name, fitted.pixel_tile), factor, name in fitted.told)
    if seen or name not in fitted.given:
        return kernel
    return replace(
        kernel,
        error_factor=short(together(factor, TRANSFER_FACTOR)),
        basis="transferred",
        note="the networks do not tell it apart; the donor's, as much faster as all of them",
    )


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
# By Paddle-Lite's MobileNet V2s a Cortex-A76's depthwise convolutions are a third slower at int8
# than in float32. XNNPACK's need a sixth fewer instructions, counted on Arm, and TFLite's MobileNet
# V1 on a Pixel 4 with 4 threads, 5 ms, is foretold as 5.7 ms without that loss, as 6.6 ms with it.
NO_SLOWER = 1.0

# Whole networks against the blocks they are made of. Source: XNNPACK's four networks take 10 to
# 16 % longer on a Pixel 1 than its blocks foretell; by the clock, most of a Snapdragon 855's and a
# Kirin 980's take 2 % less to 15 % more than a Pixel 4's blocks do.
BLOCKS_FACTOR = 1.2
# A GPU's time hangs on its driver and on what else is drawn: 12 to 36 % in the first experiment.
GPU_FACTOR = 1.36
