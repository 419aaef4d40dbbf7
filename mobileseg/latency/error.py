"""How far estimates lie from measurements that the fit had not seen, and the band that follows.

Every band is an 80 % band: of networks (or layers) of a family that the fit has not seen, at least
eight of ten lie within ms / factor and ms * factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, hypot, log, sqrt

import numpy as np

from mobileseg.latency.profile import BAND_PERCENT, FitError
from mobileseg.latency.solve import Floats, Problem, operators_ms

# No band is narrower than a phone's own warmth makes it.
LEAST_FACTOR = 1.1
# Fewer rows than this show an 80 % quantile by luck: the band is never less than what the worst
# unseen family among five missed by, 28 % (int8 V1).
TEN_ROWS = 10
FEW_FACTOR = 1.3
# So few rows, or families, have none: the largest error is taken and once more half.
FEW_ROWS, FEW_FAMILIES = 4, 2
# Half of a row's time from kernels that nothing was known of (see UNSEEN_FACTOR).
UNSEEN_FACTOR = 1.8
MOSTLY_UNSEEN = 0.5 * log(UNSEEN_FACTOR)
# Single layers miss by two to four times as much as what they are part of (as logarithms): their
# errors do not average out. Source: the first experiment on the block tables.
LAYER_LEAST, LAYER_MOST = 2.0, 4.0
UNTIMED = -1.0


def fit_error(
    check: str,
    foretold: Floats,
    measured: Floats,
    families: Sequence[str],
    doubts: Floats | None = None,
    least: float = LEAST_FACTOR,
) -> FitError:
    """Sum up how far estimates lie from measurements.

    doubts: per row, by how much (as a logarithm) kernels without data widen the band already, as
    `Pricing` does; the factor is for the rest. Rows that are mostly of such kernels count in the
    errors but not in the band, which is one of networks whose kinds have data.
    """
    percent = np.abs(foretold / measured - 1.0) * 100.0
    logs = np.abs(np.log(foretold / measured))
    labels = np.array(families)
    if doubts is not None and (doubts < MOSTLY_UNSEEN).any():
        known = doubts < MOSTLY_UNSEEN
        logs = np.sqrt(np.maximum(logs**2 - doubts**2, 0.0))[known]
        labels = labels[known]
    return FitError(
        check=check,
        rows=len(measured),
        families=len(set(families)),
        median_percent=short(float(np.median(percent))),
        mean_percent=short(float(percent.mean())),
        p90_percent=short(float(np.percentile(percent, 90))),
        within_10_percent=short(100.0 * float((percent <= 10.0).mean())),
        spearman=short(spearman(foretold, measured)),
        factor=short(max(least, exp(band_log(logs, labels.tolist())))),
        inside_percent=short(100.0 * inside(logs, labels.tolist(), least)),
    )


def band_log(logs: Floats, families: Sequence[str]) -> float:
    """The band as a logarithm: the conformal 80 % quantile of errors on unseen families.

    The larger one of two: that of all rows, and that of the families' own 80 % quantiles. A table
    of thousands of one kind of block would otherwise speak for all that it does not hold.
    Source: Vovk et al. 2005, split conformal prediction: the ceil(0.8 (n + 1))-th smallest.
    """
    labels = np.array(families)
    kinds = sorted(set(families))
    if len(logs) <= FEW_ROWS or len(kinds) <= FEW_FAMILIES:
        return max(log(FEW_FACTOR), 1.5 * _quantile(logs))
    own = [_quantile(logs[labels == name]) for name in kinds]
    least = log(FEW_FACTOR) if len(logs) < TEN_ROWS else 0.0
    return max(least, _quantile(logs), _quantile(np.array(own)))


def _quantile(logs: Floats) -> float:
    rank = ceil(BAND_PERCENT / 100 * (len(logs) + 1) - 1e-9)
    return float(np.sort(logs)[min(rank, len(logs)) - 1])


def inside(logs: Floats, families: Sequence[str], least: float = LEAST_FACTOR) -> float:
    """Share of rows inside a band that was made without their own family's errors."""
    labels = np.array(families)
    kinds = sorted(set(labels.tolist()))
    if len(kinds) < 2:
        return float((logs <= max(log(least), band_log(logs, families))).mean())
    hits = 0
    for name in kinds:
        band = max(log(least), band_log(logs[labels != name], labels[labels != name].tolist()))
        hits += int((logs[labels == name] <= band).sum())
    return hits / len(logs)


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; 1 where there is but one row."""
    first, second = (np.argsort(np.argsort(x, kind="stable"), kind="stable") for x in (a, b))
    return float(np.asarray(np.corrcoef(first, second))[0, 1]) if len(a) > 1 else 1.0


@dataclass(frozen=True)
class LayerBand:
    """The 80 % band of a single layer, as a logarithm.

    inside_percent: how many blocks of a family that the fit had not seen lie inside the band that
    the other families make; `UNTIMED` where no block was timed.
    """

    log: float
    inside_percent: float


def layer_band(
    data: Problem, theta: Floats, foretold: Floats, families: Sequence[str]
) -> LayerBand:
    """Return a layer's band from the errors of blocks whose family was left out.

    Independent errors of n equal parts average to 1 / sqrt(n) of one part's; n is the number of
    operators that share a block's time, so a block tells its layers' error times sqrt(n).
    """
    logs = np.abs(np.log(foretold / data.ms))
    single = logs * np.sqrt(_alike(data, theta))
    labels = np.array(families)
    hits = 0
    for name in sorted(set(families)):
        others = labels != name
        band = band_log(single[others], labels[others].tolist())
        hits += int((logs[~others] <= band).sum())
    return LayerBand(band_log(single, families), short(100.0 * hits / len(logs)))


def _alike(data: Problem, theta: Floats) -> Floats:
    """How many operators share a row's time: 1 where one takes all, n where n take the same."""
    parts = operators_ms(data, theta)
    count = len(data.ms)
    total = np.bincount(data.row, parts, count)
    return np.asarray(total**2 / np.bincount(data.row, parts**2, count))


def layer_power(data: Problem, theta: Floats) -> float:
    """By how much a layer's band is wider than that of the row it is part of (as a logarithm).

    Independent errors of n equal parts average to 1 / sqrt(n) of one part's; n is the number of
    layers that share a row's time, held between what single layers were seen to miss by.
    """
    alike = float(np.median(_alike(data, theta)))
    return min(LAYER_MOST, max(LAYER_LEAST, sqrt(alike)))


def together(*factors: float) -> float:
    """The band of a product of numbers whose errors are independent: logarithms add as squares."""
    return exp(hypot(*map(log, factors)))


def macs_only(macs: Floats, measured: Floats, families: Sequence[str]) -> Floats:
    """The naive model's times: multiply-adds over one rate, the other families' median."""
    labels = np.array(families)
    foretold = np.zeros(len(measured))
    for name in set(families):
        others = labels != name
        chosen = others if others.any() else ~others
        rate = np.median(macs[chosen] / measured[chosen])
        foretold[labels == name] = macs[labels == name] / rate
    return foretold


def short(value: float) -> float:
    """Four digits: more would say more than is known, and differ between machines."""
    return float(f"{value:.4g}")
