"""What makes another's network one of ours at its entrance: as text, and in its values."""

from __future__ import annotations

import numpy as np
import torch

from mobileseg.graph.execute import execute
from mobileseg.graph.ops import Conv2d, Pool
from mobileseg.graph.passes import float16_weights, float32_weights, scale_input
from tests.graph.build import graph, text


def test_an_input_of_another_range() -> None:
    before = graph((1, 3, 5, 7), ("y", Pool("max", (2, 2), (1, 1)), "image"))
    shift, factor = np.array([0.5, -1.0, 2.0]), np.array([2.0])
    made = scale_input(before, shift, factor)
    assert str(made) == text(
        """
        inputs %image: f32[1, 3, 5, 7]
        %image_shifted: f32[1, 3, 5, 7] = Add() %image, image_shifted_by[1, 3, 1, 1]
        %image_scaled: f32[1, 3, 5, 7] = Mul() %image_shifted, image_scaled_by[1, 3, 1, 1]
        %y: f32[1, 3, 4, 6] = Pool(function=max kernel=2x2 stride=1x1) %image_scaled
        outputs y
        """
    )
    x = torch.randn(1, 3, 5, 7)
    taken = (x + torch.from_numpy(shift).float().reshape(1, 3, 1, 1)) * 2
    torch.testing.assert_close(execute(made, x), execute(before, taken))


def test_nothing_to_shift_or_scale() -> None:
    before = graph((1, 3, 5, 7), ("y", Pool("max", (2, 2), (1, 1)), "image"))
    assert scale_input(before, np.zeros(1), np.ones(1)).nodes == before.nodes


def test_weights_stored_small_are_wide_again() -> None:
    before = graph((1, 3, 5, 7), ("y", Conv2d(), "image", {"w": (4, 3, 1, 1)}))
    half = float16_weights(before)
    made = float32_weights(half)
    assert [each.op.kind for each in made.nodes] == ["Conv2d"]
    x = torch.randn(1, 3, 5, 7)
    assert torch.equal(execute(made, x), execute(half, x))
