"""Transposed maps and parts of channels in ONNX files: the same values as ONNX Runtime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from mobileseg.errors import MobilesegError
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Array
from mobileseg.reading.onnx.file import parse_onnx, read_onnx
from mobileseg.reading.sketch import Reading
from tests.reading.foreign import onnx_file

node = helper.make_node
RANDOM = np.random.default_rng(7)
WEIGHT = RANDOM.normal(size=(6, 3, 3, 3)).astype(np.float32)
BIAS = RANDOM.normal(size=6).astype(np.float32)
CONV = node("Conv", ["picture", "w", "b"], ["y"], pads=[1, 1, 1, 1])


def runtime(data: bytes, image: Array) -> Array:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {session.get_inputs()[0].name: image})[0]
    return result


def read(data: bytes, size: tuple[int, int] | None = None) -> Reading:
    return read_onnx(parse_onnx(data, "net.onnx"), "net.onnx", size)


def ours(reading: Reading, image: Array) -> Array:
    with torch.inference_mode():
        result: Array = execute(reading.graph, torch.from_numpy(image)).numpy()
    return result


def channels_last(*behind: Any, sides: tuple[int | None, ...] = (1, 6, 9, 3)) -> bytes:
    """A convolution as TensorFlow's exporters write it: its picture's channels come last."""
    nodes = [node("Transpose", ["image"], ["picture"], perm=[0, 3, 1, 2]), CONV]
    nodes.append(node("Transpose", ["y"], ["z"], perm=[0, 2, 3, 1]))
    end = behind[-1].output[0] if behind else "z"
    return onnx_file([*nodes, *behind], {"image": sides}, [end], {"w": WEIGHT, "b": BIAS})


def test_channels_last() -> None:
    image = RANDOM.normal(size=(1, 6, 9, 3)).astype(np.float32)
    reading = read(channels_last())
    assert [each.op.kind for each in reading.graph.nodes] == ["Conv2d"]
    assert reading.channels_last
    found = ours(reading, image.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, runtime(channels_last(), image), atol=1e-5)


def test_a_size_left_open_channels_last() -> None:
    reading = read(channels_last(sides=(None, None, None, 3)), (8, 5))
    assert reading.graph["image"].shape == (1, 3, 8, 5)


@pytest.mark.parametrize("kind", ["Softmax", "ArgMax"])
def test_along_channels_that_come_last(kind: str) -> None:
    words = {"keepdims": 0} if kind == "ArgMax" else {}
    model = onnx.load_from_string(channels_last(node(kind, ["z"], ["out"], axis=3, **words)))
    if kind == "ArgMax":
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    data = model.SerializeToString()
    image = RANDOM.normal(size=(1, 6, 9, 3)).astype(np.float32)
    found, expected = ours(read(data), image.transpose(0, 3, 1, 2)), runtime(data, image)
    found = found if kind == "ArgMax" else found.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (channels_last(node("Softmax", ["z"], ["out"], axis=1)), r"Softmax with axis 1 of axes"),
        (channels_last(node("Relu", ["z"], ["out"])), r"Relu with axes \[0, 2, 3, 1\]"),
        (
            channels_last(node("Transpose", ["z"], ["out"], perm=[0, 2, 1, 3])),
            "has its axes in the order",
        ),
    ],
)
def test_what_stays_transposed_is_refused_by_name(data: bytes, says: str) -> None:
    with pytest.raises(MobilesegError, match=says):
        read(data)


def parts(behind: list[Any], constants: dict[str, Any], opset: int = 17) -> bytes:
    nodes = [CONV, *behind, node("Concat", ["second", "first"], ["out"], axis=1)]
    given = {"w": WEIGHT, "b": BIAS} | constants
    return onnx_file(nodes, {"picture": (1, 3, 6, 9)}, ["out"], given, opset)


SPLIT = np.array([2, 4])
PARTS = {
    "sizes": parts(
        [
            node("Relu", ["y"], ["r"]),
            node("Split", ["r", "sizes"], ["first", "second"], axis=1),
        ],
        {"sizes": SPLIT},
    ),
    "attribute": parts([node("Split", ["y"], ["first", "second"], axis=1, split=[2, 4])], {}, 11),
    "halves": parts([node("Split", ["y"], ["first", "second"], axis=1)], {}),
    "slices": parts(
        [
            node("Slice", ["y", "zero", "two", "axis"], ["first"]),
            node("Slice", ["y", "two", "six", "axis"], ["second"]),
        ],
        {"zero": [0], "two": [2], "six": [6], "axis": [1]},
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_channels_are_convolutions_with_those_filters(name: str) -> None:
    image = RANDOM.normal(size=(1, 3, 6, 9)).astype(np.float32)
    reading = read(PARTS[name])
    assert [each.op.kind for each in reading.graph.nodes] == ["Conv2d", "Conv2d", "Concat"]
    assert reading.graph.total_macs == 6 * 9 * WEIGHT.size
    np.testing.assert_allclose(ours(reading, image), runtime(PARTS[name], image), atol=1e-5)


def test_parts_of_what_no_convolution_makes_are_refused_by_name() -> None:
    behind = [
        node("Concat", ["y", "picture"], ["j"], axis=1),
        node("Split", ["j", "sizes"], ["first", "second"], axis=1),
    ]
    data = parts(behind, {"sizes": np.array([4, 5])})
    with pytest.raises(MobilesegError, match="Split with channels that no plain convolution"):
        read(data)
