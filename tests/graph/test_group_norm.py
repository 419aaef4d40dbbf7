"""A group norm as means, sums, products and an inverse root: exact in float, all int8 in int8."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mobileseg.errors import MobilesegError
from mobileseg.export.check import check_file
from mobileseg.export.onnx import write_onnx
from mobileseg.export.runtime import load
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8
from mobileseg.graph.ir import Node, QuantParams, Tensor, assemble
from mobileseg.graph.ops import Activation
from mobileseg.graph.passes import normalise
from mobileseg.graph.trace import trace
from mobileseg.nets.module import build
from mobileseg.nets.spec import read_spec
from mobileseg.nets.zoo import zoo_net
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.reading.read import read_network
from mobileseg.slim.actions import Actions
from mobileseg.slim.inherit import inherit
from mobileseg.slim.steps import apply
from mobileseg.workflow.forms import FOR_FLOAT, FOR_INT8, choose

SIZE = (32, 64)


class Small(nn.Module):
    """A group norm of six channels in two groups, its scales and shifts far from idle."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, 2, 1), nn.GroupNorm(2, 6, eps=1e-3)
        nn.init.uniform_(self.norm.weight, 0.5, 2.0)
        nn.init.uniform_(self.norm.bias, -1.0, 1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))


def seeded() -> tuple[Small, torch.Tensor]:
    torch.manual_seed(4)
    return Small().eval(), torch.rand(4, 3, *SIZE) * 2 - 1


def test_the_graph_computes_the_norm() -> None:
    net, x = seeded()
    graph = trace(net, SIZE)
    kinds = [node.op.kind for node in graph.nodes if node.layer == "norm"]
    assert kinds.count("GlobalMean") == 2 and "BatchNorm" not in kinds
    with torch.no_grad():
        torch.testing.assert_close(execute(normalise(graph), x), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ending", ["tflite", "onnx"])
def test_float_files_and_back(ending: str, tmp_path: Path) -> None:
    net, x = seeded()
    plain = normalise(trace(net, SIZE))
    graph = choose(plain, FOR_FLOAT)(plain)
    path = tmp_path / f"net.{ending}"
    path.write_bytes(write_tflite(graph) if ending == "tflite" else write_onnx(graph))
    pictures = np.random.default_rng(0).integers(0, 255, (2, *SIZE, 3), np.uint8)
    assert check_file(path, graph, pictures).problems() == []
    back = read_network(path).graph
    torch.testing.assert_close(execute(back, x), execute(graph, x), rtol=1e-4, atol=1e-4)


def test_int8_has_no_float_left(tmp_path: Path) -> None:
    net, x = seeded()
    plain = normalise(trace(net, SIZE))
    graph = choose(plain, FOR_INT8)(plain)
    int8 = quantize(graph, calibrate(graph, [x.numpy()]))
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(int8))
    pictures = np.random.default_rng(0).integers(0, 255, (2, *SIZE, 3), np.uint8)
    check = check_file(path, int8, pictures)
    assert check.problems() == []
    assert check.float_operators == {}
    assert check.share_equal > 0.999


@pytest.mark.parametrize(
    ("scale", "out_scale"),
    [(0.00609283521771431, 0.008288940414786339), (0.31, 0.0021), (1e-4, 0.4)],
)
def test_the_inverse_root_is_litert_s_to_the_bit(
    scale: float, out_scale: float, tmp_path: Path
) -> None:
    """Of every step that there is."""
    quants = [
        QuantParams(np.array([np.float32(each)], np.float64), -128) for each in (scale, out_scale)
    ]
    image = Tensor("image", (1, 3, 16, 16), "int8", quants[0])
    out = Tensor("out", (1, 3, 16, 16), "int8", quants[1])
    root = Node(Activation("rsqrt"), ("image",), "out", "root")
    graph = assemble([image], [root], ["out"], {"out": out})
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(graph))
    steps = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    np.testing.assert_array_equal(execute_int8(graph, steps), load(path)(steps))


def test_a_step_that_normalises_by_groups() -> None:
    batch = zoo_net("portrait_squeeze", SIZE, 2, "test")
    assert "norm" not in batch.as_dict()
    group = apply(batch, Actions(norm="group"), "test")
    assert read_spec(group.as_dict(), "test") == group == dataclasses.replace(batch, norm="group")
    old, new = build(batch, seed=1).state_dict(), build(group, seed=2).state_dict()
    assert not any(name.endswith("running_mean") for name in new)
    made = inherit(batch, old, group, new)
    assert made.share == 1
    scales = [name for name in new if name.endswith("norm.weight")]
    assert scales and all(torch.equal(made.state[name], old[name]) for name in scales)
    # It stays so on the next rung, at any width.
    narrow = apply(group, Actions(width={"*": 0.5}), "test")
    assert narrow.norm == "group" and narrow.params < group.params
    with torch.no_grad():
        assert build(narrow)(torch.zeros(1, 3, *SIZE)).shape == (1, 2, *SIZE)


def test_a_norm_that_there_is_not() -> None:
    plain = zoo_net("portrait_squeeze", SIZE, 2, "test").as_dict() | {"norm": "layer"}
    with pytest.raises(MobilesegError, match="norm"):
        read_spec(plain, "test")
