"""Chains that LiteRT's XNNPACK makes a table of at int8: seen in its own profile, and priced so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobileseg.export.tflite import write_tflite
from mobileseg.files import shipped
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import FOR_TFLITE, Rewrite, hard_swish_to_mul, relu_to_mul, run_passes
from mobileseg.latency.measure import measure
from mobileseg.latency.price import price
from mobileseg.latency.profile import load_profile
from mobileseg.quantize.convert import quantize
from tests.graph.build import graph

HOST = load_profile(shipped("assets", "devices") / "host.toml")
TABLE = "Invalid Unary Op"


def int8(op: ops.Op, rewrite: Rewrite) -> Graph:
    made = graph(
        (1, 3, 40, 56),
        ("x", ops.Conv2d(), "image", {"w": (24, 3, 1, 1), "b": (24,)}),
        ("y", op, "x"),
        ("z", ops.Conv2d(), "y", {"m": (4, 24, 1, 1), "n": (4,)}),
    )
    made = run_passes(rewrite(made), FOR_TFLITE)
    return quantize(made, dict.fromkeys(made.tensors, (-3.0, 3.0)), "int8")


CASES = [
    pytest.param(ops.Activation("hard_swish"), hard_swish_to_mul, 3, id="hard swish"),
    pytest.param(ops.Activation("relu"), relu_to_mul, 1, id="relu"),
]


@pytest.mark.parametrize(("op", "rewrite"), [case.values[:2] for case in CASES])
def test_the_runtime_makes_one_table(op: ops.Op, rewrite: Rewrite, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(int8(op, rewrite)))
    found = measure(path, runs=3, warmup=1)
    if not found.operators:
        pytest.skip(found.how)
    assert [one.name == TABLE for one in found.operators] == [False, True, False]


@pytest.mark.parametrize(("op", "rewrite", "count"), CASES)
def test_it_is_priced_as_one(op: ops.Op, rewrite: Rewrite, count: int) -> None:
    made = int8(op, rewrite)
    chain = price(made, HOST).rows[1 : 1 + count]
    assert [row.bound == "folded" for row in chain] == [True] * (count - 1) + [False]
    assert chain[-1].kernel == "sigmoid"
    apart = price(made, replace(HOST, fuses=("pad",))).rows[1 : 1 + count]
    assert sum(row.ms for row in apart) > sum(row.ms for row in chain)


def test_what_reads_two_tensors_is_no_table() -> None:
    made = graph(
        (1, 3, 40, 56),
        ("x", ops.Conv2d(), "image", {"w": (24, 3, 1, 1), "b": (24,)}),
        ("v", ops.Conv2d(), "image", {"u": (24, 3, 1, 1), "a": (24,)}),
        ("y", ops.Add("relu"), "x v"),
        ("z", ops.Conv2d(), "y", {"m": (4, 24, 1, 1), "n": (4,)}),
    )
    made = run_passes(made, FOR_TFLITE)
    made = quantize(made, dict.fromkeys(made.tensors, (-3.0, 3.0)), "int8")
    rows = price(made, HOST).rows
    assert [row.kernel for row in rows] == ["pointwise", "pointwise", "add", "pointwise"]
    assert np.all([row.ms > 0 for row in rows])
