"""The range test, on a training whose rates are known to work."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from mobileseg.train.config import AugmentConfig
from mobileseg.train.data import load
from mobileseg.train.find_lr import Tried, smoothed, suggested, try_rates
from tests.train.pictures import write_list
from tests.train.tiny import CONFIG, SIZE, tiny


def test_a_valley_is_found_where_it_is_steepest() -> None:
    # Flat up to 1e-4, falling fastest at 1e-3, flat at 1e-2 and up from there.
    rates = torch.logspace(-6, 0, 121, dtype=torch.float64)
    away = torch.log10(rates) + 3
    losses = 1 - torch.sigmoid(6 * away) + torch.relu(away - 2).square() * 4
    tried = [Tried(float(lr), float(loss)) for lr, loss in zip(rates, losses, strict=True)]
    found = suggested(tried)
    assert found is not None
    assert 8e-4 < found < 1.2e-3
    assert suggested([Tried(each.lr, i / 100) for i, each in enumerate(tried)]) is None
    assert suggested(tried[:3]) is None


def test_smooth_keeps_lines() -> None:
    line = [Tried(1.0, 2.0 * i) for i in range(40)]
    inside = smoothed(line)[5:-5]
    assert inside == pytest.approx([2.0 * i for i in range(5, 35)])


def test_rates_grow_until_the_loss_explodes(tmp_path: Path) -> None:
    data = write_list(tmp_path, 6)
    calls: list[float] = []
    tried = try_rates(
        tiny(),
        load(data, "train", SIZE),
        data,
        CONFIG,
        AugmentConfig(),
        SIZE,
        low=1e-5,
        high=1e5,
        steps=60,
        seed=1,
        progress=lambda _, lr: calls.append(lr),
    )
    assert 10 < len(tried) < 60
    assert calls[: len(tried)] == [each.lr for each in tried][: len(calls)]
    assert tried[0].lr == pytest.approx(1e-5)
    ratio = tried[1].lr / tried[0].lr
    assert all(b.lr / a.lr == pytest.approx(ratio) for a, b in pairwise(tried))
    best = suggested(tried)
    assert best is not None
    assert 1e-4 < best < 10


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_rates_are_tried_in_the_recipes_precision(tmp_path: Path, precision: str) -> None:
    data = write_list(tmp_path, 6)
    kinds = set()

    def losses(precision: str) -> list[float]:
        net = tiny()
        net[6].register_forward_hook(lambda _, __, out: kinds.add(out.dtype))
        config = replace(CONFIG, precision=precision)
        tried = try_rates(
            net,
            load(data, "train", SIZE),
            data,
            config,
            AugmentConfig(),
            SIZE,
            low=1e-3,
            high=1e-2,
            steps=20,
            seed=1,
        )
        return [each.loss for each in tried]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = losses("float32")
        torch.manual_seed(0)
        mixed = losses(precision)
    assert kinds == {torch.float32, getattr(torch, precision)}
    assert mixed == pytest.approx(plain, rel=0.05)
    # It learns: a float16 gradient is scaled, or much of it would be 0.
    assert mixed[-1] < 0.95 * mixed[0]
