"""What is known of a device's coefficients before its own measurements are looked at.

Another device's coefficients, another precision's, or the start of `devices`: each with how far
the measurements may move it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from mobileseg.latency.devices import Device
from mobileseg.latency.error import FEW_FAMILIES, LayerBand
from mobileseg.latency.profile import FitError, Kernel, Precision
from mobileseg.latency.solve import OWN, SHARED, Prior, Problem, Solution, names, rows_ms, solve
from mobileseg.latency.starts import NOTHING, gpu_start, start


@dataclass(frozen=True)
class Beside:
    """What is known of a device at a precision beside its times.

    peak: units of work, 1e9 a second, that no kernel exceeds. counted: kernels by instructions,
    where a precision runs other code than float32 (see `counts`).
    """

    peak: float
    counted: Mapping[str, Kernel]


@dataclass(frozen=True)
class Fitted:
    """The coefficients of one device and precision, and what they came from.

    naive: the error of the model that knows nothing but multiply-adds, checked alike.
    layer: the band of a single layer. given: kernels that the donor's measurements told.
    """

    solution: Solution
    data: Problem
    pixel_tile: int
    error: FitError
    naive: FitError
    layer: LayerBand
    given: frozenset[str]
    beside: Beside

    @property
    def told(self) -> frozenset[str]:
        """The kernels whose rate these measurements tell, or those of the donor before them."""
        rates = self.solution.seen[len(SHARED) :: len(OWN)]
        return self.given | {
            name for name, seen in zip(self.data.kernels, rates, strict=True) if seen
        }


Done: TypeAlias = dict[tuple[str, Precision], Fitted]
PriorOf: TypeAlias = Callable[[Problem], dict[str, Prior]]


def given_to(device: Device, precision: Precision, fitted: Done) -> frozenset[str]:
    """The kernels that a device's donor knows. Another precision's rates are no such knowledge."""
    if precision != "float32" or not device.donor:
        return frozenset()
    return fitted[device.donor, "float32"].told


def prior_of(
    device: Device, precision: Precision, fitted: Done, families: int, beside: Beside
) -> PriorOf:
    """Return what is known before; `families`: how many of them the measurements hold."""
    known = _known(device, precision, fitted, families)
    return lambda data: _within(known(data) | _counted(data, beside.counted), beside.peak)


def _within(prior: dict[str, Prior], peak: float) -> dict[str, Prior]:
    return {
        name: replace(one, most=peak) if name.endswith("giga_per_s") else one
        for name, one in prior.items()
    }


def _counted(data: Problem, counted: Mapping[str, Kernel]) -> dict[str, Prior]:
    prior = {}
    for name in counted.keys() & set(data.kernels):
        prior[f"{name}.giga_per_s"] = Prior(counted[name].giga_per_s, PRECISION_SPREAD)
        half = max(NOTHING, counted[name].reduction_half)
        prior[f"{name}.reduction_half"] = Prior(half, FIXED)
    return prior


def _known(device: Device, precision: Precision, fitted: Done, families: int) -> PriorOf:
    if precision != "float32":
        float32 = fitted[device.name, "float32"]
        pattern = pattern_of(device, precision, fitted)
        known, spread = values_of(float32), PRECISION_SPREAD
        if pattern is not None and families <= FEW_FAMILIES:
            like, base = map(values_of, pattern)
            known, spread = _scaled(known, like, base), RATE_SPREAD
        if precision == "int8":
            known |= {name: known[name] * LONGER for name in LONGER_LOOPS}
        return lambda data: _tied(_donated(known, spread, data) | _START[precision], data)
    if device.donor:
        known = values_of(fitted[device.donor, "float32"])
        if device.step[0]:
            one, many = (values_of(fitted[name, "float32"]) for name in device.step)
            known = _scaled(known, many, one, "per_s")
        spread = RATE_SPREAD if families > FEW_FAMILIES + 1 else FIRM_SPREAD
        return lambda data: _tied(_elsewhere(_donated(known, spread, data)), data)
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


def _tied(prior: dict[str, Prior], data: Problem) -> dict[str, Prior]:
    """Dense convolutions gain from a core, threads or a precision what pointwise ones do.

    Both run one micro-kernel, and few of the networks that were measured tell the dense ones.
    """
    pointwise, dense = prior["pointwise.giga_per_s"], prior["dense.giga_per_s"]
    at = names(data.kernels).index("pointwise.giga_per_s")
    found = float(np.exp(solve(data, prior, steps=8).theta[at]))
    return prior | {"dense.giga_per_s": replace(dense, value=dense.value * found / pointwise.value)}


def pattern_of(device: Device, precision: Precision, fitted: Done) -> tuple[Fitted, Fitted] | None:
    """The device whose ratios of a precision to float32 are taken: those two fits, if it has."""
    like = fitted.get((device.like, precision))
    return None if like is None else (like, fitted[device.like, "float32"])


def values_of(fitted: Fitted) -> dict[str, float]:
    known = np.exp(fitted.solution.theta).tolist()
    return dict(zip(names(fitted.data.kernels), known, strict=True))


def _scaled(
    values: dict[str, float], to: dict[str, float], of: dict[str, float], ending: str = "giga_per_s"
) -> dict[str, float]:
    """Rates times the ratio that another device shows between two of its tables."""
    return {
        name: value * to[name] / of[name] if name.endswith(ending) else value
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


def _elsewhere(prior: dict[str, Prior]) -> dict[str, Prior]:
    """The prior of another runtime or another number of threads: operators start otherwise."""
    start_us = max(prior["overhead_us"].value, RUNTIME_US)
    return prior | {"overhead_us": Prior(start_us, RUNTIME_SPREAD)}


# How far a coefficient may leave the donor's without evidence (logarithms): rates by a third, the
# shape of the curves by a sixth; another precision's rates by two thirds, since kernels gain
# differently, unless a device of the same kind shows by how much.
RATE_SPREAD = 0.3
SHAPE_SPREAD = 0.15
PRECISION_SPREAD = 0.5
FIXED = 0.01
# An int8 product of matrices needs a longer loop to reach its rate: 4.5 times by the instructions
# counted on Arm, 6.5 by x86-64's times; seven phones' unseen networks are foretold best with this.
LONGER = 3.0
LONGER_LOOPS = ("pointwise.reduction_half", "dense.reduction_half")
ALIKE_SPREAD = 0.1
# Two or three architectures cannot tell a dozen kernels apart: a common factor is all they say.
FIRM_SPREAD = 0.1
# Starting an operator hangs on the runtime and on waking threads, not on the core: tenths of a
# microsecond in a block timed alone, several in other runtimes, tens where threads meet.
RUNTIME_US, RUNTIME_SPREAD = 3.0, 2.0
# The int8 networks of a Snapdragon 855 and 865 are foretold best with a microsecond (1 and 3 % off
# instead of 13 and 8): what float32 pays more for small operators is not the start alone.
_START: dict[Precision, dict[str, Prior]] = {
    "float16": {},
    "int8": {"overhead_us": Prior(1.0, 0.5)},
}
