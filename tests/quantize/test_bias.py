"""Two graphs in step, and the bias that takes a shift back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Graph, Node
from mobileseg.quantize.bias import corrected_bias
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.lockstep import lockstep
from tests.graph.build import graph

IMAGE = (1, 3, 6, 8)


def made() -> Graph:
    return graph(
        IMAGE,
        ("a", ops.Conv2d(activation="relu"), "image", {"w": (5, 3, 3, 3), "b": (5,)}),
        ("y", ops.Conv2d(), "a", {"v": (4, 5, 1, 1), "c": (4,)}),
        ("z", ops.Add(), "y y"),
    )


def pictures() -> np.ndarray:  # type: ignore[type-arg]
    return (np.random.default_rng(3).integers(-128, 128, (6, *IMAGE[1:])) / 128).astype(np.float32)


def means(before: Graph, body: Graph) -> dict[str, float]:
    """Return the largest shift of a channel's mean, per convolution."""
    found: dict[str, float] = {}

    def see(node: Node, real: torch.Tensor, steps: torch.Tensor) -> None:
        found[node.output] = float((real - steps).mean((0, 2, 3)).abs().max())

    lockstep(before, body, pictures(), see=see)
    return found


def test_a_shifted_bias_is_put_right() -> None:
    before = made()
    body = quantize(before, calibrate(before, [pictures()]), "int8")
    bias = body["c_int32"]
    assert bias.data is not None and bias.quant is not None
    off = bias.data + np.round(0.7 / bias.quant.scale).astype(np.int32)
    broken = body.with_tensors([replace(bias, data=off)])
    mended = lockstep(before, broken, pictures(), corrected_bias)
    assert means(before, broken)["y"] > 0.5
    assert means(before, mended)["y"] < 0.05
    assert set(mended.tensors) == set(body.tensors)


def test_both_graphs_are_walked_as_they_run() -> None:
    before = made()
    body = quantize(before, calibrate(before, [pictures()]), "int8")
    seen: dict[str, torch.Tensor] = {}
    lockstep(before, body, pictures(), see=lambda node, real, _: seen.update({node.output: real}))
    with torch.inference_mode():
        torch.testing.assert_close(seen["z"], execute(before, torch.from_numpy(pictures())))


def test_a_layer_kept_in_float_has_no_error_of_its_own() -> None:
    before = made()
    ranges = calibrate(before, [pictures()])
    kept = quantize(before, ranges, "int8", {"a"})
    assert kept["w"].dtype == "float32" and "a.steps" in kept.tensors
    assert means(before, kept)["a"] < 1e-6
    assert means(before, lockstep(before, kept, pictures(), corrected_bias))["y"] < 0.05
