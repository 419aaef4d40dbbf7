"""What a teacher adds to the loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from mobileseg.errors import MobilesegError
from mobileseg.nets.module import build
from mobileseg.train.config import Distill
from mobileseg.train.distill import (
    Lessons,
    attention_distance,
    channel_divergence,
    divergence,
    mimic_distance,
)
from tests.slim.test_inherit import NETS, trained


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def test_divergence_by_hand() -> None:
    # At temperature 2, chances of 1/2 and 1/2 against 1/3 and 2/3.
    teacher, student = (
        torch.zeros(1, 2, 1, 1),
        torch.tensor([0.0, 2 * math.log(2)]).view(1, 2, 1, 1),
    )
    by_hand = 0.5 * math.log(0.5 / (1 / 3)) + 0.5 * math.log(0.5 / (2 / 3))
    assert float(divergence(student, teacher, 2.0)) == pytest.approx(4 * by_hand, rel=1e-5)


def test_channel_divergence_is_of_places_not_of_classes() -> None:
    teacher = drawn(2, 3, 4, 5)
    assert float(channel_divergence(teacher, teacher)) == pytest.approx(0, abs=1e-6)
    # A class that is more likely everywhere is seen in the same places.
    shifted = teacher + torch.tensor([5.0, -3.0, 0.0]).view(1, 3, 1, 1)
    assert float(channel_divergence(shifted, teacher)) == pytest.approx(0, abs=1e-5)
    assert float(divergence(shifted, teacher)) > 0.1
    two = torch.tensor([0.0, math.log(3)]).view(1, 1, 1, 2)
    by_hand = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert float(channel_divergence(two, torch.zeros_like(two))) == pytest.approx(by_hand, rel=1e-5)


def test_attention_knows_neither_channels_nor_scale() -> None:
    features = drawn(2, 6, 4, 8)
    again = torch.cat([features, -features], dim=1) * 7
    assert float(attention_distance(again, features)) == pytest.approx(0, abs=1e-6)
    coarse = torch.nn.functional.interpolate(features.square(), (8, 16), mode="nearest").sqrt()
    assert float(attention_distance(coarse, features)) == pytest.approx(0, abs=1e-6)
    assert float(attention_distance(drawn(2, 6, 4, 8, seed=3), features)) > 0.1


def test_a_mimic_needs_what_a_linear_map_cannot_give() -> None:
    features = drawn(4, 6, 8, 8)
    mixed = torch.einsum("nchw,dc->ndhw", features, drawn(9, 6, seed=1)) + 3
    assert float(mimic_distance(features, mixed)) < 1e-3
    # Of nine channels six cannot give what was never in them.
    assert float(mimic_distance(drawn(4, 6, 8, 8, seed=2), mixed)) > 0.8
    assert float(mimic_distance(features, torch.ones_like(mixed))) == 0
    # The gradient with the map held is the whole one.
    found = features[:1].double().requires_grad_()
    mimic_distance(found, mixed[:1] * mixed[:1]).backward()  # type: ignore[no-untyped-call]
    step = 1e-2 * drawn(1, 6, 8, 8, seed=3)
    ahead, back = (
        float(mimic_distance(features[:1] + s * step, mixed[:1] * mixed[:1])) for s in (1, -1)
    )
    assert found.grad is not None
    assert float((found.grad * step).sum()) == pytest.approx((ahead - back) / 2, rel=0.05)


@pytest.mark.parametrize(
    ("wish", "left"),
    [
        ({"pixel": 1.0, "temperature": 3.0}, 0.6),
        ({"pixel": 0.0, "channel": 1.0}, 0.6),
        ({"pixel": 0.0, "features": {"conv3_1": "conv3_2", "conv5_1": "conv5_1"}}, 0.6),
        # Two layers' features are more than two maps of attention.
        ({"pixel": 0.0, "mimic": {"conv2_1": "conv2_2", "conv3_1": "conv3_2"}}, 0.75),
    ],
)
def test_each_lesson_brings_the_student_nearer(wish: dict[str, object], left: float) -> None:
    config = Distill(teacher="x", **wish)  # type: ignore[arg-type]
    teacher = build(NETS["v2.1.6"]).requires_grad_(False)
    teacher.load_state_dict(trained(NETS["v2.1.6"], 1))
    student = build(NETS["v2.1.3"], seed=2).train()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    x = drawn(3, 3, 32, 64).clamp(-1, 1)
    said = []
    with Lessons(config, teacher, student, teacher) as lessons:
        for _ in range(25):
            optimizer.zero_grad()
            loss = lessons(x, student(x))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            said.append(loss.item())
    assert said[-1] < left * said[0]
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(layer._forward_hooks for layer in (*student.modules(), *teacher.modules()))


def test_wrong_wishes_are_named() -> None:
    net = build(NETS["v1"])
    with pytest.raises(ValueError, match="teaches nothing"):
        Distill(teacher="x", pixel=0.0)
    for key in ("features", "mimic"):
        for pairs, word in (({"conv9": "conv1"}, ".*conv9"), ({"conv1": "x"}, ": the teacher")):
            wish = Distill(teacher="x", **{key: pairs})  # type: ignore[arg-type]
            with pytest.raises(MobilesegError, match=key + word):
                Lessons(wish, net, net, net)
