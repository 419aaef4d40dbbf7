"""Times of the designed networks on one machine -> its device profile.

The formula and the solver are those of the fit to published tables; here every kernel has rows of
its own. The error comes from blocks that the fit had not seen: every family is left out in turn
and foretold from the others and from the single kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Graph
from mobileseg.latency.design import SINGLE
from mobileseg.latency.error import UNSEEN_FACTOR, fit_error, layer_power, short
from mobileseg.latency.fit import solved_kernel
from mobileseg.latency.kernels import features, folded, touched
from mobileseg.latency.profile import KERNELS, Coefficients, FitError, Kernel
from mobileseg.latency.solve import (
    OWN,
    SHARED,
    Floats,
    Prior,
    Problem,
    Sample,
    Solution,
    names,
    operators_ms,
    problem,
    rows_ms,
    solve,
)
from mobileseg.latency.starts import NOTHING, RELATIONS, STARTS

# Operators that the runtime folds into the next one: see `DeviceProfile.fuses`.
FUSES: tuple[Literal["pad", "lookup"], ...] = ("pad", "lookup")


@dataclass(frozen=True)
class Visits:
    """What one network took: a median per round, and the share of the time that others had.

    spread: the rounds' larger quartile over their smaller one, minus 1.
    """

    ms: float
    spread: float
    stolen: float


def visits(rounds: Sequence[Mapping[str, float]]) -> Visits:
    """Sum up a network's rounds: their median."""
    spent = [one["us"] / 1000.0 for one in rounds]
    low, mid, high = (float(x) for x in np.percentile(spent, [25, 50, 75]))
    stolen = [max(0.0, 1.0 - one["us"] / one["wall_us"]) for one in rounds]
    return Visits(mid, high / low - 1.0, float(np.median(stolen)))


@dataclass(frozen=True)
class Noise:
    """How far rounds of one network differ, and how much of the time other programs had: medians
    over the networks, in percent."""

    spread_percent: float
    stolen_percent: float

    def warning(self) -> str:
        """What a person must know of a busy machine; nothing of a quiet one."""
        if self.spread_percent <= NOISE_BOUND and self.stolen_percent <= STOLEN_BOUND:
            return ""
        return (
            f"this machine is too busy: rounds of one network differ by "
            f"{self.spread_percent:.1f} % ({NOISE_BOUND:.0f} % is the bound) and other programs "
            f"take {self.stolen_percent:.0f} % of the time ({STOLEN_BOUND:.0f} %); the bands are "
            "wider for it; stop them and calibrate again"
        )


def noise(timed: Sequence[Visits]) -> Noise:
    """Medians over the networks."""
    return Noise(
        100.0 * float(np.median([one.spread for one in timed])),
        100.0 * float(np.median([one.stolen for one in timed])),
    )


def sample(graph: Graph, family: str, ms: float) -> Sample:
    """One measured network: the operators that take time."""
    working = [node for node in graph.nodes if not folded(graph, node, FUSES)]
    between = touched(graph)
    return Sample(tuple(features(graph, node, between, FUSES) for node in working), family, ms)


def calibrated(samples: Sequence[Sample], busy: Noise) -> Coefficients:
    """Return the coefficients of one precision, and how well they foretell unseen blocks."""
    families = np.array([one.family for one in samples])
    blocks = families != SINGLE
    if not blocks.any():
        raise MobilesegError("calibration: no block was timed; time the whole design")
    fits = [_fit(samples, tile) for tile in TILES]
    best = min(fits, key=lambda fit: fit.solution.cost)
    foretold = np.zeros(len(samples))
    for family in sorted(set(families[blocks].tolist())):
        here = families == family
        rest = best.data.subset(~here)
        theta = solve(rest, _prior(rest)).theta
        foretold[here] = rows_ms(best.data.subset(here), theta)
    measured = best.data.ms[blocks]
    error = fit_error("family", foretold[blocks], measured, families[blocks].tolist())
    widened = sqrt(log(error.factor) ** 2 + log(1.0 + busy.spread_percent / 100.0) ** 2)
    error = replace(error, factor=short(exp(widened)))
    return _coefficients(best, error, busy.warning())


@dataclass(frozen=True)
class _Fit:
    tile: tuple[int, int]
    data: Problem
    solution: Solution


def _fit(samples: Sequence[Sample], tile: tuple[int, int]) -> _Fit:
    kernels = sorted({op.kernel for one in samples for op in one.operators})
    data = problem(samples, {name: _tile(name, tile) for name in kernels})
    return _Fit(tile, data, solve(data, _prior(data)))


def _tile(kernel: str, tile: tuple[int, int]) -> tuple[int, int]:
    if kernel in PRODUCTS:
        return tile
    return (8 if kernel.startswith("depthwise") else 1), 1


def _prior(data: Problem) -> dict[str, Prior]:
    """Wide: the machine may be anything. Rates start from the median row's speed."""
    values = {
        "bandwidth_gb_per_s": Prior(40.0, 0.7),
        "dram_ratio": Prior(2.0, 0.7),
        "cache_kb": Prior(1000.0, 1.0),
        "weights_cache_kb": Prior(4000.0, 1.0),
        "overlap": Prior(0.5, 1.0),
        "overhead_us": Prior(1.0, 1.5),
    }
    for kernel in data.kernels:
        for own, value in zip(OWN, _begin(kernel), strict=True):
            loose = 1.0 if value > NOTHING else 0.01
            values[f"{kernel}.{own}"] = Prior(value, loose)
    order = names(data.kernels)
    theta = np.log([values[name].value for name in order])
    speed = float(np.exp(np.median(np.log(rows_ms(data, theta) / data.ms))))
    theta += [log(speed) * name.endswith("per_s") for name in order]
    # Then each kernel from the rows that are mostly its own: a start far off is taken for slips.
    missed = np.log(rows_ms(data, theta) / data.ms)
    for index in range(len(data.kernels)):
        mine = _mostly(data, theta, index)
        if mine.any():
            theta[len(SHARED) + index * len(OWN)] += float(np.median(missed[mine]))
    begin = np.exp(theta).tolist()
    return {name: replace(values[name], value=one) for name, one in zip(order, begin, strict=True)}


def _mostly(data: Problem, theta: Floats, index: int) -> NDArray[np.bool_]:
    """Which rows are mostly one kernel."""
    parts = operators_ms(data, theta)
    count = len(data.ms)
    total = np.bincount(data.row, parts, count)
    mine = np.bincount(data.row, parts * (data.kernel == index), count)
    return np.asarray(mine > 0.6 * total)


def _begin(kernel: str) -> tuple[float, float, float]:
    """Rate and halves on a Cortex-A76, from the tables or from what the kernel is like.

    A kernel that visits positions has a cost of each, whatever its channels: that is looked for.
    """
    if kernel not in RELATIONS:
        return STARTS[kernel]
    like = RELATIONS[kernel]
    rate, _, pixels = STARTS.get(like.like, _ELEMENTS)
    least = 4.0 if kernel in POSITIONS else NOTHING
    return rate * like.share, max(like.reduction_half, least), pixels


def _coefficients(fit: _Fit, error: FitError, note: str) -> Coefficients:
    values: Floats = np.exp(fit.solution.theta)
    shared = map(float, values[: len(SHARED)])
    bandwidth, ratio, cache, weights_cache, overlap, overhead = shared
    own = np.asarray(values[len(SHARED) :]).reshape(-1, len(OWN))
    kernels = {
        name: _kernel(fit, index, own[index], error) for index, name in enumerate(fit.data.kernels)
    }
    for name in KERNELS:
        if name not in kernels:
            kernels[name] = _alike(name, kernels)
    return Coefficients(
        basis="fitted",
        note=note,
        bandwidth_gb_per_s=short(bandwidth),
        dram_gb_per_s=short(bandwidth / (1.0 + ratio)),
        cache_kb=short(cache),
        weights_cache_kb=short(weights_cache),
        overlap=short(1.0 + overlap),
        overhead_us=short(overhead),
        error=error,
        kernels={name: kernels[name] for name in KERNELS},
    )


def _kernel(fit: _Fit, index: int, values: Floats, error: FitError) -> Kernel:
    tile = _tile(fit.data.kernels[index], fit.tile)
    seen = bool(fit.solution.seen[len(SHARED) + index * len(OWN)])
    return solved_kernel(values, tile, _layer_factor(fit, index, error), seen)


def _layer_factor(fit: _Fit, index: int, error: FitError) -> float:
    """The 80 % quantile over the networks that are mostly this kernel; never below a network's."""
    theta = fit.solution.theta
    mine = _mostly(fit.data, theta, index)
    if mine.sum() < _ENOUGH_ROWS:
        return float(error.factor ** layer_power(fit.data, theta))
    missed = np.abs(np.log(rows_ms(fit.data, theta)[mine] / fit.data.ms[mine]))
    return max(error.factor, exp(float(np.percentile(missed, 80))))


def _alike(name: str, kernels: Mapping[str, Kernel]) -> Kernel:
    """A kernel that no file of the design runs, from one that it is like."""
    like, share = ("hard_swish", 1.0)
    if name in RELATIONS:
        like, share = RELATIONS[name].like, RELATIONS[name].share
    known = kernels[like]
    return replace(
        known,
        giga_per_s=short(known.giga_per_s * share),
        error_factor=short(max(UNSEEN_FACTOR, known.error_factor)),
        basis="assumed",
        note=f"{share:g} of the rate of {like}",
    )


# Kernels that are one product of matrices, in tiles of output channels by positions. Which tile a
# machine's micro-kernels have is not asked but tried: 8 by 4 or 6 on Arm, 8 by 3 for int8 and 16
# by 5 on x86-64 with AVX2, 16 by 7 with AVX-512.
PRODUCTS = frozenset({"pointwise", "dense", "dilated", "grouped", "transposed"})
TILES = ((8, 4), (8, 6), (8, 3), (16, 5), (16, 7))

POSITIONS = frozenset(
    {
        *("concat", "pad", "crop", "depth_to_space"),
        *("resize_bilinear", "resize_nearest", "softmax", "argmax"),
    }
)
_ELEMENTS = (3.0, NOTHING, NOTHING)
_ENOUGH_ROWS = 3
# Rounds of a quiet machine differ by 1 to 3 %; from here on a median of rounds errs by as much as
# the formula does. Others' share of the time matters less: the clock leaves it out.
NOISE_BOUND = 10.0
STOLEN_BOUND = 25.0
