"""The check: it passes what is right, and says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.check import (
    CLASS_SHARE,
    FINE_STEPS,
    FLOAT_TOLERANCE,
    LITERT_STEPS,
    Check,
    check_file,
    require,
)
from mobileseg.export.onnx import write_onnx
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.passes import float16_weights
from tests.export import small


def written(folder: Path, graph: Graph, ending: str = "tflite") -> Path:
    path = folder / f"net.{ending}"
    path.write_bytes(write_tflite(graph) if ending == "tflite" else write_onnx(graph))
    return path


def checked(folder: Path, graph: Graph, ending: str = "tflite") -> Check:
    return check_file(written(folder, graph, ending), graph, small.pictures())


@pytest.mark.parametrize("rewrite", [True, False])
@pytest.mark.parametrize("ending", ["tflite", "onnx"])
def test_float_networks(ending: str, rewrite: bool, tmp_path: Path) -> None:
    graph = small.float_graph(rewrite)
    for each, kind in ((graph, "float32"), (float16_weights(graph), "float16")):
        check = checked(tmp_path, each, ending)
        assert check.problems() == []
        assert check.kind == kind
        assert check.relative_error is not None and check.relative_error < FLOAT_TOLERANCE


@pytest.mark.parametrize("rewrite", [True, False])
@pytest.mark.parametrize("interface", ["uint8", "int8", "float32"])
def test_int8_network_in_litert_is_equal_to_the_bit(
    interface: str, rewrite: bool, tmp_path: Path
) -> None:
    graph = small.int8_graph(rewrite, interface)  # type: ignore[arg-type]
    check = checked(tmp_path, graph)
    assert check.problems() == []
    assert (check.max_steps, check.share_equal, check.called_alike) == (0, 1.0, 1.0)
    assert check.operators == check.nodes == len(graph.nodes)
    assert check.partitions == 1


@pytest.mark.parametrize("rewrite", [True, False])
def test_int8_network_in_onnx_runtime(rewrite: bool, tmp_path: Path) -> None:
    check = checked(tmp_path, small.int8_graph(rewrite), "onnx")
    assert check.problems() == []
    # Integer kernels for all but these, which are reported and let through; a transposed
    # convolution has none.
    floats = {"Resize"} if rewrite else {"Resize", "ConvTranspose"}
    assert set(check.float_operators) == floats


@pytest.mark.parametrize("ending", ["tflite", "onnx"])
def test_classes(ending: str, tmp_path: Path) -> None:
    graph = small.float_graph()
    head = Node(ops.ArgMax(), graph.outputs, "mask", "mask")
    graph = graph.edit([*graph.nodes, head], outputs=("mask",))
    check = checked(tmp_path, graph, ending)
    assert check.classes and check.relative_error is None
    assert check.problems() == []


def test_a_file_of_other_weights_fails(tmp_path: Path) -> None:
    graph = small.float_graph()
    name = graph.nodes[0].inputs[1]
    data = graph[name].data
    assert data is not None
    path = written(tmp_path, graph.with_tensors([replace(graph[name], data=data * 1.01)]))
    check = check_file(path, graph, small.pictures())
    with pytest.raises(GateError, match=r"net\.tflite: differs from the graph by .*1e-04 is all"):
        require(check)


def test_a_file_of_another_interface_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, small.int8_graph(interface="uint8"))
    with pytest.raises(MobilesegError, match="do not belong together"):
        check_file(path, small.int8_graph(interface="int8"), small.pictures())


def test_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(MobilesegError, match="a check needs pictures"):
        check_file(tmp_path / "net.tflite", small.float_graph(), small.pictures()[:0])


def test_nan_is_no_agreement(tmp_path: Path) -> None:
    graph = small.float_graph()
    last = graph.nodes[-1].inputs[0] if graph.nodes[-1].op.kind == "Crop" else ""
    assert last
    conv = next(node for node in reversed(graph.nodes) if isinstance(node.op, ops.Conv2d))
    name = conv.inputs[2]
    bias = np.full(graph[name].shape, np.nan, np.float32)
    broken = graph.with_tensors([replace(graph[name], data=bias)])
    with pytest.raises(GateError, match="NaN"):
        checked(tmp_path, broken)


GOOD = Check(
    path=Path("net.tflite"),
    runtime="LiteRT 2.3.0",
    kind="int8",
    images=4,
    relative_error=None,
    max_steps=1,
    share_within_one_step=1.0,
    share_equal=0.9999,
    classes=False,
    operators=7,
    nodes=7,
    kinds={"CONV_2D": 7},
    float_operators={},
    layout_operators={},
    partitions=1,
)


def test_as_dict_is_plain_data() -> None:
    data = json.loads(json.dumps(GOOD.as_dict(), allow_nan=False))
    assert data["path"] == "net.tflite"
    assert data["problems"] == []


def test_a_good_check_is_let_through() -> None:
    require(GOOD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_steps": LITERT_STEPS + 1}, "3 steps from the graph's; 2 are allowed"),
        ({"share_within_one_step": 0.99}, "99.000 % of the outputs are within one step"),
        ({"classes": True, "share_equal": CLASS_SHARE - 0.001}, "of the classes equal"),
        ({"fine": True, "max_steps": FINE_STEPS + 1}, "65 steps from the graph's; 64 are allowed"),
        ({"relative_error": 2e-4}, "2.0e-04 of the largest output; 1e-04 is allowed"),
        ({"operators": 8}, "8 operators for 7 nodes"),
        ({"float_operators": {"RELU": 2}}, "computes in float: 2 RELU"),
        ({"layout_operators": {"TRANSPOSE": 1}}, "moves data about: 1 TRANSPOSE"),
    ],
)
def test_problems(change: dict[str, object], said: str) -> None:
    bad = replace(GOOD, **change)  # type: ignore[arg-type]
    assert len(bad.problems()) == 1
    assert said in bad.problems()[0]


def test_several_resizes_in_a_row_are_judged_by_what_pixels_are_called() -> None:
    apart = replace(GOOD, path=Path("net.onnx"), share_within_one_step=0.9, max_steps=6)
    assert len(apart.problems()) == 2
    assert replace(apart, called_alike=0.998).problems() == []
    missed = replace(apart, called_alike=0.98).problems()
    assert len(missed) == 2
    assert "or 99 % of the pixels called alike, which 98.00 % are" in missed[0]
    assert len(replace(apart, path=GOOD.path, called_alike=0.998).problems()) == 2


@pytest.mark.parametrize(
    ("kinds", "floats", "said"),
    [
        ({"Conv": 7, "Resize": 1}, {"Resize": 1}, ""),
        ({"Conv": 7, "ConvTranspose": 2}, {"ConvTranspose": 2}, ""),
        ({"Conv": 7, "HardSwish": 1}, {"HardSigmoid": 1, "Mul": 1}, ""),
        ({"Conv": 7, "Clip": 1}, {"FusedConv": 1}, ""),
        ({"Conv": 7, "Clip": 1}, {"FusedConv": 2}, "computes in float: 1 FusedConv"),
        ({"Conv": 7}, {"Conv": 7}, "computes in float: 7 Conv; ONNX Runtime has int8"),
        ({"Conv": 7, "Resize": 1}, {"Resize": 1, "Add": 2}, "computes in float: 2 Add"),
    ],
)
def test_onnx_may_compute_in_float_only_what_has_no_integer_kernel(
    kinds: dict[str, int], floats: dict[str, int], said: str
) -> None:
    check = replace(GOOD, path=Path("net.onnx"), kinds=kinds, float_operators=floats, operators=99)
    assert bool(check.problems()) == bool(said)
    assert said in "".join(check.problems())


def test_onnx_has_the_tolerance_of_tflite() -> None:
    check = replace(GOOD, path=Path("net.onnx"), max_steps=3, share_within_one_step=0.998)
    assert len(check.problems()) == 2


def test_all_problems_are_listed_at_once() -> None:
    bad = replace(GOOD, operators=8, max_steps=9)
    with pytest.raises(GateError, match=r"9 steps .*; has 8 operators"):
        require(bad)
