"""Ranges of activations, against what they mean."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from mobileseg.graph import ops
from mobileseg.quantize.calibrate import Extremes, observe
from mobileseg.quantize.config import RangeBy
from mobileseg.quantize.ranges import (
    BY_EXTREMES,
    BY_HISTOGRAM,
    Histogram,
    histograms,
    least_divergence,
    least_squares,
    moving_average,
    percentile,
    ranges_by,
)
from tests.graph.build import graph


def of(values: np.ndarray) -> Histogram:  # type: ignore[type-arg]
    low, high = float(values.min()), float(values.max())
    counts, _ = np.histogram(values, 2048, (low, high))
    return Histogram(low, high, counts.astype(np.float64))


def normal(outlier: float = 0.0) -> np.ndarray:  # type: ignore[type-arg]
    values = np.random.default_rng(4).normal(size=200_000)
    return np.append(values, [-outlier, outlier])


def error(values: np.ndarray, low: float, high: float) -> float:  # type: ignore[type-arg]
    step = (high - low) / 255
    stored = low + step * np.round((values.clip(low, high) - low) / step)
    return float(np.square(stored - values).mean())


def test_every_way_is_in_one_table() -> None:
    assert set(get_args(RangeBy)) == BY_EXTREMES.keys() | BY_HISTOGRAM.keys()


def test_moving_average() -> None:
    seen = Extremes(-np.array([[1.0, 0.5], [2.0, 0.0]]), np.array([[0.0, 4.0], [8.0, 1.0]]))
    assert moving_average(seen) == pytest.approx((-0.95 - 0.05 * 2, 0.95 * 4 + 0.05 * 8))


def test_percentile_leaves_out_a_ten_thousandth() -> None:
    values = normal(outlier=12)
    low, high = percentile(of(values))
    assert (values < low).mean() == pytest.approx(1e-4, abs=1e-4)
    assert (values > high).mean() == pytest.approx(1e-4, abs=1e-4)
    assert high < 5


@pytest.mark.parametrize("outlier", [0.0, 8.0, 14.0])
def test_least_squares_is_the_least(outlier: float) -> None:
    values = normal(outlier)
    found = error(values, *least_squares(of(values)))
    whole = values.min(), values.max()
    tried = [error(values, share * whole[0], share * whole[1]) for share in (0.4, 0.6, 0.8, 1)]
    assert found <= min(tried) * 1.01


def test_least_divergence_cuts_an_outlier_and_nothing_else() -> None:
    low, high = least_divergence(of(normal(outlier=14)))
    assert -9 < low < -2.5 and 2.5 < high < 9
    even = np.linspace(0, 1, 100_000)
    assert least_divergence(of(even)) == pytest.approx((0, 1), abs=0.03)


@pytest.mark.parametrize("method", get_args(RangeBy))
def test_a_graphs_ranges(method: RangeBy) -> None:
    before = graph((1, 3, 2, 4), ("y", ops.Activation("relu"), "image"))
    images = np.random.default_rng(0).uniform(-1, 1, (6, 3, 2, 4)).astype(np.float32)
    seen = observe(before, [images[:4], images[4:]])
    batches = [images[:4], images[4:]]
    found = ranges_by(method, seen, lambda: histograms(before, batches, seen))
    assert found.keys() == {"image", "y"}
    low, high = found["y"]
    assert low == pytest.approx(0, abs=1e-3) and 0.25 < high <= images.max()


@pytest.mark.parametrize("method", get_args(RangeBy))
def test_a_dead_activation_has_a_range_of_nothing(method: RangeBy) -> None:
    before = graph((1, 3, 2, 4), ("y", ops.Activation("relu"), "image"))
    images = -np.ones((2, 3, 2, 4), np.float32)
    seen = observe(before, [images])
    found = ranges_by(method, seen, lambda: histograms(before, [images], seen))
    assert found["y"] == (0, 0)
