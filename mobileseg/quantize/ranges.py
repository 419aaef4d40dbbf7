"""From what calibration saw to the range that int8's 256 steps span, per activation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Array, Graph
from mobileseg.quantize.calibrate import Extremes, Ranges, mean_range
from mobileseg.quantize.config import RangeBy

Floats = NDArray[np.float64]

# Eight bins per step of the whole range: finer ones tell nothing that a step could use.
_BINS = 2048
_LEVELS = 256
# Share of the values that may lie beyond each end.
_BEYOND = 1e-4
# How much of the range so far a picture leaves: TensorFlow's 0.99 is for thousands of batches.
_MOMENTUM = 0.95
# Shares of the whole range that are tried: below 0.3 so much is clipped that none ever won.
_SHARES = np.linspace(0.3, 1.0, 57)


@dataclass(frozen=True)
class Histogram:
    """How often values of an activation fell between `low` and `high`, in even bins."""

    low: float
    high: float
    counts: Floats

    @property
    def centres(self) -> Floats:
        width = (self.high - self.low) / len(self.counts)
        return self.low + width * (np.arange(len(self.counts), dtype=np.float64) + 0.5)


def ranges_by(
    method: RangeBy,
    seen: Mapping[str, Extremes],
    count: Callable[[], Mapping[str, Histogram]],
) -> Ranges:
    """Return every activation's range by its extremes; `count` is asked where these do not do."""
    if method in BY_EXTREMES:
        return {name: BY_EXTREMES[method](extremes) for name, extremes in seen.items()}
    return {name: BY_HISTOGRAM[method](each) for name, each in count().items()}


def histograms(
    graph: Graph, batches: Iterable[Array], seen: Mapping[str, Extremes]
) -> dict[str, Histogram]:
    """Return the histogram of every activation between its extremes."""
    spans = {name: min_max(extremes) for name, extremes in seen.items()}
    counts: dict[str, Floats] = {name: np.zeros(_BINS) for name in seen}

    def count(name: str, value: torch.Tensor) -> None:
        low, high = spans[name]
        if high > low:
            counts[name] += torch.histc(value.float(), _BINS, low, high).numpy()

    with torch.inference_mode():
        for batch in batches:
            execute(graph, torch.from_numpy(batch), count)
    return {name: Histogram(*spans[name], counts[name]) for name in seen}


def min_max(seen: Extremes) -> tuple[float, float]:
    """Return the least and the largest value of all."""
    return float(seen.low.min()), float(seen.high.max())


def moving_average(seen: Extremes) -> tuple[float, float]:
    """Return the extremes of the images in turn, each moving the range a little its way.

    Source: Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, section 3.1.
    """
    low, high = seen.low.min(1).astype(np.float64), seen.high.max(1).astype(np.float64)
    shares = (1 - _MOMENTUM) * _MOMENTUM ** np.arange(len(low))[::-1]
    # The first image starts the range: it has what the others leave.
    shares[0] = _MOMENTUM ** (len(low) - 1)
    return float(shares @ low), float(shares @ high)


def percentile(seen: Histogram) -> tuple[float, float]:
    """Return the range that leaves out a ten-thousandth of the values at either end."""
    total = seen.counts.sum()
    if not total:
        return seen.low, seen.high
    edges = np.linspace(seen.low, seen.high, _BINS + 1)
    below = np.cumsum(seen.counts) / total
    first = int(np.searchsorted(below, _BEYOND, side="right"))
    last = int(np.searchsorted(below, 1 - _BEYOND))
    return float(edges[first]), float(edges[min(last, _BINS - 1) + 1])


def least_squares(seen: Histogram) -> tuple[float, float]:
    """Return the range whose steps are nearest to the values in the mean of squares."""
    return _best(seen, _squared_error)


def least_divergence(seen: Histogram) -> tuple[float, float]:
    """Return the range whose steps keep most of the distribution, by Kullback and Leibler.

    What is zero counts nowhere: it is a step of its own in any range, and behind a ReLU so
    frequent that nothing else would count. Source: Migacz, 8-bit Inference with TensorRT, GTC 2017.
    """
    width = (seen.high - seen.low) / len(seen.counts)
    others = np.where(np.abs(seen.centres) <= width, 0.0, seen.counts)
    return _best(replace(seen, counts=others), _divergence)


def _best(seen: Histogram, cost: Callable[[Histogram, float, float], float]) -> tuple[float, float]:
    """Return the cheapest of the ranges that are a share of the whole one, both ends alike."""
    if not seen.counts.any():
        return seen.low, seen.high
    tried = [(float(share * seen.low), float(share * seen.high)) for share in _SHARES]
    return min(tried, key=lambda span: cost(seen, *span))


def _squared_error(seen: Histogram, low: float, high: float) -> float:
    low, high = min(low, 0.0), max(high, 0.0)
    step = max((high - low) / (_LEVELS - 1), 1e-30)
    values = seen.centres
    stored = low + step * np.round((np.clip(values, low, high) - low) / step)
    return float(seen.counts @ np.square(stored - values))


def _divergence(seen: Histogram, low: float, high: float) -> float:
    """Return how much the steps' distribution differs from the clipped values' one."""
    values, counts = seen.centres, seen.counts
    inside = (values >= low) & (values <= high)
    if not counts[inside].any():
        return np.inf
    clipped = counts[inside].copy()
    clipped[0] += counts[values < low].sum()
    clipped[-1] += counts[values > high].sum()
    # Each step's count, spread evenly over those of its bins that hold anything.
    level = np.floor(np.linspace(0, _LEVELS, len(clipped), endpoint=False)).astype(np.int64)
    held = counts[inside] > 0
    count = np.bincount(level, counts[inside], _LEVELS)
    bins = np.bincount(level, held, _LEVELS)
    stored = np.where(held, (count / np.maximum(bins, 1))[level], 0.0)
    p, q = clipped / clipped.sum(), stored / stored.sum()
    both = (p > 0) & (q > 0)
    # What the steps hold none of counts as if they held next to nothing of it.
    lost = float(p[(p > 0) & (q == 0)].sum()) * 10
    return float((p[both] * np.log(p[both] / q[both])).sum()) + lost


BY_EXTREMES: dict[RangeBy, Callable[[Extremes], tuple[float, float]]] = {
    "mean": mean_range,
    "minmax": min_max,
    "moving": moving_average,
}
BY_HISTOGRAM: dict[RangeBy, Callable[[Histogram], tuple[float, float]]] = {
    "percentile": percentile,
    "mse": least_squares,
    "kl": least_divergence,
}
