"""Real files in the real runtimes, timed per operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobileseg.errors import MobilesegError
from mobileseg.export.onnx import write_onnx
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops, passes
from mobileseg.graph.ir import Graph, Node, Tensor, assemble, hollow
from mobileseg.latency import measure as measuring
from mobileseg.latency.measure import Measurement, Operator, match, measure
from mobileseg.latency.profile import KERNELS


def network() -> Graph:
    """Enough work that microseconds count: a pad that XNNPACK folds, every kind of convolution."""
    random = np.random.default_rng(3)

    def constant(name: str, *shape: int) -> Tensor:
        return Tensor(name, shape, data=random.standard_normal(shape).astype(np.float32) * 0.1)

    known = {
        one.name: one
        for one in (
            constant("w0", 32, 3, 3, 3),
            constant("w1", 32, 1, 3, 3),
            constant("w2", 64, 32, 1, 1),
            constant("w3", 64, 16, 4, 4),
            constant("b16", 16),
            constant("b32", 32),
            constant("b64", 64),
        )
    }
    nodes = [
        Node(ops.Conv2d((2, 2), (1, 1, 1, 1), activation="relu"), ("x", "w0", "b32"), "a", "stem"),
        Node(ops.Conv2d(pad=(1, 1, 1, 1), groups=32), ("a", "w1", "b32"), "b", "depthwise"),
        Node(ops.Conv2d(activation="relu"), ("b", "w2", "b64"), "c", "pointwise"),
        Node(ops.ConvTranspose2d(pad=(1, 1, 1, 1)), ("c", "w3", "b16"), "d", "up"),
        Node(ops.Softmax(), ("d",), "e", "softmax"),
    ]
    graph = assemble([Tensor("x", (1, 3, 160, 192))], nodes, ["e"], known)
    for change in passes.FOR_TFLITE:
        graph = change(graph)
    return graph


GRAPH = network()


@pytest.fixture(scope="module")
def litert(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    path = tmp_path_factory.mktemp("measured") / "net.tflite"
    path.write_bytes(write_tflite(GRAPH))
    return measure(path, runs=30, warmup=5)


def test_operators_add_up_to_the_whole(litert: Measurement) -> None:
    assert litert.how == "LiteRT's profiler"
    total = sum(operator.us for operator in litert.operators) / 1e3
    # On a busy machine either may be caught by a neighbour; a unit or an event missed is far more.
    assert 0.4 * litert.median_ms < total < 2.0 * litert.median_ms
    assert litert.median_ms <= litert.p90_ms


def test_events_find_their_nodes(litert: Measurement) -> None:
    found = match(GRAPH, litert)
    assert isinstance(GRAPH.nodes[0].op, ops.Pad)
    assert found[0] == "fused"
    assert all(isinstance(us, float) for us in found[1:])


def test_onnx_runtime_is_timed_per_operator(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(write_onnx(GRAPH))
    found = measure(path, runs=10, warmup=2)
    assert found.runtime.startswith("ONNX Runtime")
    total = sum(operator.us for operator in found.operators) / 1e3
    # Two runs on a busy machine, not one: only a wrong unit or a missed operator is this far off.
    assert 0.1 * found.median_ms < total < 10 * found.median_ms
    assert found.as_dict()["file"] == "net.onnx"


def test_onnx_runtimes_own_order_and_names_are_seen_through() -> None:
    """Names as ONNX Runtime 1.30 gives them to what it moves to another layout or quantizes."""
    x = Tensor("x", (1, 8, 6, 7))
    weights = {name: Tensor(name, (8, 8, 1, 1), data=hollow((8, 8, 1, 1))) for name in "abc"}
    nodes = [
        Node(ops.Conv2d(), ("x", "a"), "one", "one"),
        Node(ops.Conv2d(), ("one", "b"), "two", "two.conv"),
        Node(ops.Conv2d(), ("x", "c"), "skip", "skip"),
        Node(ops.Add(), ("two", "skip"), "y", "sum"),
    ]
    graph = assemble([x], nodes, ["y"], weights)

    def timed(*names: str) -> Measurement:
        operators = tuple(Operator(name, 10.0 + i) for i, name in enumerate(names))
        return Measurement(Path("n.onnx"), "ONNX Runtime", 1, 1, 1.0, 1.0, operators, "")

    moved = timed("Conv skip_nchwc", "ReorderInput ReorderInput", "QLinearConv one_token_2")
    assert match(graph, moved) == [12.0, "fused", 10.0, "fused"]
    told = timed("Conv skip", "Conv one", "Conv two", "Add sum_token_9")
    assert match(graph, told) == [11.0, 12.0, 10.0, 13.0]
    # A name of the runtime's own: kinds and order decide.
    others = timed("Conv fused one", "Conv 2", "Conv 3", "Add 4")
    assert match(graph, others) == [10.0, 11.0, 12.0, 13.0]


def test_without_a_profiler_the_whole_is_measured_and_the_reason_given(
    litert: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_in_a_process", lambda *_: {"unsupported": "LiteRT 9"})
    found = measure(litert.path, runs=3, warmup=1)
    assert found.operators == ()
    assert found.how == "whole network only: LiteRT 9"
    assert match(GRAPH, found) == [None] * len(GRAPH.nodes)


def test_a_child_that_dies_is_told(litert: Measurement, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring.sys, "executable", "/bin/false")
    found = measure(litert.path, runs=3, warmup=1)
    assert "ended with status 1" in found.how


def made(*names: str) -> Measurement:
    events = tuple(Operator(name, 10.0 + i) for i, name in enumerate(names))
    return Measurement(Path("x"), "LiteRT", 1, 1, 1.0, 1.0, events, "")


PRODUCT, DEPTHWISE = "Fully Connected (NC, F32) GEMM", "Convolution (NHWC, F32) DWConv"
UP, SOFTMAX = "Deconvolution (NHWC, F32) IGEMM", "Softmax (NC, F32)"


def test_an_operator_of_the_runtime_itself_takes_no_nodes_place() -> None:
    events = made("Convolution (NHWC, F32) IGEMM", "Transpose", DEPTHWISE, PRODUCT, UP, SOFTMAX)
    assert match(GRAPH, events) == ["fused", 10.0, 12.0, 13.0, 14.0, 15.0]


def test_events_that_fit_in_no_order_are_not_guessed() -> None:
    events = made(SOFTMAX, DEPTHWISE, PRODUCT, UP)
    assert match(GRAPH, events) == [None] * 6


def test_every_kernel_has_words() -> None:
    assert measuring.EVENTS.keys() == KERNELS.keys()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("none.tflite", None, "there is no such file"),
        ("net.pb", b"x", "ends in none of .tflite, .onnx"),
        ("net.tflite", b"x" * 99, "LiteRT cannot load it"),
        ("net.onnx", b"x" * 99, "ONNX Runtime cannot load it"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: bytes | None, told: str) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text)
    with pytest.raises(MobilesegError, match=told):
        measure(tmp_path / name)


def test_bad_numbers(litert: Measurement) -> None:
    with pytest.raises(MobilesegError, match="runs = 0; at least 1"):
        measure(litert.path, runs=0)
