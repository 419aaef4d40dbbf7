"""Every operator's file in its real runtime, float and int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mobileseg.errors import MobilesegError
from mobileseg.export.onnx import write_onnx
from mobileseg.export.runtime import LiteRT, OnnxRuntime, Runner, pixels_as
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8, quant_of
from mobileseg.graph.ir import Array, Graph, Node, QuantParams, assemble
from mobileseg.graph.ir import Tensor as Value
from mobileseg.graph.passes import FOR_TFLITE, float16_weights, hard_swish_to_mul, run_passes
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface
from mobileseg.quantize.rules import NO_INT16
from tests.op_cases import CASES, Case

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
by_name = {case.name: case for case in CASES}


def tflite(graph: Graph, folder: Path) -> Runner:
    path = folder / "net.tflite"
    path.write_bytes(write_tflite(graph))
    return LiteRT(path)


def onnx(graph: Graph, folder: Path) -> Runner:
    path = folder / "net.onnx"
    path.write_bytes(write_onnx(graph))
    return OnnxRuntime(path)


def pixels(case: Case, dtype: type[np.generic] = np.float32) -> Array:
    return pixels_as(case.images(), np.dtype(dtype))


def floats(graph: Graph, case: Case) -> Array:
    return execute(graph, torch.from_numpy(pixels(case))).numpy()


def int8(graph: Graph, case: Case, interface: Interface = "int8") -> Graph:
    return quantize(graph, calibrate(graph, [pixels(case)]), interface)


def far(a: Array, b: Array) -> int:
    return int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max())


@all_cases
def test_tflite_float(case: Case, tmp_path: Path) -> None:
    graph = run_passes(case.graph(), FOR_TFLITE)
    runner = tflite(graph, tmp_path)
    np.testing.assert_allclose(runner(pixels(case)), floats(graph, case), rtol=1e-5, atol=1e-5)


@all_cases
def test_onnx_float(case: Case, tmp_path: Path) -> None:
    graph = case.graph()
    runner = onnx(graph, tmp_path)
    np.testing.assert_allclose(runner(pixels(case)), floats(graph, case), rtol=1e-5, atol=1e-5)


@all_cases
def test_tflite_int8_is_our_execution_to_the_bit(case: Case, tmp_path: Path) -> None:
    graph = int8(run_passes(case.graph(), FOR_TFLITE), case)
    given = pixels(case, np.int8)
    np.testing.assert_array_equal(tflite(graph, tmp_path)(given), execute_int8(graph, given))


@all_cases
def test_onnx_int8_is_within_a_step(case: Case, tmp_path: Path) -> None:
    graph = int8(case.graph(), case)
    given = pixels(case, np.int8)
    result = onnx(graph, tmp_path)(given)
    assert far(result, execute_int8(graph, given)) <= 1


@pytest.mark.parametrize("write", [tflite, onnx])
@pytest.mark.parametrize("interface", ["uint8", "int8", "float32"])
@pytest.mark.parametrize("name", ["dense", "concat_3", "argmax", "softmax"])
def test_interfaces(write: type, interface: Interface, name: str, tmp_path: Path) -> None:
    """Quantize and Dequantize: all three interfaces give the int8 body's answer."""
    case = by_name[name]
    body, graph = (
        int8(run_passes(case.graph(), FOR_TFLITE), case, each) for each in ("int8", interface)
    )
    runner = write(graph, tmp_path)
    assert runner.input_dtype == np.dtype(interface)
    result = runner(pixels(case, runner.input_dtype.type))
    expected = execute_int8(body, pixels(case, np.int8))
    quant = body["out"].quant
    if quant is not None:
        expected = (expected.astype(np.float32) - quant.zero_point) * np.float32(quant.scale[0])
    np.testing.assert_array_equal(runner.reals(result), expected)


@pytest.mark.parametrize("write", [tflite, onnx])
@pytest.mark.parametrize("name", ["dense", "depthwise", "deconv_4_2_1"])
def test_float16_weights(write: type, name: str, tmp_path: Path) -> None:
    case = by_name[name]
    graph = float16_weights(run_passes(case.graph(), FOR_TFLITE))
    runner = write(graph, tmp_path)
    np.testing.assert_allclose(runner(pixels(case)), floats(graph, case), rtol=1e-5, atol=1e-5)


def test_large_sums_do_not_saturate(tmp_path: Path) -> None:
    """ONNX Runtime's mixed-sign kernel clips pairs of products at 16 bits on some processors."""
    case = by_name["pointwise"]
    graph = case.graph()
    tensors = [
        type(t)(t.name, t.shape, data=np.full(t.shape, 1, np.float32))
        for t in graph.tensors.values()
        if t.name.endswith(("weight", "c0"))
    ]
    quantized = int8(graph.with_tensors(tensors), case)
    bright = np.full((1, 3, *case.image), 127, np.int8)
    runner = onnx(quantized, tmp_path)
    np.testing.assert_array_equal(runner(bright), execute_int8(quantized, bright))


def test_means_at_half_a_step_are_litert_s(tmp_path: Path) -> None:
    """Of 768 places a mean is half a step from two steps once in 768 channels."""
    size, quant = (24, 32), QuantParams(np.array([0.05]), -128)
    given = Value("x", (1, 3, *size), "int8", quant)
    known = {"x": given, "out": Value("out", (1, 3, 1, 1), "int8", quant)}
    graph = Graph(("x",), ("out",), (Node(ops.GlobalMean(), ("x",), "out", "mean"),), known)
    random = np.random.default_rng(0)
    noise, light = random.integers(-16, 16, (600, 3, *size)), random.integers(-60, 60, (600, 3))
    pictures = (noise + light[..., None, None]).astype(np.int8)
    halves = (pictures.astype(int).sum((2, 3)) % (size[0] * size[1])) == size[0] * size[1] // 2
    assert halves.any()
    np.testing.assert_array_equal(tflite(graph, tmp_path)(pictures), execute_int8(graph, pictures))


@pytest.mark.parametrize(("write", "share"), [(tflite, 1.0), (onnx, 0.98)])
def test_resizes_at_half_a_step_are_litert_s(write: type, share: float, tmp_path: Path) -> None:
    """Behind a relu no real is negative; then ONNX Runtime rounds halves up, too."""
    quant = QuantParams(np.array([0.0371]), -128)
    values = {
        name: Value(name, (1, 3, size, size), "int8", quant)
        for name, size in (("x", 8), ("wide", 16), ("out", 32))
    }
    nodes = tuple(
        Node(ops.Resize((size, size)), (source,), name, name)
        for source, name, size in (("x", "wide", 16), ("wide", "out", 32))
    )
    graph = Graph(("x",), ("out",), nodes, values)
    pictures = np.random.default_rng(0).integers(-128, 128, (20, 3, 8, 8)).astype(np.int8)
    alike = write(graph, tmp_path)(pictures) == execute_int8(graph, pictures)
    assert alike.mean() >= share


@all_cases
def test_tflite_16x8_is_within_a_step(case: Case, tmp_path: Path) -> None:
    """Convolutions, resizes and copies to the bit; LiteRT's table of softmax is 3 steps off."""
    graph = run_passes(case.graph(), (*FOR_TFLITE, hard_swish_to_mul))
    ranges = calibrate(graph, [pixels(case)])
    if type(case.op) in NO_INT16:
        with pytest.raises(MobilesegError, match=f"{case.name}: LiteRT has no int16 kernel for"):
            quantize(graph, ranges, activations="int16")
        return
    graph = quantize(graph, ranges, activations="int16")
    given = pixels(case, np.uint8)
    scale = quant_of(graph["out_int8"]).scale[0]
    steps = np.abs(tflite(graph, tmp_path)(given) - execute_int8(graph, given)) / scale
    inexact = {ops.Softmax: 3, ops.Activation: 2, ops.Add: 1, ops.Mul: 1, ops.GlobalMean: 1}
    assert steps.max() < inexact.get(type(case.op), 0) + 0.5


@pytest.mark.parametrize("write", [tflite, onnx])
def test_probabilities_joined_with_the_image(write: type, tmp_path: Path) -> None:
    """Each has a scale of its own, which a join cannot keep."""
    image = Value("image", (1, 3, 10, 14))
    random = np.random.default_rng(3)
    weight = Value("w", (2, 3, 1, 1), data=random.normal(size=(2, 3, 1, 1)).astype(np.float32))
    bias = Value("b", (2,), data=np.array([0.1, -0.2], np.float32))
    nodes = [
        Node(ops.Conv2d(), ("image", "w", "b"), "x", "x"),
        Node(ops.Softmax(), ("x",), "p", "p"),
        Node(ops.Concat(), ("image", "p"), "out", "out"),
    ]
    graph = assemble([image], nodes, ("out",), {"w": weight, "b": bias})
    case = by_name["dense"]
    made = int8(graph, case, "uint8")
    given = pixels(case, np.uint8)
    result = write(made, tmp_path)
    assert far(result(given), execute_int8(made, given)) <= 1
    np.testing.assert_allclose(result.reals(result(given)), floats(graph, case), atol=0.02)
