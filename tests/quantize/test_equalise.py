"""Channels are scaled only where the float function stays what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Array, Graph
from mobileseg.quantize.calibrate import observe
from mobileseg.quantize.equalise import equalise, relu_for_relu6
from mobileseg.quantize.ties import channel_ties
from tests.graph.build import Line, graph

IMAGE = (1, 3, 6, 8)
CONV: Line = ("a", ops.Conv2d(activation="relu"), "image", {"w": (8, 3, 1, 1), "b": (8,)})
LAST: Line = ("z", ops.Conv2d(), "y", {"k": (2, 8, 1, 1)})

# What may lie between convolutions: the line that makes `y` of `a` and `c`.
BETWEEN: dict[str, list[Line]] = {
    "nothing": [("y", ops.Activation("relu"), "a")],
    "depthwise": [("y", ops.Conv2d(groups=8, activation="relu"), "a", {"d": (8, 1, 3, 3)})],
    "grouped": [("y", ops.Conv2d(groups=2), "a", {"d": (8, 4, 1, 1), "e": (8,)})],
    "deconv": [("y", ops.ConvTranspose2d(activation="relu"), "a", {"d": (8, 8, 2, 2), "e": (8,)})],
    "sum": [("p", ops.Conv2d(pad=(1, 1, 1, 1)), "image", {"v": (8, 3, 3, 3)}),
            ("y", ops.Add("relu"), "a p")],
    "product": [("g", ops.GlobalMean(), "a"), ("h", ops.Activation("sigmoid"), "g"),
                ("y", ops.Mul(), "a h")],
    "pad, crop and pool": [("p", ops.Pad((1, 0, 1, 2)), "a"), ("q", ops.Crop((1, 0), (5, 8)), "p"),
                           ("y", ops.Pool("mean", (2, 2), (2, 2)), "q")],
    "resize": [("p", ops.Neg(), "a"), ("y", ops.Resize((9, 7)), "p")],
    "hard swish": [("y", ops.Activation("hard_swish"), "a")],
    "constants": [("p", ops.Mul("relu"), "a", {"t": (1, 8, 1, 1)}),
                  ("y", ops.Add(), "p", {"u": (1, 8, 1, 1)})],
}  # fmt: skip


def pictures(count: int = 5) -> Array:
    return np.random.default_rng(1).uniform(-1, 1, (count, *IMAGE[1:])).astype(np.float32)


def uneven(before: Graph) -> Graph:
    """Return the graph with filters of very different size."""
    random = np.random.default_rng(2)
    changed = []
    for tensor in before.tensors.values():
        if tensor.data is not None and tensor.data.ndim == 4 and min(tensor.shape[:2]) > 1:
            factor = np.exp2(random.uniform(-4, 4, tensor.shape[0]))[:, None, None, None]
            changed.append(replace(tensor, data=(tensor.data * factor).astype(np.float32)))
    return before.with_tensors(changed)


def outputs(of: Graph) -> torch.Tensor:
    with torch.inference_mode():
        return execute(of, torch.from_numpy(pictures()))


@pytest.mark.parametrize("kind", BETWEEN)
def test_the_function_stays(kind: str) -> None:
    before = uneven(graph(IMAGE, CONV, *BETWEEN[kind], LAST))
    after, seen = equalise(before, observe(before, [pictures()]))
    torch.testing.assert_close(outputs(after), outputs(before), rtol=1e-4, atol=1e-4)
    again = observe(after, [pictures()])
    assert seen.keys() == again.keys()
    for name, extremes in seen.items():
        np.testing.assert_allclose(extremes.high, again[name].high, rtol=1e-3, atol=1e-4)


def unevenness(before: Graph, name: str) -> float:
    peak = observe(before, [pictures()])[name].peak
    return float(np.log2(peak.max() / peak[peak > 0].min()))


# A curve, a gate made of the same channels, a sum with a constant: scaling would change them.
FIXED = ["hard swish", "product", "constants"]


@pytest.mark.parametrize("kind", [kind for kind in BETWEEN if kind not in FIXED])
def test_channels_get_like_ranges(kind: str) -> None:
    before = uneven(graph(IMAGE, CONV, *BETWEEN[kind], LAST))
    after, _ = equalise(before, observe(before, [pictures()]))
    assert unevenness(after, "a") < unevenness(before, "a") - 0.3


@pytest.mark.parametrize("kind", FIXED)
def test_what_is_not_homogeneous_is_left_alone(kind: str) -> None:
    before = graph(IMAGE, CONV, *BETWEEN[kind], LAST)
    assert not channel_ties(before).free("a").any()


def test_a_join_and_depth_to_space_keep_channels_apart() -> None:
    before = graph(
        IMAGE,
        CONV,
        ("q", ops.Conv2d(), "image", {"v": (4, 3, 1, 1)}),
        ("j", ops.Concat(), "a q"),
        ("y", ops.DepthToSpace(2), "j"),
        ("z", ops.Conv2d(), "y", {"k": (2, 3, 1, 1)}),
    )
    classes = channel_ties(before).classes
    assert np.array_equal(classes["j"], np.concatenate([classes["a"], classes["q"]]))
    assert np.array_equal(classes["j"], np.tile(classes["y"], 4))
    assert len(set(classes["y"].tolist())) == 3


def test_relu6_that_clips_keeps_its_channel() -> None:
    relu6: Line = ("a", ops.Conv2d(activation="relu6"), "image", {"w": (8, 3, 1, 1), "b": (8,)})
    before = graph(IMAGE, relu6, ("y", ops.Conv2d(), "a", {"d": (8, 8, 1, 1)}), LAST)
    bias = before["b"].data
    assert bias is not None
    high = bias.copy()
    high[3] = 9
    before = before.with_tensors([replace(before["b"], data=high)])
    seen = observe(before, [pictures()])
    assert relu_for_relu6(before, seen).producers["a"].op == ops.Conv2d(activation="relu6")
    after, _ = equalise(before, seen)
    torch.testing.assert_close(outputs(after), outputs(before), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(after["w"].data[3], before["w"].data[3])  # type: ignore[index]
    assert not np.array_equal(after["w"].data[2], before["w"].data[2])  # type: ignore[index]


def test_relu6_that_never_clips_becomes_relu() -> None:
    relu6: Line = ("a", ops.Conv2d(activation="relu6"), "image", {"w": (8, 3, 1, 1)})
    before = graph(IMAGE, relu6, ("y", ops.Activation("relu6"), "a"), LAST)
    small = before.with_tensors([replace(before["w"], data=before["w"].data / 20)])  # type: ignore[operator]
    after = relu_for_relu6(small, observe(small, [pictures()]))
    assert after.producers["a"].op == ops.Conv2d(activation="relu")
    assert after.producers["y"].op == ops.Activation("relu")
    torch.testing.assert_close(outputs(after), outputs(small))
