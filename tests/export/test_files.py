"""What stands in a written file beside what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ai_edge_litert.schema_py_generated as fb
import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter

from mobileseg import __version__
from mobileseg.errors import MobilesegError
from mobileseg.export.onnx import write_onnx
from mobileseg.export.runtime import OnnxRuntime
from mobileseg.export.tflite import SIGNATURE, write_tflite
from mobileseg.graph import ops
from mobileseg.graph.execute_int8 import quant_of
from mobileseg.graph.passes import FOR_ONNX, float16_weights, run_passes
from tests.export import small
from tests.graph.build import graph


def test_tflite_operators_stand_in_the_order_of_the_nodes() -> None:
    made = small.int8_graph()
    body = fb.ModelT.InitFromPackedBuf(write_tflite(made)).subgraphs[0]
    outputs = [body.tensors[operator.outputs[0]].name.decode() for operator in body.operators]
    assert outputs == [node.output for node in made.nodes]


def test_tflite_constants_are_aligned() -> None:
    """XNNPACK reads them with vector loads: the schema asks for 16 bytes."""
    data = write_tflite(small.int8_graph())
    whole = np.frombuffer(data, np.uint8)
    model = fb.Model.GetRootAs(data)
    for number in range(model.BuffersLength()):
        held = model.Buffers(number).DataAsNumpy()
        if isinstance(held, np.ndarray):
            start = held.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
            assert start % 16 == 0


def test_tflite_weights_of_a_depthwise_convolution_have_their_channels_last() -> None:
    made = small.int8_graph()
    body = fb.ModelT.InitFromPackedBuf(write_tflite(made)).subgraphs[0]
    tensor = next(t for t in body.tensors if t.name == b"wide.dw.weight_int8")
    assert tensor.shape.tolist() == [1, 3, 3, 8]
    assert tensor.quantization.quantizedDimension == 3
    assert tensor.quantization.scale.shape == (8,)


def test_tflite_signature(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(small.int8_graph()))
    found = Interpreter(str(path)).get_signature_list()
    assert found == {SIGNATURE: {"inputs": ["image"], "outputs": ["logits"]}}


def test_tflite_metadata_stand_under_their_names_aligned() -> None:
    data = write_tflite(small.int8_graph(), {"ONE": b"one", "OTHER": b"the other"})
    model = fb.ModelT.InitFromPackedBuf(data)
    held = {m.name.decode(): bytes(model.buffers[m.buffer].data) for m in model.metadata}
    assert held == {"ONE": b"one", "OTHER": b"the other"}
    assert data.index(b"the other") % 16 == 0


@pytest.mark.parametrize("write", [write_tflite, write_onnx])
def test_a_file_is_the_same_every_time(write: type) -> None:
    made = small.int8_graph()
    assert write(made) == write(made)


@pytest.mark.parametrize("write", [write_tflite, write_onnx])
def test_float16_halves_the_file(write: type) -> None:
    made = graph(
        (1, 3, 6, 8),
        ("x", ops.Conv2d(), "image", {"w": (200, 3, 3, 3), "b": (200,)}),
        ("y", ops.Conv2d(), "x", {"v": (200, 200, 3, 3), "c": (200,)}),
    )
    assert len(write(float16_weights(made))) < 0.51 * len(write(made))


def test_what_tflite_has_no_operator_for_is_named() -> None:
    made = graph((1, 3, 6, 8), ("y", ops.Activation("hard_sigmoid"), "image"))
    with pytest.raises(MobilesegError, match=r"y: TFLite has no hard_sigmoid; run FOR_TFLITE"):
        write_tflite(made)


def test_padding_that_tflite_cannot_say_is_named() -> None:
    conv = ops.Conv2d((2, 2), (1, 1, 1, 1))
    made = graph((1, 3, 6, 8), ("y", conv, "image", {"w": (5, 3, 3, 3), "b": (5,)}))
    with pytest.raises(MobilesegError, match=r"y: padding .* neither SAME nor none"):
        write_tflite(made)


def test_onnx_says_who_made_it_and_what_its_steps_mean(tmp_path: Path) -> None:
    made = small.int8_graph()
    path = tmp_path / "net.onnx"
    path.write_bytes(write_onnx(made))
    model = onnx.load(path)
    assert (model.producer_name, model.producer_version) == ("mobileseg", __version__)
    assert model.opset_import[0].version == 17
    assert [i.name for i in model.graph.input] == ["image"]
    assert {p.key for p in model.metadata_props} == {"output_scale", "output_zero_point"}
    quant = quant_of(made["logits"])
    steps = np.array([0, 255], np.uint8)
    reals = (steps.astype(np.float64) - quant.zero_point) * quant.scale[0]
    np.testing.assert_allclose(OnnxRuntime(path).reals(steps), reals, rtol=1e-6)


def test_onnx_checks_the_bytes_with_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    real = onnx.checker.check_model

    def check(model: Any, *given: Any, **options: Any) -> None:
        seen.append(model)
        real(model, *given, **options)

    monkeypatch.setattr(onnx.checker, "check_model", check)
    data = write_onnx(small.int8_graph())
    assert seen[-1] == data


def test_onnx_refused_by_the_checker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: Any, *_: Any, **__: Any) -> None:
        if isinstance(model, bytes):
            raise onnx.checker.ValidationError("no")

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(MobilesegError, match="checker refuses the model"):
        write_onnx(small.int8_graph())


def test_onnx_nodes_are_named_as_the_graphs() -> None:
    made = run_passes(small.float_graph(), FOR_ONNX)
    names = {node.name for node in onnx.load_from_string(write_onnx(made)).graph.node}
    assert {node.output for node in made.nodes} <= names


def test_onnx_writing_copies_no_weights_through_the_simplifier() -> None:
    """onnxsim sees a model without data: the weights come out bit by bit as they were."""
    made = small.float_graph()
    model = onnx.load_from_string(write_onnx(made))
    held = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    for node in made.nodes:
        for tensor in made.constants(node):
            np.testing.assert_array_equal(held[tensor.name], tensor.data)
