"""Scores against slow, literal computations."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileseg.errors import MobilesegError
from mobileseg.train.config import IGNORE
from mobileseg.train.metrics import BOUNDARY_TOLERANCE, Scores, boundary_scores

U8 = npt.NDArray[np.uint8]


def blobs(seed: int, classes: int, height: int = 34, width: int = 27) -> tuple[U8, U8]:
    """Return a blocky truth with ignored pixels, and a prediction that errs."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, classes, (7, 6)), np.ones((5, 5)))[:height, :width]
    guess = np.roll(truth, rng.integers(-3, 4, 2), axis=(0, 1))
    guess[rng.random(guess.shape) < 0.02] = 0
    truth[rng.random(truth.shape) < 0.05] = IGNORE
    return truth.astype(np.uint8), guess.astype(np.uint8)


def naive_iou(truths: list[U8], guesses: list[U8], number: int) -> float:
    hits = union = 0
    for truth, guess in zip(truths, guesses, strict=True):
        for t, g in zip(truth.flat, guess.flat, strict=True):
            if t == IGNORE:
                continue
            hits += t == number and g == number
            union += number in (t, g)
    return hits / union if union else math.nan


def naive_edge(labels: U8, number: int) -> list[tuple[int, int]]:
    height, width = labels.shape
    found = []
    for y in range(height):
        for x in range(width):
            beside = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            values = [labels[a, b] for a, b in beside if 0 <= a < height and 0 <= b < width]
            if labels[y, x] == number and any(v not in (number, IGNORE) for v in values):
                found.append((y, x))
    return found


def naive_boundary(truth: U8, guess: U8, number: int) -> float:
    radius = max(1, round(BOUNDARY_TOLERANCE * math.hypot(*truth.shape)))
    guess = np.where(truth == IGNORE, np.uint8(IGNORE), guess)
    ours, theirs = naive_edge(guess, number), naive_edge(truth, number)
    if not ours and not theirs:
        return math.nan
    if not ours or not theirs:
        return 0.0

    def near(points: list[tuple[int, int]], target: list[tuple[int, int]]) -> float:
        hits = [any(math.dist(p, q) <= radius for q in target) for p in points]
        return sum(hits) / len(hits)

    precision, recall = near(ours, theirs), near(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 5))
@settings(max_examples=15, deadline=None)
def test_equals_the_naive(seed: int, classes: int) -> None:
    sizes = [(34, 27), (21, 30), (29, 13)]
    cases = [blobs(seed + i, classes, *size) for i, size in enumerate(sizes)]
    truths, guesses = [list(part) for part in zip(*cases, strict=True)]
    scores = Scores([f"c{i}" for i in range(classes)])
    for truth, guess in cases:
        scores.add(truth, guess)
    ious = [naive_iou(truths, guesses, c) for c in range(classes)]
    np.testing.assert_allclose(scores.iou, ious)
    assert scores.miou == pytest.approx(np.nanmean(ious))
    valid = np.concatenate([t[t != IGNORE] == g[t != IGNORE] for t, g in cases])
    assert scores.accuracy == pytest.approx(valid.mean())
    table = [[naive_boundary(t, g, c) for t, g in cases] for c in range(classes)]
    seen = [np.nanmean(row) for row in table if not np.isnan(row).all()]
    assert scores.boundary_f == pytest.approx(np.mean(seen))
    if classes == 2:
        assert scores.foreground_iou == pytest.approx(ious[1])
        per_image = [naive_iou([t], [g], 1) for t, g in cases]
        assert scores.foreground_iou_per_image == pytest.approx(np.nanmean(per_image))
    else:
        assert scores.foreground_iou is None
        assert scores.foreground_iou_per_image is None


def test_three_portrait_figures_differ() -> None:
    scores = Scores(["background", "person"])
    truth = np.zeros((10, 10), np.uint8)
    truth[:8] = 1
    scores.add(truth, truth)
    small = np.zeros((10, 10), np.uint8)
    small[0, :4] = 1
    guess = np.zeros((10, 10), np.uint8)
    guess[0, 2:6] = 1
    scores.add(small, guess)
    assert scores.foreground_iou == pytest.approx(82 / 86)
    assert scores.foreground_iou_per_image == pytest.approx((1 + 2 / 6) / 2)
    assert scores.miou == pytest.approx((82 / 86 + 114 / 118) / 2)


def test_absent_class_is_left_out() -> None:
    scores = Scores(["a", "b", "c"])
    truth = np.zeros((6, 7), np.uint8)
    truth[:, 3:] = 1
    scores.add(truth, truth)
    assert np.isnan(scores.iou[2])
    assert scores.miou == 1
    facts = scores.as_dict()
    assert facts["iou_percent"] == {"a": 100.0, "b": 100.0, "c": None}
    assert facts["miou_percent"] == facts["boundary_f_percent"] == 100.0
    assert facts["foreground_iou_percent"] is None
    assert facts["images"] == 1


def test_image_without_person_does_not_count_per_image() -> None:
    scores = Scores(["background", "person"])
    empty = np.zeros((5, 6), np.uint8)
    full = np.ones((5, 6), np.uint8)
    scores.add(empty, empty)
    assert math.isnan(scores.foreground_iou_per_image or 0.0)
    scores.add(full, full)
    assert scores.foreground_iou_per_image == 1
    scores.add(empty, full)
    assert scores.foreground_iou_per_image == 0.5


def test_nothing_counted() -> None:
    scores = Scores(["a", "b"])
    assert math.isnan(scores.miou)
    scores.add(np.full((4, 5), IGNORE, np.uint8), np.zeros((4, 5), np.uint8))
    assert math.isnan(scores.accuracy)
    assert scores.as_dict()["boundary_f_percent"] is None
    assert Scores(["a", "b"], boundary=False).boundary_f is None


def test_boundary_tolerates_a_small_shift_only() -> None:
    truth = np.zeros((240, 320), np.uint8)  # diagonal 400: 3 pixels are tolerated
    truth[60:180, 80:240] = 1
    for shift, want in ((3, 1.0), (5, 0.0)):
        found = boundary_scores(truth, np.roll(truth, (shift, shift), (0, 1)), 2)[1]
        assert found == pytest.approx(want, abs=0.08)


def test_wrong_input() -> None:
    scores = Scores(["a", "b"])
    with pytest.raises(MobilesegError, match="prediction is"):
        scores.add(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8))
    with pytest.raises(MobilesegError, match="class number above 1"):
        scores.add(np.full((3, 4), 2, np.uint8), np.zeros((3, 4), np.uint8))
