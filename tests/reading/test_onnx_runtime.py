"""What ONNX Runtime folds before it runs a file is folded in our graph of the file, too."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import helper

from mobileseg.export.runtime import optimised
from mobileseg.reading.read import read_network
from tests.reading.foreign import onnx_file
from tests.reading.test_onnx import IMAGE, WEIGHT, assert_same, normal

node = helper.make_node
CHANNEL = {"c": normal(1, 6, 1, 1)}
OTHER = normal(6, 4, 3, 3)

FILES: dict[str, bytes] = {
    "a product and a sum behind": onnx_file(
        [
            node("Conv", ["image", "w"], ["a"]),
            node("Mul", ["a", "c"], ["b"]),
            node("Add", ["b", "d"], ["e"]),
            node("Relu", ["e"], ["out"]),
        ],
        IMAGE,
        ["out"],
        {"w": WEIGHT, "d": normal(6, 1, 1), **CHANNEL},
    ),
    "a product in front": onnx_file(
        [node("Mul", ["image", "c"], ["a"]), node("Conv", ["a", "w"], ["out"])],
        IMAGE,
        ["out"],
        {"w": WEIGHT, "c": normal(1, 4, 1, 1)},
    ),
    "twins": onnx_file(
        [
            node("Sigmoid", ["image"], ["a"]),
            node("Sigmoid", ["image"], ["b"]),
            node("Conv", ["a", "w"], ["c"]),
            node("Conv", ["b", "v"], ["d"]),
            node("Neg", ["d"], ["e"]),
            node("Mul", ["c", "e"], ["out"]),
        ],
        IMAGE,
        ["out"],
        {"w": WEIGHT, "v": OTHER},
    ),
}
# The same in both: an activation is a part of the convolution, whatever it is called.
KINDS = {"Conv": "Conv2d", "FusedConv": "Conv2d", "Sigmoid": "Activation"}
OF_THE_RUNTIME = {"ReorderInput", "ReorderOutput"}


@pytest.mark.parametrize("name", FILES)
def test_the_graph_has_the_runtime_s_operators(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(FILES[name])
    theirs = [each.op_type for each in optimised(path).graph.node]
    expected = sorted(KINDS.get(kind, kind) for kind in theirs if kind not in OF_THE_RUNTIME)
    graph = assert_same(FILES[name])
    assert sorted(each.op.kind for each in graph.nodes) == expected
    assert len(read_network(path).graph.nodes) == len(expected)
