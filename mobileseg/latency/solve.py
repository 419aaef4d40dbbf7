"""Coefficients from measurements: least squares on the logarithm of milliseconds.

Every coefficient is fitted as a logarithm, so none can turn negative, and starts from a prior that
holds it where the measurements say nothing. A row is a block or a network: the sum of its operators
by the formula of `cost`, which is the formula of the price.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from mobileseg.latency.cost import (
    Features,
    Memory,
    arithmetic_ms,
    filled,
    filled_pixels,
    first_tile,
    operator_ms,
)

Floats = NDArray[np.float64]

# What every operator of a device shares, then what each kernel has of its own.
SHARED = (
    *("bandwidth_gb_per_s", "dram_ratio", "cache_kb"),
    *("weights_cache_kb", "overlap", "overhead_us"),
)
OWN = ("giga_per_s", "reduction_half", "pixels_half")

# A row further off than this (as a logarithm) counts less and less: tables have slips.
ROBUST = 0.15
# Spread of a row that the formula is not expected to explain.
NOISE = 0.05
# Rows of one family that carry independent news.
ENOUGH = 60.0


@dataclass(frozen=True)
class Prior:
    """Where a coefficient starts, the logarithm by which it may differ without evidence, and what
    it can never exceed."""

    value: float
    sigma: float
    most: float = inf


@dataclass(frozen=True)
class Problem:
    """Operators of all rows side by side; `row` says which row each belongs to.

    work, pixels: with their tiles filled up. first: share of the first tile.
    worth: a row's weight among those of its family.
    """

    kernels: tuple[str, ...]
    kernel: NDArray[np.intp]
    row: NDArray[np.intp]
    work: Floats
    reduction: Floats
    pixels: Floats
    first: Floats
    nbytes: Floats
    weights: Floats
    between: Floats
    ms: Floats
    worth: Floats

    def subset(self, keep: NDArray[np.bool_]) -> Problem:
        """The problem of some of the rows."""
        number = np.cumsum(keep) - 1
        part = self.operators(keep[self.row])
        return replace(part, row=number[part.row], ms=self.ms[keep], worth=self.worth[keep])

    def operators(self, chosen: NDArray[np.bool_]) -> Problem:
        """The same rows with some of their operators only."""
        columns = (
            *("kernel", "row", "work", "reduction", "pixels", "first"),
            *("nbytes", "weights", "between"),
        )
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})


@dataclass(frozen=True)
class Sample:
    """A measured block or network: its operators, its family, its time."""

    operators: Sequence[Features]
    family: str
    ms: float


def problem(samples: Sequence[Sample], tiles: Mapping[str, tuple[int, int]]) -> Problem:
    """Gather samples; `tiles` holds the (channel, pixel) tile of every kernel in them."""
    kernels = tuple(tiles)
    index = {name: i for i, name in enumerate(kernels)}
    flat = [(i, op) for i, sample in enumerate(samples) for op in sample.operators]

    def column(name: str) -> Floats:
        return np.array([getattr(op, name) for _, op in flat], np.float64)

    kernel = np.array([index[op.kernel] for _, op in flat], np.intp)
    wide, long = np.array([tiles[name] for name in kernels], np.float64).T
    pixels = filled_pixels(column("pixels"), long[kernel])
    channels = filled(column("channels"), wide[kernel])
    return Problem(
        kernels,
        kernel,
        np.array([i for i, _ in flat], np.intp),
        column("work") * (pixels / column("pixels")) * (channels / column("channels")),
        column("reduction"),
        pixels,
        first_tile(pixels, long[kernel]),
        column("nbytes"),
        column("weights"),
        column("between"),
        np.array([sample.ms for sample in samples], np.float64),
        _worth([sample.family for sample in samples]),
    )


def _worth(families: Sequence[str]) -> Floats:
    """Rows of one family err together, so a thousand of them say no more than `ENOUGH`."""
    count = Counter(families)
    return np.array([min(1.0, ENOUGH / count[family]) for family in families], np.float64)


def names(kernels: Sequence[str]) -> tuple[str, ...]:
    """The coefficients' names, in the order of the vector that is fitted."""
    return (*SHARED, *(f"{kernel}.{own}" for kernel in kernels for own in OWN))


def operators_ms(data: Problem, theta: Floats) -> Floats:
    """Milliseconds per operator for the logarithms `theta`."""
    shared = np.exp(theta[: len(SHARED)])
    own = np.exp(theta[len(SHARED) :]).reshape(-1, len(OWN))[data.kernel]
    bandwidth, ratio, cache, weights_cache, overlap, overhead = map(float, shared)
    arithmetic = arithmetic_ms(
        data.work, data.reduction, data.pixels, own[:, 0], own[:, 1], own[:, 2]
    )
    one = np.ones(1)
    memory = Memory(
        one * bandwidth,
        one * (bandwidth / (1.0 + ratio)),
        one * cache,
        one * weights_cache,
    )
    near = memory.near_ms(data.nbytes, data.weights)
    cold = memory.cold_ms(data.weights, data.between)
    together: Floats = operator_ms(arithmetic, near, cold, data.first, 1.0 + overlap, overhead)
    return together


def rows_ms(data: Problem, theta: Floats) -> Floats:
    """Milliseconds per row."""
    return np.bincount(data.row, operators_ms(data, theta), len(data.ms)).astype(np.float64)


@dataclass(frozen=True)
class Solution:
    """The coefficients' logarithms, what is left unexplained, and which of them the rows tell.

    seen: the rows narrowed the coefficient to less than half of its prior's spread.
    """

    theta: Floats
    cost: float
    seen: NDArray[np.bool_]


def solve(data: Problem, prior: Mapping[str, Prior], steps: int = 40) -> Solution:
    """Return the coefficients that explain the rows best: Levenberg-Marquardt, robust weights."""
    order = names(data.kernels)
    centre = np.log([prior[name].value for name in order])
    spread = np.array([prior[name].sigma for name in order])
    most = np.log([prior[name].most for name in order])
    theta, damping = np.minimum(centre, most), 1e-3
    cost = _cost(data, theta, centre, spread)
    normal = np.diag(1.0 / spread**2)
    for _ in range(steps):
        jacobian, residual, weight = linear(data, theta)
        scaled = jacobian * weight[:, None]
        normal = scaled.T @ jacobian + np.diag(1.0 / spread**2)
        gradient = scaled.T @ residual + (theta - centre) / spread**2
        # What lies at its bound and is drawn beyond it stays there.
        free = (theta < most) | (gradient > 0.0)
        before = cost
        while damping < 1e8:
            damped = normal + damping * np.diag(np.diag(normal))
            step = np.zeros_like(theta)
            step[free] = np.linalg.solve(damped[np.ix_(free, free)], -gradient[free])
            trial = np.minimum(theta + np.clip(step, -1.0, 1.0), most)
            changed = _cost(data, trial, centre, spread)
            if changed < cost:
                theta, cost, damping = trial, changed, damping / 5.0
                break
            damping *= 4.0
        if before - cost < 1e-7 * max(1.0, before):
            break
    left = np.sqrt(np.diag(np.linalg.inv(normal)))
    return Solution(theta, cost, left < spread / 2.0)


def _cost(data: Problem, theta: Floats, centre: Floats, spread: Floats) -> float:
    """Cauchy's loss of the rows' logarithms, and the distance from the prior."""
    residual = np.log(rows_ms(data, theta) / data.ms)
    loss = (data.worth * np.log1p((residual / ROBUST) ** 2)).sum() * (ROBUST / NOISE) ** 2
    return float(loss + (((theta - centre) / spread) ** 2).sum()) / 2.0


def linear(data: Problem, theta: Floats) -> tuple[Floats, Floats, Floats]:
    """Jacobian of the rows' logarithms, their residuals and weights."""
    count = len(data.ms)
    total = np.bincount(data.row, operators_ms(data, theta), count)
    residual = np.log(total / data.ms)
    weight = data.worth / (NOISE**2 * (1.0 + (residual / ROBUST) ** 2))
    shared, own = _slopes(data, theta)
    columns = [np.bincount(data.row, slope, count) for slope in shared]
    for kernel in range(len(data.kernels)):
        mine = data.kernel == kernel
        columns += [np.bincount(data.row[mine], slope[mine], count) for slope in own]
    return np.stack(columns, 1) / total[:, None], residual, weight


def _slopes(data: Problem, theta: Floats) -> tuple[list[Floats], list[Floats]]:
    """Derivatives of `operators_ms` by the logarithms: of what is shared, of a kernel's own."""
    shared = map(float, np.exp(theta[: len(SHARED)]))
    bandwidth, ratio, cache, weights_cache, overlap, overhead = shared
    rate, half_k, half_m = np.exp(theta[len(SHARED) :]).reshape(-1, len(OWN))[data.kernel].T
    k, m = half_k / data.reduction, half_m / data.pixels
    work = data.work / (rate * 1e6)
    arithmetic = work * (1.0 + k) * (1.0 + m)
    every = data.nbytes + data.weights
    outside = every / (every + cache * 1024.0)
    missed = every * 1e-6 / bandwidth * ratio * outside
    memory = every * 1e-6 / bandwidth + missed
    larger = (data.between / (weights_cache * 1024.0)) ** 2
    gone = larger / (1.0 + larger)
    cold = data.weights * 1e-6 / bandwidth * ratio * gone
    by_a, by_b, by_power = _combined(arithmetic, memory, 1.0 + overlap)
    by_first, by_cold, first_by_power = _combined(arithmetic * data.first, cold, 1.0 + overlap)
    later = 1.0 - data.first
    cold, by_a = by_cold * cold * later, by_a + (by_first - 1.0) * data.first * later
    slopes = [
        -by_b * memory - cold,
        by_b * missed + cold,
        -by_b * missed * (1.0 - outside),
        -2.0 * cold * (1.0 - gone),
        (by_power + first_by_power * later) * overlap,
        np.full_like(work, overhead * 1e-3),
    ]
    own = [-by_a * arithmetic, by_a * work * k * (1.0 + m), by_a * work * (1.0 + k) * m]
    return slopes, own


def _combined(first: Floats, second: Floats, power: float) -> tuple[Floats, Floats, Floats]:
    """Derivatives of `combine_ms` by its two parts and by the power."""
    most = np.maximum(np.maximum(first, second), 1e-300)
    a, b = (np.maximum(part / most, 1e-300) for part in (first, second))
    a_p, b_p = a**power, b**power
    both = a_p + b_p
    together = most * both ** (1.0 / power)
    by_a, by_b = (x_p / x * both ** (1.0 / power - 1.0) for x, x_p in ((a, a_p), (b, b_p)))
    by_power = (a_p * np.log(a) + b_p * np.log(b)) / (both * power) - np.log(both) / power**2
    return by_a, by_b, together * by_power
