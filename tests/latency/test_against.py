"""Whose measurement may stand beside an estimate, and how the two are compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node, Tensor, assemble
from mobileseg.latency.against import against, read_times
from mobileseg.latency.measure import Measurement, Operator
from mobileseg.latency.price import price
from tests.latency.small import DEVICE

HEAD = "node type, first, avg_ms, %, cdf%, mem KB, times called, name"


@pytest.fixture
def graph() -> Graph:
    """A convolution, a resize and a softmax."""
    x = Tensor("x", (1, 8, 20, 21))
    weight = Tensor("w", (12, 8, 1, 1), data=np.zeros((12, 8, 1, 1), np.float32))
    nodes = [
        Node(ops.Conv2d(), ("x", "w"), "a", "stem"),
        Node(ops.Resize((40, 42)), ("a",), "b", "up"),
        Node(ops.Softmax(), ("b",), "y", "head"),
    ]
    return assemble([x], nodes, ["y"], {"w": weight})


def profile(path: Path, *operators: tuple[str, float]) -> Path:
    rows = [f"{name}, 9, {ms}, 1%, 1%, 0, 1, [t]:0" for name, ms in operators]
    path.write_text("\n".join(["= Run Order =", HEAD, *rows, ""]), encoding="utf-8")
    return path


def test_worst_misses_stand_on_top(graph: Graph, tmp_path: Path) -> None:
    times = (("CONV_2D", 0.2), ("RESIZE_BILINEAR", 0.01), ("SOFTMAX", 5.5))
    path = profile(tmp_path / "p.csv", *times)
    found = against(graph, price(graph, DEVICE), "float32", read_times(path), "p.csv")
    assert found["rows"][0]["layer"] == "head"
    misses = [abs(row["miss_ms"]) for row in found["rows"]]
    assert misses == sorted(misses, reverse=True)
    assert {row["layer"]: row["measured_ms"] for row in found["rows"]} == {
        "stem": 0.2,
        "up": 0.01,
        "head": 5.5,
    }
    assert not found["rows"][0]["inside"]
    assert found["operators_ms"] == found["measured_ms"] == pytest.approx(5.71)
    assert found["threads"] is None


@pytest.mark.parametrize(
    ("operators", "told"),
    [
        ((("MAX_POOL_2D", 1.0), ("SOFTMAX", 1.0)), "it has no time for 'stem'"),
        ((("SOFTMAX", 1.0),), "it has no time for 'stem'"),
        ((("CONV_2D", 1.0), ("CONV_2D", 1.0), ("SOFTMAX", 1.0)), "do not line up"),
        ((("Convolution (NHWC, QC8) IGEMM", 1.0), ("Softmax (NC, QU8)", 1.0)), "in int8, and"),
        ((("Fully Connected (NC, QS8, QC8W) GEMM", 1.0),), "measured in int8, and float32"),
        ((("Convolution (NHWC, F16) IGEMM", 1.0),), "in float16, and float32 is asked for"),
    ],
)
def test_another_networks_times_are_refused(
    graph: Graph, tmp_path: Path, operators: tuple[tuple[str, float], ...], told: str
) -> None:
    path = profile(tmp_path / "p.csv", *operators)
    with pytest.raises(MobilesegError, match=rf"here: .*{told}"):
        against(graph, price(graph, DEVICE), "float32", read_times(path), "here")


def test_a_whole_time_alone_is_refused(graph: Graph) -> None:
    whole = Measurement(Path("a.tflite"), "LiteRT", 1, 9, 2.5, 2.6, (), "whole network only: why")
    with pytest.raises(MobilesegError, match=r"times of operators \(whole network only: why"):
        against(graph, price(graph, DEVICE), "float32", whole, "here")


def test_a_kept_measurement_reads_back_equal(tmp_path: Path) -> None:
    one = Operator("CONV_2D", 12.5)
    kept = Measurement(Path("a.tflite"), "LiteRT", 2, 9, 2.5, 2.6, (one,), "LiteRT's profiler")
    path = tmp_path / "kept.json"
    data = {"measured": kept.as_dict() | {"operators_ms": [0.0125, "fused", None]}}
    path.write_text(json.dumps(data), encoding="utf-8")
    assert read_times(path) == kept


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"devices": []}, "holds no times; keep what"),
        ([], "holds no times; keep what"),
        ({"measured": {"file": "a.tflite"}}, "measured: median_ms"),
        ({"measured": 3}, "kept.json: measured"),
    ],
)
def test_json_without_times_says_so(tmp_path: Path, data: object, told: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(MobilesegError, match=told):
        read_times(path)
