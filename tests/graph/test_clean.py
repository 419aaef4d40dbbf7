"""What need not run, as text before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mobileseg.graph import ops, passes
from mobileseg.graph.ir import Graph, QuantParams, hollow
from mobileseg.graph.ir import Tensor as Value
from tests.graph.build import Line, graph, text
from tests.graph.test_passes import CONV, IMAGE, same_values

SOFT: Line = ("y", ops.Softmax(), "image")


def filled(before: Graph, name: str, value: float) -> Graph:
    data = np.full(before[name].shape, value, np.float32)
    return before.with_tensors([replace(before[name], data=data)])


def test_fold_constants() -> None:
    lines: list[Line] = [
        CONV,
        ("s", ops.Mul(), "", {"a": (1, 5, 1, 1), "c": (1, 5, 1, 1)}),
        ("t", ops.Activation("sigmoid"), "s"),
        ("z", ops.Add(), "y t"),
    ]
    before = graph(IMAGE, *lines)
    after = passes.fold_constants(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y: f32[1, 5, 6, 8] = Conv2d() %image, w[5, 3, 1, 1], b[5]
        %z: f32[1, 5, 6, 8] = Add() %y, t[1, 5, 1, 1]
        outputs z
    """)
    same_values(before, after)


def test_fold_constants_of_unknown_weights_leaves_them_unknown() -> None:
    lines: list[Line] = [
        ("s", ops.Neg(), "", {"w": (5, 3, 1, 1)}),
        ("z", ops.Conv2d(), "image s"),
    ]
    before = graph(IMAGE, *lines)
    empty = before.with_tensors([Value("w", (5, 3, 1, 1), data=hollow((5, 3, 1, 1)))])
    after = passes.fold_constants(empty)
    assert [node.op.kind for node in after.nodes] == ["Conv2d"]
    assert after["s"].data is not None and not any(after["s"].data.strides)


def test_fold_constants_keeps_what_is_stored_small() -> None:
    before = passes.float16_weights(graph(IMAGE, CONV))
    assert str(passes.fold_constants(before)) == str(before)


IDLE: dict[str, Line] = {
    "pad": ("z", ops.Pad(ops.NO_PAD), "y"),
    "crop": ("z", ops.Crop((0, 0), (6, 8)), "y"),
    "resize": ("z", ops.Resize((6, 8)), "y"),
    "corners": ("z", ops.Resize((6, 8), align_corners=True), "y"),
    "nearest": ("z", ops.Resize((6, 8), "nearest"), "y"),
    "concat": ("z", ops.Concat(), "y"),
    "pool": ("z", ops.Pool("max", (1, 1), (1, 1)), "y"),
    "depth to space": ("z", ops.DepthToSpace(1), "y"),
    "relu": ("z", ops.Activation("relu"), "y"),
    "relu6": ("z", ops.Activation("relu6"), "y"),
}


@pytest.mark.parametrize("name", IDLE)
@pytest.mark.parametrize("last", [True, False], ids=["output", "inner"])
def test_remove_idle(name: str, last: bool) -> None:
    more: list[Line] = [] if last else [("out", ops.Neg(), "z")]
    before = graph(IMAGE, SOFT, IDLE[name], *more)
    after = passes.remove_idle(before)
    kinds = [node.op.kind for node in after.nodes]
    assert kinds == (["Softmax"] if last else ["Softmax", "Neg"])
    assert after.outputs == before.outputs
    same_values(before, after, 0)


@pytest.mark.parametrize(
    ("op", "value"), [(ops.Add(), 0.0), (ops.Mul(), 1.0)], ids=["sum", "product"]
)
def test_remove_a_sum_of_zeros_and_a_product_with_ones(op: ops.Op, value: float) -> None:
    before = filled(graph(IMAGE, SOFT, ("z", op, "y", {"c": (1, 3, 1, 1)})), "c", value)
    after = passes.remove_idle(before)
    assert [node.op.kind for node in after.nodes] == ["Softmax"]
    same_values(before, after, 0)


def test_a_chain_of_idle_nodes_ends_in_the_network_s_output() -> None:
    names = ["a", "b", "z"]
    pads: list[Line] = [
        (name, ops.Pad(ops.NO_PAD), source)
        for name, source in zip(names, ["y", "a", "b"], strict=True)
    ]
    after = passes.remove_idle(graph(IMAGE, SOFT, *pads))
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %z: f32[1, 3, 6, 8] = Softmax() %image
        outputs z
    """)


NOT_IDLE: dict[str, list[Line]] = {
    "relu of anything": [CONV, ("z", ops.Activation("relu"), "y")],
    "relu6 of a relu": [
        ("y", ops.Conv2d(activation="relu"), "image", {"w": (5, 3, 1, 1)}),
        ("z", ops.Activation("relu6"), "y"),
    ],
    "sigmoid": [SOFT, ("z", ops.Activation("sigmoid"), "y")],
    "pad": [SOFT, ("z", ops.Pad((1, 0, 0, 0)), "y")],
    "moved crop": [SOFT, ("z", ops.Crop((0, 0), (5, 8)), "y")],
    "pool": [SOFT, ("z", ops.Pool("max", (3, 3), (1, 1), (1, 1, 1, 1)), "y")],
    "sum": [SOFT, ("z", ops.Add(), "y", {"c": (1, 3, 1, 1)})],
    "the input itself": [("z", ops.Pad(ops.NO_PAD), "image")],
    "two outputs": [SOFT, ("z", ops.Concat(), "y y")],
}


@pytest.mark.parametrize("name", NOT_IDLE)
def test_remove_idle_keeps_what_does_something(name: str) -> None:
    before = graph(IMAGE, *NOT_IDLE[name])
    assert str(passes.remove_idle(before)) == str(before)


@pytest.mark.parametrize("function", ["relu", "relu6"])
def test_a_relu_is_idle_through_what_copies(function: str) -> None:
    act = ops.Activation(function)  # type: ignore[arg-type]
    lines: list[Line] = [
        ("y", ops.Conv2d(activation="relu6"), "image", {"w": (5, 3, 1, 1)}),
        ("p", ops.Pad((1, 1, 1, 1)), "y"),
        ("r", ops.Resize((12, 16)), "p"),
        ("z", act, "r"),
    ]
    before = graph(IMAGE, *lines)
    after = passes.remove_idle(before)
    assert [node.op.kind for node in after.nodes] == ["Conv2d", "Pad", "Resize"]
    same_values(before, after, 0)


def test_a_quantize_that_changes_the_scale_stays() -> None:
    before = graph(IMAGE, SOFT, ("q", ops.Quantize(), "y"), ("z", ops.Pad(ops.NO_PAD), "q"))
    scales = {"y": 0.5, "q": 0.25, "z": 0.25}
    steps = before.with_tensors(
        replace(before[name], dtype="int8", quant=QuantParams(np.array([scale])))
        for name, scale in scales.items()
    )
    assert [node.op.kind for node in passes.remove_idle(steps).nodes] == ["Softmax", "Quantize"]


def test_merge_twins() -> None:
    lines: list[Line] = [
        ("p", ops.Resize((12, 16)), "image"),
        ("y", ops.Conv2d(), "p", {"w": (5, 3, 1, 1)}),
        ("q", ops.Resize((12, 16)), "image"),
        ("x", ops.Conv2d(), "q", {"v": (5, 3, 1, 1)}),
        ("z", ops.Add(), "y x"),
    ]
    before = graph(IMAGE, *lines)
    after = passes.merge_twins(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %p: f32[1, 3, 12, 16] = Resize(size=12x16) %image
        %y: f32[1, 5, 12, 16] = Conv2d() %p, w[5, 3, 1, 1]
        %x: f32[1, 5, 12, 16] = Conv2d() %p, v[5, 3, 1, 1]
        %z: f32[1, 5, 12, 16] = Add() %y, %x
        outputs z
    """)
    same_values(before, after, 0)


def test_merge_twins_looks_at_values_and_never_merges_unknown_weights() -> None:
    shape = (5, 3, 1, 1)
    lines: list[Line] = [
        ("y", ops.Conv2d(), "image", {"w": shape}),
        ("x", ops.Conv2d(), "image", {"v": shape}),
        ("z", ops.Add(), "y x"),
    ]
    before = graph(IMAGE, *lines)
    assert len(passes.merge_twins(before).nodes) == 3
    equal = before.with_tensors([replace(before["v"], data=before["w"].data)])
    assert len(passes.merge_twins(equal).nodes) == 2
    unknown = before.with_tensors([Value(name, shape, data=hollow(shape)) for name in "wv"])
    assert len(passes.merge_twins(unknown).nodes) == 3


def test_merge_twins_leaves_each_convolution_its_own_pad() -> None:
    lines: list[Line] = [
        ("p", ops.Pad((1, 1, 1, 1)), "image"),
        ("q", ops.Pad((1, 1, 1, 1)), "image"),
        ("z", ops.Add(), "p q"),
    ]
    before = graph(IMAGE, *lines)
    assert str(passes.merge_twins(before)) == str(before)
