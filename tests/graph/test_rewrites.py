"""Each rewrite as text before and after, and what it computes: in float, at int8, in LiteRT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from mobileseg.export.runtime import LiteRT
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8, quant_of
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import FOR_TFLITE, REWRITES, SETTLE, run_passes
from mobileseg.quantize.calibrate import Ranges
from mobileseg.quantize.convert import quantize
from tests.graph.build import Line, graph

IMAGE = (1, 3, 6, 8)
ALL_ONE = (1, 1, 1, 1)
BY_NAME = {rewrite.name: rewrite for rewrite in REWRITES}
CONV: Line = ("x", ops.Conv2d(), "image", {"w": (5, 3, 1, 1), "b": (5,)})


@dataclass(frozen=True)
class Case:
    """A rewrite, a graph that it applies to, and how many pieces XNNPACK makes of the plain one
    at int8."""

    name: str
    rewrite: str
    lines: tuple[Line, ...]
    pieces: int = 1

    def graph(self) -> Graph:
        return graph(IMAGE, *self.lines)

    def rewritten(self) -> Graph:
        return BY_NAME[self.rewrite](self.graph())


def _deconv(name: str, op: ops.ConvTranspose2d, kernel: tuple[int, int], bias: bool = True) -> Case:
    constants = {"v": (3, 5, *kernel)} | ({"c": (5,)} if bias else {})
    return Case(name, "deconv_to_conv", (("y", op, "image", constants),))


def _one(name: str, rewrite: str, op: ops.Op, pieces: int = 1) -> Case:
    # A convolution behind, so that what falls out of XNNPACK leaves two pieces.
    last: Line = ("z", ops.Conv2d(), "y", {"m": (4, 5, 1, 1), "n": (4,)})
    return Case(name, rewrite, (CONV, ("y", op, "x"), last), pieces)


_PARTS: tuple[Line, ...] = tuple(
    (f"p{i}", ops.Conv2d(), "image", {f"w{i}": (2 + i, 3, 1, 1), f"b{i}": (2 + i,)})
    for i in range(7)
)
_SIX = sum(2 + i for i in range(6))

CASES = (
    _deconv("deconv 4x4", ops.ConvTranspose2d((2, 2), ALL_ONE, activation="relu"), (4, 4)),
    _deconv("deconv 4x4, no bias", ops.ConvTranspose2d((2, 2), ALL_ONE), (4, 4), bias=False),
    _deconv("deconv 2x2", ops.ConvTranspose2d((2, 2)), (2, 2)),
    _deconv("deconv 3x3 and a row", ops.ConvTranspose2d((2, 2), ALL_ONE, (1, 1)), (3, 3)),
    _deconv("deconv 3x5", ops.ConvTranspose2d((2, 2), (1, 0, 0, 2)), (3, 5)),
    _deconv("deconv 8x8 of stride 4", ops.ConvTranspose2d((4, 4), (2, 2, 2, 2)), (8, 8)),
    _deconv("deconv 5x4 of stride 3", ops.ConvTranspose2d((3, 3), (1, 0, 1, 0)), (5, 4)),
    _one("hard swish", "hard_swish_to_mul", ops.Activation("hard_swish"), 2),
    _one("relu", "relu_to_mul", ops.Activation("relu"), 2),
    _one("relu6", "relu_to_mul", ops.Activation("relu6"), 2),
    _one("nearest", "nearest_to_copies", ops.Resize((12, 16), "nearest"), 2),
    _one("nearest by 4", "nearest_to_copies", ops.Resize((24, 32), "nearest"), 2),
    _one("mean", "mean_pool_to_depthwise", ops.Pool("mean", (2, 3), (2, 3)), 2),
    _one("mean, same", "mean_pool_to_depthwise", ops.Pool("mean", (3, 3), (1, 1), ALL_ONE), 2),
    _one("mean of all", "mean_pool_to_depthwise", ops.Pool("mean", (6, 8), (1, 1)), 2),
    _one("mean of many", "mean_pool_to_depthwise", ops.Pool("mean", (5, 6), (1, 2)), 2),
    _one(
        "mean of many, padded",
        "mean_pool_to_depthwise",
        ops.Pool("mean", (5, 7), (1, 2), (2, 2, 2, 3)),
        2,
    ),
    Case(
        "softmax",
        "softmax_to_sigmoid",
        (
            ("x", ops.Conv2d(), "image", {"w": (2, 3, 1, 1), "b": (2,)}),
            ("y", ops.Softmax(), "x"),
            ("z", ops.Conv2d(), "y", {"m": (4, 2, 1, 1), "n": (4,)}),
        ),
        2,
    ),
    Case(
        "concat of six",
        "split_concat",
        (
            *_PARTS[:6],
            ("y", ops.Concat(), "p0 p1 p2 p3 p4 p5"),
            ("z", ops.Conv2d(), "y", {"m": (4, _SIX, 1, 1), "n": (4,)}),
        ),
        2,
    ),
    Case(
        "resize in a concat",
        "product_before_sum",
        (
            CONV,
            ("s", ops.Pool("max", (2, 2), (2, 2)), "x"),
            ("r", ops.Resize((6, 8)), "s"),
            ("c", ops.Concat(), "x r"),
            ("z", ops.Conv2d(activation="relu"), "c", {"m": (4, 10, 1, 1), "n": (4,)}),
        ),
    ),
    Case(
        "one pixel in a concat",
        "pixel_after_product",
        (
            CONV,
            ("s", ops.GlobalMean(), "x"),
            ("r", ops.Resize((6, 8)), "s"),
            ("c", ops.Concat(), "x r p0"),
            ("z", ops.Conv2d(activation="relu"), "c", {"m": (4, 12, 1, 1), "n": (4,)}),
        ),
    ),
)
_WITH_PART = {"one pixel in a concat"}
CASES = tuple(
    Case(c.name, c.rewrite, (_PARTS[0], *c.lines), c.pieces) if c.name in _WITH_PART else c
    for c in CASES
)
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def pictures(count: int = 8) -> Array:
    return np.random.default_rng(2).uniform(-1, 1, (count, *IMAGE[1:])).astype(np.float32)


def floats(of: Graph, given: Array) -> Array:
    return execute(of, torch.from_numpy(given)).numpy()


@cases
def test_it_is_the_same_function(case: Case) -> None:
    before, after = case.graph(), case.rewritten()
    assert str(after) != str(before)
    settled = run_passes(after, SETTLE)
    expected = floats(before, pictures())
    for each in (after, settled):
        np.testing.assert_allclose(floats(each, pictures()), expected, rtol=1e-5, atol=1e-5)


@cases
def test_it_applies_to_its_sites_alone(case: Case) -> None:
    rewrite, before = BY_NAME[case.rewrite], case.graph()
    sites = rewrite.sites(before)
    assert len(sites) == 1
    assert str(rewrite(before, sites)) == str(rewrite(before))
    assert str(rewrite(before, ())) == str(before)
    # Once done there is nothing left to do.
    assert rewrite.sites(rewrite(before)) == ()


def _ranges(of: Graph, given: Array) -> Ranges:
    """Return what holds every value: what is compared is rounding, not clipping."""
    seen: dict[str, tuple[float, float]] = {}

    def observe(name: str, value: torch.Tensor) -> None:
        seen[name] = (float(value.min()), float(value.max()))

    execute(of, torch.from_numpy(given), observe)
    return seen


def _error(int8: Graph, wanted: Array, given: Array) -> float:
    """Return the mean square error of an int8 graph."""
    quant = quant_of(int8[int8.outputs[0]])
    steps = execute_int8(int8, given).astype(np.float64)
    return float((((steps - quant.zero_point) * quant.scale[0] - wanted) ** 2).mean())


@cases
def test_int8_is_as_good_and_runs_in_one_piece(case: Case, tmp_path: Path) -> None:
    """In LiteRT to the bit as we execute it, all of it in XNNPACK, and no further from float."""
    real = pictures(64)
    given = np.clip(np.round(real * 128), -128, 127).astype(np.int8)
    wanted = floats(case.graph(), given.astype(np.float32) / 128)
    errors, pieces = [], []
    for each in (case.graph(), run_passes(case.rewritten(), SETTLE)):
        float_graph = run_passes(each, FOR_TFLITE)
        int8 = quantize(float_graph, _ranges(float_graph, real), "int8")
        path = tmp_path / "net.tflite"
        path.write_bytes(write_tflite(int8))
        runner = LiteRT(path)
        pieces.append(runner.partitions)
        errors.append(_error(int8, wanted, given))
        result = runner(given)
    np.testing.assert_array_equal(result, execute_int8(int8, given))
    assert pieces == [case.pieces, 1]
    # 0.5 dB: chance.
    assert errors[1] <= errors[0] * 10**0.05 or not BY_NAME[case.rewrite].at_int8


def test_a_large_window_becomes_kernels_that_xnnpack_has() -> None:
    wide = _one("", "mean_pool_to_depthwise", ops.Pool("mean", (5, 6), (1, 2))).rewritten()
    kernels = [wide[n.inputs[1]].shape[2:] for n in wide.nodes if n.op.kind == "Conv2d"]
    assert kernels[1:-1] == [(1, 6), (5, 1)]
