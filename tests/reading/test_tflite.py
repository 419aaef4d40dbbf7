"""TFLite files to graphs: our own come back equal, other people's compute what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ai_edge_litert.schema_py_generated as fb
import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from mobileseg.errors import MobilesegError
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import FOR_TFLITE, float16_weights, run_passes
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface
from mobileseg.reading.tflite.file import read_tflite
from mobileseg.reading.tflite.handlers import HANDLERS, OPTIONS
from tests.op_cases import CASES, Case
from tests.reading.foreign import TFLite, assert_equal

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
RANDOM = np.random.default_rng(5)


def read(data: bytes) -> Graph:
    return read_tflite(data, "net.tflite").graph


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


@all_cases
def test_our_own_float_files_come_back(case: Case) -> None:
    graph = run_passes(case.graph(), FOR_TFLITE)
    assert_equal(graph, read(write_tflite(graph)))
    half = float16_weights(graph)
    assert_equal(half, read(write_tflite(half)))


@all_cases
@pytest.mark.parametrize("interface", ["int8", "uint8", "float32"])
def test_our_own_int8_files_come_back(case: Case, interface: Interface) -> None:
    graph = run_passes(case.graph(), FOR_TFLITE)
    graph = quantize(graph, dict.fromkeys(graph.tensors, (-1.0, 1.0)), interface)
    assert_equal(graph, read(write_tflite(graph)))


def lite(data: bytes, image: Array, folder: Path) -> Array:
    """Return what LiteRT makes of an image `(1, C, H, W)`, its output as the file has it."""
    path = folder / "net.tflite"
    path.write_bytes(data)
    runtime = Interpreter(model_path=str(path))
    runtime.allocate_tensors()
    given = runtime.get_input_details()[0]
    runtime.set_tensor(given["index"], np.ascontiguousarray(image.transpose(0, 2, 3, 1)))
    runtime.invoke()
    result: Array = runtime.get_tensor(runtime.get_output_details()[0]["index"])
    return result


def ours(graph: Graph, image: Array) -> Array:
    with torch.inference_mode():
        result: Array = execute(graph, torch.from_numpy(image)).numpy()
    return result


def classifier(keep: bool, reshape: bool) -> bytes:
    """SAME convolution, mean, maybe a reshape, fully connected, softmax: a keras classifier."""
    file = TFLite()
    file.tensor("image", (1, 10, 14, 3))
    file.constant("w", normal(8, 3, 3, 3))
    file.constant("b", normal(8))
    file.tensor("conv/Relu6;conv/Conv2D", (1, 5, 7, 8))
    file.add(
        "CONV_2D",
        ["image", "w", "b"],
        ["conv/Relu6;conv/Conv2D"],
        fb.Conv2DOptionsT,
        padding=fb.Padding.SAME,
        strideH=2,
        strideW=2,
        fusedActivationFunction=fb.ActivationFunctionType.RELU6,
    )
    file.constant("axes", [1, 2], "int32")
    file.tensor("pooled", (1, 1, 1, 8) if keep else (1, 8))
    made = ["conv/Relu6;conv/Conv2D", "axes"]
    file.add("MEAN", made, ["pooled"], fb.ReducerOptionsT, keepDims=keep)
    last = "pooled"
    if reshape:
        file.constant("shape", [1, 8], "int32")
        last = file.tensor("flat", (1, 8))
        file.add("RESHAPE", ["pooled", "shape"], ["flat"], fb.ReshapeOptionsT, newShape=[1, 8])
    file.constant("fc", normal(5, 8))
    file.constant("fc_b", normal(5))
    file.tensor("logits", (1, 5))
    file.tensor("scores", (1, 5))
    file.add("FULLY_CONNECTED", [last, "fc", "fc_b"], ["logits"], fb.FullyConnectedOptionsT)
    file.add("SOFTMAX", ["logits"], ["scores"], fb.SoftmaxOptionsT, beta=1.0)
    return file.write(["image"], ["scores"])


@pytest.mark.parametrize(("keep", "reshape"), [(True, True), (False, False)])
def test_a_classifier(keep: bool, reshape: bool, tmp_path: Path) -> None:
    data, image = classifier(keep, reshape), normal(1, 3, 10, 14)
    graph = read(data)
    assert [n.op.kind for n in graph.nodes] == ["Conv2d", "GlobalMean", "Conv2d", "Softmax"]
    assert graph.nodes[0].op == ops.Conv2d((2, 2), (0, 0, 1, 1), activation="relu6")
    assert graph.nodes[0].layer == "conv/Relu6"
    assert graph[graph.outputs[0]].shape == (1, 5, 1, 1)
    found = lite(data, image, tmp_path)
    np.testing.assert_allclose(ours(graph, image)[..., 0, 0], found, atol=1e-5)


def test_a_fully_connected_layer_behind_a_whole_map(tmp_path: Path) -> None:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    file.constant("w", normal(7, 60))
    file.constant("shape", [1, 60], "int32")
    file.tensor("flat", (1, 60))
    file.tensor("out", (1, 7))
    file.add("RESHAPE", ["image", "shape"], ["flat"], fb.ReshapeOptionsT, newShape=[1, 60])
    file.add("FULLY_CONNECTED", ["flat", "w", ""], ["out"], fb.FullyConnectedOptionsT)
    data, image = file.write(["image"], ["out"]), normal(1, 3, 4, 5)
    graph = read(data)
    assert graph[graph.nodes[0].inputs[1]].shape == (7, 3, 4, 5)
    found = lite(data, image, tmp_path)
    np.testing.assert_allclose(ours(graph, image)[..., 0, 0], found, atol=1e-5)


def test_a_transposed_convolution_with_a_computed_size(tmp_path: Path) -> None:
    """TensorFlow computes the output's shape from the input's: SHAPE, STRIDED_SLICE, MUL, PACK."""
    file = TFLite()
    file.tensor("image", (1, 6, 9, 3))
    file.constant("w", normal(4, 3, 3, 3))
    for name, number in (("zero", 0), ("one", 1), ("two", 2), ("three", 3)):
        file.constant(name, [number], "int32")
    for name in ("n", "h", "h2"):
        file.tensor(name, (), "int32")
    file.constant("twice", 2, "int32")
    file.constant("wide", 18, "int32")
    file.constant("deep", 4, "int32")
    file.tensor("shape", (4,), "int32")
    file.tensor("size", (4,), "int32")
    file.tensor("out", (1, 12, 18, 4))
    file.add("SHAPE", ["image"], ["shape"], fb.ShapeOptionsT, outType=fb.TensorType.INT32)
    for name, begin, end in (("n", "zero", "one"), ("h", "one", "two")):
        file.add(
            "STRIDED_SLICE",
            ["shape", begin, end, "one"],
            [name],
            fb.StridedSliceOptionsT,
            shrinkAxisMask=1,
        )
    file.add("MUL", ["h", "twice"], ["h2"], fb.MulOptionsT)
    file.add("PACK", ["n", "h2", "wide", "deep"], ["size"], fb.PackOptionsT, valuesCount=4)
    file.add(
        "TRANSPOSE_CONV",
        ["size", "w", "image"],
        ["out"],
        fb.TransposeConvOptionsT,
        padding=fb.Padding.SAME,
        strideH=2,
        strideW=2,
    )
    data, image = file.write(["image"], ["out"]), normal(1, 3, 6, 9)
    graph = read(data)
    assert [n.op.kind for n in graph.nodes] == ["ConvTranspose2d"]
    found = lite(data, image, tmp_path).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours(graph, image), found, atol=1e-5)


def pointwise(kind: str, options: Any, constant: Array | None, **values: Any) -> bytes:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    file.tensor("out", (1, 4, 5, 3))
    inputs = ["image"]
    if constant is not None:
        inputs.append(file.constant("c", constant))
    file.add(kind, inputs, ["out"], options, **values)
    return file.write(["image"], ["out"])


@pytest.mark.parametrize(
    ("kind", "options", "constant"),
    [
        ("ADD", fb.AddOptionsT, normal(3)),
        ("MUL", fb.MulOptionsT, normal(5, 3)),
        ("SUB", fb.SubOptionsT, normal(1, 1, 1, 3)),
        ("DIV", fb.DivOptionsT, normal(3)),
        ("MUL", fb.MulOptionsT, normal()),
        ("HARD_SWISH", None, None),
        ("LOGISTIC", None, None),
        ("RELU", None, None),
        ("NEG", fb.NegOptionsT, None),
    ],
)
def test_pointwise(kind: str, options: Any, constant: Array | None, tmp_path: Path) -> None:
    data, image = pointwise(kind, options, constant), normal(1, 3, 4, 5)
    found = lite(data, image, tmp_path).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours(read(data), image), found, rtol=1e-5, atol=1e-5)


def windows(kind: str) -> bytes:
    """A window of a picture, in TFLite's two words for it."""
    file = TFLite()
    file.tensor("image", (1, 6, 9, 3))
    file.tensor("out", (1, 4, 6, 3))
    if kind == "SLICE":
        tables = [("begin", [0, 1, 2, 0]), ("size", [1, 4, 6, -1])]
    else:
        tables = [("begin", [0, 1, 2, 0]), ("end", [1, -1, 8, 9]), ("strides", [1, 1, 1, 1])]
    names = [file.constant(name, table, "int32") for name, table in tables]
    options = fb.SliceOptionsT if kind == "SLICE" else fb.StridedSliceOptionsT
    file.add(kind, ["image", *names], ["out"], options)
    return file.write(["image"], ["out"])


@pytest.mark.parametrize("kind", ["SLICE", "STRIDED_SLICE"])
def test_windows(kind: str, tmp_path: Path) -> None:
    data, image = windows(kind), normal(1, 3, 6, 9)
    graph = read(data)
    assert graph.nodes[0].op == ops.Crop((1, 2), (4, 6))
    found = lite(data, image, tmp_path).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(ours(graph, image), found)


def test_float16_weights_and_bias_as_tensorflow_stores_them(tmp_path: Path) -> None:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    for name, data in (("w", normal(1, 3, 3, 3)), ("b", normal(3))):
        file.constant(f"{name}_half", data, "float16")
        file.tensor(name, data.shape)
        file.add("DEQUANTIZE", [f"{name}_half"], [name], fb.DequantizeOptionsT)
    file.tensor("out", (1, 4, 5, 3))
    options = {"padding": fb.Padding.SAME, "strideH": 1, "strideW": 1, "depthMultiplier": 1}
    file.add(
        "DEPTHWISE_CONV_2D", ["image", "w", "b"], ["out"], fb.DepthwiseConv2DOptionsT, **options
    )
    data, image = file.write(["image"], ["out"]), normal(1, 3, 4, 5)
    graph = read(data)
    assert [n.op.kind for n in graph.nodes] == ["Dequantize", "Dequantize", "Conv2d"]
    found = lite(data, image, tmp_path).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours(graph, image), found, atol=1e-3)


def test_dynamic_range_weights_are_said(tmp_path: Path) -> None:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    file.constant("w", RANDOM.integers(-127, 128, (6, 1, 1, 3)), "int8", scale=[0.01] * 6)
    file.constant("b", normal(6))
    file.tensor("out", (1, 4, 5, 6))
    file.add("CONV_2D", ["image", "w", "b"], ["out"], fb.Conv2DOptionsT, strideH=1, strideW=1)
    data, image = file.write(["image"], ["out"]), normal(1, 3, 4, 5)
    reading = read_tflite(data, "net.tflite")
    assert reading.notes == ("CONV_2D with int8 weights is priced as float32 arithmetic (1 times)",)
    found = lite(data, image, tmp_path).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(ours(reading.graph, image), found, atol=0.1)


def test_old_sampling_is_said() -> None:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    file.constant("size", [8, 10], "int32")
    file.tensor("out", (1, 8, 10, 3))
    file.add("RESIZE_BILINEAR", ["image", "size"], ["out"], fb.ResizeBilinearOptionsT)
    (note,) = read_tflite(file.write(["image"], ["out"]), "net.tflite").notes
    assert "half-pixel" in note


def test_every_unknown_operator_is_listed() -> None:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    for name in ("a", "b", "c", "d", "e"):
        file.tensor(name, (1, 4, 5, 3))
    file.constant("pads", [[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
    file.add("ELU", ["image"], ["a"])
    file.add("ELU", ["a"], ["b"])
    file.add("CUSTOM", ["b"], ["c"], custom="Magic\x1b[31m")
    file.add("MIRROR_PAD", ["c", "pads"], ["d"])
    file.add("RELU", ["d"], ["e"])
    with pytest.raises(MobilesegError) as error:
        read(file.write(["image"], ["e"]))
    said = str(error.value).partition("known are")[0]
    assert "ELU (2 times, first at 'a')" in said
    assert "custom 'Magic?[31m' (1 time, first at 'c')" in said
    assert "MIRROR_PAD" in said
    assert " RELU (" not in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"strideH": 0, "strideW": 1}, "0x1"),
        ({"strideH": -1, "strideW": 1}, "-1x1"),
        ({"strideH": 1, "strideW": 1, "padding": 7}, "padding 7"),
        ({"strideH": 1, "strideW": 1, "dilationHFactor": 2**31 - 1}, "fit"),
        ({"strideH": 1, "strideW": 1, "fusedActivationFunction": 4}, "activation 4"),
    ],
)
def test_impossible_convolutions(values: dict[str, int], said: str) -> None:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    file.constant("w", normal(6, 3, 3, 3))
    file.tensor("out", (1, 2, 3, 6))
    options = {"padding": fb.Padding.VALID} | values
    file.add("CONV_2D", ["image", "w"], ["out"], fb.Conv2DOptionsT, **options)
    with pytest.raises(MobilesegError, match=said):
        read(file.write(["image"], ["out"]))


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((8, 4, 5, 3), "one picture"),
        ((1, 4, 5), "one picture"),
        ((1, -1, 5, 3), "every side"),
        ((1, 2**30, 2**30, 3), "every side"),
        ((1, 0, 5, 3), "every side"),
    ],
)
def test_impossible_inputs(shape: tuple[int, ...], said: str) -> None:
    file = TFLite()
    file.tensor("image", shape)
    file.tensor("out", shape)
    file.add("RELU", ["image"], ["out"])
    with pytest.raises(MobilesegError, match=said):
        read(file.write(["image"], ["out"]))


def test_a_weight_that_claims_gigabytes() -> None:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    file.constant("w", normal(6, 1, 1, 3))
    file.tensors[-1].shape = [2**15, 2**8, 2**8, 3]
    file.tensor("out", (1, 4, 5, 6))
    file.add("CONV_2D", ["image", "w"], ["out"], fb.Conv2DOptionsT, strideH=1, strideW=1)
    with pytest.raises(MobilesegError, match="holds 72 bytes"):
        read(file.write(["image"], ["out"]))


@pytest.mark.parametrize("cycle", [["b"], ["out"]])
def test_a_circle(cycle: list[str]) -> None:
    file = TFLite()
    for name in ("image", "b", "out"):
        file.tensor(name, (1, 4, 5, 3))
    file.add("ADD", ["image", *cycle], ["b"], fb.AddOptionsT)
    file.add("RELU", ["b"], ["out"])
    with pytest.raises(MobilesegError, match="before it is made"):
        read(file.write(["image"], ["out"]))


def test_tables() -> None:
    """Every handler is of an operator that TFLite has, with options that TFLite has."""
    assert all(hasattr(fb.BuiltinOperator, kind) for kind in HANDLERS)
    assert all(hasattr(fb.BuiltinOptions, word) for word in OPTIONS.values())
    assert OPTIONS.keys() <= HANDLERS.keys()
