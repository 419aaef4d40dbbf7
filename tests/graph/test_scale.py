"""Factors and sums that become a part of a convolution, as text before and after."""

from __future__ import annotations

import numpy as np
import pytest

from mobileseg.graph import ops, passes
from mobileseg.graph.ir import Graph, hollow
from mobileseg.graph.ir import Tensor as Value
from tests.graph.build import Line, graph, text
from tests.graph.test_passes import CONV, IMAGE, NORM, same_values, with_positive_variance

PER_CHANNEL = {"c": (1, 5, 1, 1)}
IN_FRONT = {"c": (1, 3, 1, 1)}


def kinds(of: Graph) -> list[str]:
    return [node.op.kind for node in of.nodes]


@pytest.mark.parametrize("op", [ops.Mul(), ops.Add(), ops.Mul("relu6"), ops.Add("relu")], ids=str)
@pytest.mark.parametrize("constants", [PER_CHANNEL, {"c": (1, 1, 1, 1)}], ids=["channels", "one"])
def test_fold_scale_behind(op: ops.Op, constants: dict[str, tuple[int, ...]]) -> None:
    before = graph(IMAGE, CONV, ("z", op, "y", constants))
    after = passes.fold_scale(before)
    activation = op.activation  # type: ignore[attr-defined]
    fused = "" if activation == "none" else f"activation={activation}"
    assert str(after) == text(f"""
        inputs %image: f32[1, 3, 6, 8]
        %z: f32[1, 5, 6, 8] = Conv2d({fused}) %image, y.weight[5, 3, 1, 1], y.bias[5]
        outputs z
    """)
    same_values(before, after)


CONVOLUTIONS = {
    "dense": (ops.Conv2d(), {"w": (5, 3, 3, 3)}),
    "depthwise": (ops.Conv2d(groups=3), {"w": (6, 1, 3, 3), "b": (6,)}),
    "transposed": (ops.ConvTranspose2d(pad=(1, 1, 1, 1)), {"w": (3, 5, 4, 4), "b": (5,)}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_fold_scale_in_front(name: str) -> None:
    op, constants = CONVOLUTIONS[name]
    before = graph(IMAGE, ("y", ops.Mul(), "image", IN_FRONT), ("z", op, "y", constants))
    after = passes.fold_scale_in_front(before)
    assert kinds(after) == [op.kind]
    same_values(before, after)


@pytest.mark.parametrize("name", ["dense", "depthwise"])
def test_fold_mean_and_deviation_in_front(name: str) -> None:
    """(x - mean) / deviation, as many networks begin."""
    op, constants = CONVOLUTIONS[name]
    shift: Line = ("s", ops.Add(), "image", {"m": (1, 3, 1, 1)})
    before = graph(IMAGE, shift, ("y", ops.Mul(), "s", IN_FRONT), ("z", op, "y", constants))
    after = passes.fold_scale_in_front(before)
    assert kinds(after) == ["Conv2d"]
    same_values(before, after)


def test_fold_scale_takes_a_chain() -> None:
    chain: list[Line] = [
        CONV,
        ("s", ops.Mul(), "y", PER_CHANNEL),
        ("z", ops.BatchNorm(), "s", NORM),
    ]
    before = with_positive_variance(graph(IMAGE, *chain))
    after = passes.fold_scale(before)
    assert kinds(after) == ["Conv2d"]
    same_values(before, after)


CONV_P: Line = ("y", ops.Conv2d(), "p", {"w": (5, 3, 1, 1)})
MORE = {"d": (1, 5, 1, 1)}
PADDED: Line = ("z", ops.Conv2d(pad=(1, 1, 1, 1)), "y", {"w": (5, 3, 3, 3)})


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([("y", ops.Add(), "image", IN_FRONT), PADDED], id="sum before padding"),
        pytest.param([("y", ops.Mul("relu"), "image", IN_FRONT), PADDED], id="relu between"),
        pytest.param(
            [
                ("y", ops.Conv2d(activation="relu"), "image", {"w": (5, 3, 1, 1)}),
                ("z", ops.Mul(), "y", PER_CHANNEL),
            ],
            id="relu before",
        ),
        pytest.param([CONV, ("z", ops.Mul(), "y", {"c": (1, 5, 6, 8)})], id="not per channel"),
        pytest.param(
            [CONV, ("s", ops.Mul(), "y", PER_CHANNEL), ("z", ops.Add(), "s y")], id="read"
        ),
    ],
)
def test_fold_scale_leaves_what_it_may_not_touch(lines: list[Line]) -> None:
    before = graph(IMAGE, *lines)
    assert str(passes.fold_scale(before)) == str(before)
    assert str(passes.fold_scale_in_front(before)) == str(before)


def test_weights_stored_smaller_stay_as_they_are() -> None:
    lines: list[Line] = [("p", ops.Mul(), "image", IN_FRONT), CONV_P, ("z", ops.Mul(), "y", MORE)]
    before = passes.float16_weights(graph(IMAGE, *lines))
    assert str(passes.fold_scale(before)) == str(before)
    assert str(passes.fold_scale_in_front(before)) == str(before)


def test_fold_scale_of_hollow_weights_is_hollow() -> None:
    """What is only counted and priced folds as the trained network does."""
    before = graph(IMAGE, CONV, ("z", ops.Mul(), "y", PER_CHANNEL))
    empty = [Value(name, before[name].shape, data=hollow(before[name].shape)) for name in "wbc"]
    assert str(passes.fold_scale(before.with_tensors(empty))) == str(passes.fold_scale(before))


def test_batch_norm_that_stands_alone_becomes_a_depthwise_convolution() -> None:
    norm = dict.fromkeys(NORM, (3,))
    before = with_positive_variance(graph(IMAGE, ("z", ops.BatchNorm(), "image", norm)))
    after = passes.normalise(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %z: f32[1, 3, 6, 8] = Conv2d(groups=3) %image, z.weight[3, 1, 1, 1], z.bias[3]
        outputs z
    """)
    same_values(before, after)


def test_batch_norm_before_a_convolution_and_a_relu_of_its_own() -> None:
    """The order of pre-activation networks: norm, ReLU, convolution."""
    lines: list[Line] = [
        CONV,
        ("s", ops.Add(), "y y"),
        ("n", ops.BatchNorm(), "s", NORM),
        ("r", ops.Activation("relu"), "n"),
        ("z", ops.Conv2d(), "r", {"v": (7, 5, 1, 1)}),
    ]
    before = with_positive_variance(graph(IMAGE, *lines))
    after = passes.normalise(before)
    assert kinds(after) == ["Conv2d", "Add", "Conv2d", "Conv2d"]
    assert str(after.nodes[2].op) == "Conv2d(groups=5 activation=relu)"
    same_values(before, after)


def test_two_norms_of_one_layer_keep_their_own_weights() -> None:
    shared = {"w": (5, 3, 1, 1)}
    lines: list[Line] = [
        ("a", ops.Conv2d(), "image", shared),
        ("p", ops.Mul(), "a", PER_CHANNEL),
        ("b", ops.Conv2d(), "image w"),
        ("q", ops.Mul(), "b", {"d": (1, 5, 1, 1)}),
        ("z", ops.Add(), "p q"),
    ]
    before = graph(IMAGE, *lines)
    after = passes.fold_scale(before)
    assert kinds(after) == ["Conv2d", "Conv2d", "Add"]
    assert not np.array_equal(after["a.weight"].data, after["b.weight"].data)  # type: ignore[arg-type]
    same_values(before, after)
