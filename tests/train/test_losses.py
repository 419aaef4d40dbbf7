"""Losses against slow, literal computations."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.train.config import IGNORE, DataConfig, LossConfig, TrainConfig
from mobileseg.train.data import Dataset
from mobileseg.train.losses import (
    LOSSES,
    Whole,
    class_weights,
    edges,
    make_loss,
    median_frequency,
)


def case(seed: int, classes: int = 4, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    seeded = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, classes, 5, 7), generator=seeded) * spread
    masks = torch.randint(0, classes, (2, 5, 7), generator=seeded)
    masks[torch.rand(masks.shape, generator=seeded) < 0.2] = IGNORE
    return logits, masks


def points(logits: Tensor, masks: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [P, C] and labels [P] of the pixels that count."""
    flat = logits.softmax(1).permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).double().numpy()
    labels = masks.flatten().numpy()
    return flat[labels != IGNORE], labels[labels != IGNORE]


def naive_dice(logits: Tensor, masks: Tensor) -> float:
    p, labels = points(logits, masks)
    terms = []
    for c in np.unique(labels):
        truth = labels == c
        terms.append(1 - 2 * p[truth, c].sum() / (p[:, c].sum() + truth.sum()))
    return float(np.mean(terms)) if terms else 0.0


def naive_lovasz(logits: Tensor, masks: Tensor) -> float:
    """Interpolate the set function 1 - IoU along the sorted errors, set by set."""
    p, labels = points(logits, masks)
    terms = []
    for c in np.unique(labels):
        truth = labels == c
        errors = np.abs(truth - p[:, c])
        order = np.argsort(-errors)

        def delta(wrong: np.ndarray, truth: np.ndarray = truth) -> float:
            return float(wrong.sum() / (truth | wrong).sum()) if (truth | wrong).any() else 0.0

        wrong = np.zeros(len(truth), bool)
        before, total = 0.0, 0.0
        for i in order:
            wrong[i] = True
            after = delta(wrong)
            total += errors[i] * (after - before)
            before = after
        terms.append(total)
    return float(np.mean(terms)) if terms else 0.0


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 6), spread=st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_dice_and_lovasz_equal_the_naive(seed: int, classes: int, spread: float) -> None:
    logits, masks = case(seed, classes, spread)
    dice = make_loss(LossConfig(dice=1.0))(logits, masks)
    assert float(dice) == pytest.approx(naive_dice(logits, masks), abs=2e-5)
    lovasz = make_loss(LossConfig(lovasz=1.0))(logits, masks)
    assert float(lovasz) == pytest.approx(naive_lovasz(logits, masks), abs=2e-5)


def test_lovasz_is_one_minus_iou_for_hard_predictions() -> None:
    masks = torch.zeros((1, 8, 9), dtype=torch.int64)
    masks[:, 2:6, 2:6] = 1
    guess = torch.zeros_like(masks)
    guess[:, 3:7, 2:6] = 1
    logits = F.one_hot(guess, 2).permute(0, 3, 1, 2) * 50.0
    ious = [12 / 20, (72 - 20) / (72 - 12)]
    loss = make_loss(LossConfig(lovasz=1.0))(logits, masks)
    assert float(loss) == pytest.approx(1 - np.mean(ious), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0, 2.0])])
def test_cross_entropy_equals_torch(weights: Tensor | None, smoothing: float) -> None:
    logits, masks = case(3)
    found = make_loss(LossConfig(cross_entropy=1.0), weights, smoothing)(logits, masks)
    want = F.cross_entropy(logits, masks, weights, ignore_index=IGNORE, label_smoothing=smoothing)
    torch.testing.assert_close(found, want)


def test_focal_weighs_a_pixel_by_how_far_off_it_is() -> None:
    logits, masks = case(6)
    p, labels = points(logits, masks)
    truth = p[np.arange(len(p)), labels]
    want = (-((1 - truth) ** 2) * np.log(truth)).mean()
    assert float(make_loss(LossConfig(focal=1.0))(logits, masks)) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("spread", [0.5, 40.0])
def test_ohem_takes_the_hard_pixels(spread: float) -> None:
    logits, masks = case(7, spread=spread)
    logits += F.one_hot(masks % IGNORE, 4).permute(0, 3, 1, 2) * spread * 2.5
    p, labels = points(logits, masks)
    truth = p[np.arange(len(p)), labels]
    # Those below 0.7; where few are, the hardest sixteenth.
    limit = max(0.7, np.sort(truth)[len(truth) // 16 - 1])
    want = -np.log(truth[truth < limit]).mean()
    assert 0 < (truth < limit).sum() < len(truth)
    assert float(make_loss(LossConfig(ohem=1.0))(logits, masks)) == pytest.approx(want, rel=1e-4)


def test_bce_is_of_each_class_against_the_rest() -> None:
    logits, masks = case(3)
    p, labels = points(logits, masks)
    truth = np.eye(4)[labels]
    want = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()
    assert float(make_loss(LossConfig(bce=1.0))(logits, masks)) == pytest.approx(want, rel=1e-5)
    two = case(3, classes=2)
    found = make_loss(LossConfig(bce=1.0))(*two)
    torch.testing.assert_close(found, make_loss(LossConfig(cross_entropy=1.0))(*two))


def test_lovasz_hinge_is_the_set_function_along_the_errors() -> None:
    logits, masks = case(2, classes=2)
    margins = (logits[:, 1] - logits[:, 0]).double().numpy()[masks != IGNORE]
    labels = masks[masks != IGNORE].numpy() == 1
    terms = []
    for truth, margin in ((~labels, -margins), (labels, margins)):
        errors = np.maximum(0, 1 - margin * np.where(truth, 1, -1))
        wrong, total, before = np.zeros(len(truth), bool), 0.0, 0.0
        for i in np.argsort(-errors):
            wrong[i] = True
            after = wrong.sum() / (truth | wrong).sum()
            total, before = total + errors[i] * (after - before), after
        terms.append(total)
    found = make_loss(LossConfig(lovasz_hinge=1.0))(logits, masks)
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-5)


def test_edges_are_where_classes_meet() -> None:
    masks = torch.zeros((1, 6, 8), dtype=torch.int64)
    masks[:, :, 4:] = 1
    masks[:, 0] = IGNORE
    sure = torch.full((1, 1, 6, 8), -30.0)
    sure[..., 3:5] = 30.0
    assert float(edges(sure, masks)) == pytest.approx(0, abs=1e-6)
    assert float(edges(-sure, masks)) == pytest.approx(30)
    # What lies beside an ignored row has no say, and both kinds weigh alike.
    sure[:, :, :2] *= -1
    assert float(edges(sure, masks)) == pytest.approx(0, abs=1e-6)
    sure[..., 2:, 4] *= -1
    assert float(edges(sure, masks)) == pytest.approx(7.5)
    assert float(edges(sure, torch.full_like(masks, IGNORE))) == 0


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0, 2.0])])
def test_the_parts_of_a_batch_add_up(weights: Tensor | None) -> None:
    logits, masks = case(4)
    masks[0] = IGNORE  # a part in which nothing counts
    loss = make_loss(LossConfig(cross_entropy=0.7, focal=0.2, bce=0.4), weights, 0.1)
    assert loss.adds_up
    counted, share = loss.counted(masks), 1 / len(masks)
    parts = [
        loss(logits[i : i + 1], masks[i : i + 1], Whole(counted, share)) for i in range(len(masks))
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), loss(logits, masks))


def test_parts_of_dice_and_lovasz_make_a_mean() -> None:
    logits, masks = case(4)
    loss = make_loss(LossConfig(cross_entropy=1.0, dice=1.5, lovasz=0.25))
    assert not loss.adds_up
    whole = Whole(loss.counted(masks), 1.0)
    torch.testing.assert_close(loss(logits, masks, whole), loss(logits, masks))
    half = make_loss(LossConfig(dice=1.0))(logits, masks, Whole(loss.counted(masks), 0.5))
    assert float(half) == pytest.approx(0.5 * naive_dice(logits, masks), abs=2e-5)


def test_weighted_sum() -> None:
    logits, masks = case(5)
    parts = [float(make_loss(LossConfig(**{name: 1.0}))(logits, masks)) for name in LOSSES]
    config = LossConfig(cross_entropy=0.7, dice=1.5, lovasz=0.25)
    want = np.dot([0.7, 0, 0, 0, 1.5, 0.25, 0], parts)
    assert float(make_loss(config)(logits, masks)) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_have_no_say(name: str) -> None:
    logits, masks = case(8)
    loss = make_loss(LossConfig(**{name: 1.0}))
    changed = torch.where(
        (masks == IGNORE).unsqueeze(1), logits + 9 * torch.randn_like(logits), logits
    )
    torch.testing.assert_close(loss(logits, masks), loss(changed, masks))
    changed.requires_grad_()
    torch.autograd.backward(loss(changed, masks))
    assert changed.grad is not None
    gradient = changed.grad.abs().sum(1)
    assert (gradient[masks == IGNORE] == 0).all()
    assert (gradient[masks != IGNORE] > 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_to_learn_is_zero(name: str) -> None:
    logits = torch.randn((2, 3, 4, 5), requires_grad=True)
    loss = make_loss(LossConfig(**{name: 1.0}), torch.ones(3))
    value = loss(logits, torch.full((2, 4, 5), IGNORE))
    torch.autograd.backward(value)
    assert value.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_descends(name: str) -> None:
    logits, masks = case(9)
    logits.requires_grad_()
    loss = make_loss(LossConfig(**{name: 1.0}))
    first = loss(logits, masks)
    torch.autograd.backward(first)
    assert logits.grad is not None
    assert loss(logits - 0.5 * logits.grad, masks) < first


def test_table_and_config_name_the_same_losses() -> None:
    assert list(LOSSES) == [f.name for f in fields(LossConfig)]


def test_median_frequency() -> None:
    pixels = np.array([[80, 20, 0], [60, 0, 40], [50, 10, 40]])
    # frequencies: 190/300, 30/200, 80/200; their median is 80/200
    want = [0.4 / (190 / 300), 0.4 / 0.15, 1.0]
    np.testing.assert_allclose(median_frequency(pixels), want, rtol=1e-6)
    with pytest.raises(MobilesegError, match=r"classes \[1\] have no pixels"):
        median_frequency(np.array([[5, 0], [6, 0]]))


def test_a_power_draws_weights_together() -> None:
    images, masks = np.zeros((2, 10, 10, 3), np.uint8), np.zeros((2, 10, 10), np.uint8)
    masks[:, :2] = 1
    data = Dataset((), images, masks)
    config = TrainConfig(class_weights="median_frequency")
    two = DataConfig()
    found = [
        class_weights(data, two, replace(config, class_weights_power=power), torch.device("cpu"))
        for power in (1.0, 0.5)
    ]
    assert found[0] is not None and found[1] is not None
    torch.testing.assert_close(found[1], found[0].sqrt())
    assert float(found[0][1]) == pytest.approx(2.5)
