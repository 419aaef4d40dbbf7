"""A graph as an ONNX model: channels first; int8 as QuantizeLinear / DequantizeLinear pairs.

Source: onnx.ai, operator schemas of opset 17.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mobileseg import __version__
from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.execute_int8 import LIMITS, step_limits
from mobileseg.graph.ir import Array, Graph, Node, QuantParams, Tensor
from mobileseg.graph.passes import FOR_ONNX, run_passes

# 17 is old enough for every runtime of the last years; its IR version likewise.
_OPSET = 17
_IR_VERSION = 8
_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
}


def write_onnx(graph: Graph, words: str = "") -> bytes:
    """Return the model's bytes, through onnxsim and onnx.checker; `words` describe it inside.

    int8 is written as uint8 steps (`passes.FOR_ONNX`). An integer output's scale stands in the
    metadata `output_scale` and `output_zero_point`. Raises MobilesegError where either refuses it.
    """
    data = bytes(_model(run_passes(graph, FOR_ONNX), words).SerializeToString())
    # Of the bytes as written, weights included: 0.05 s for 14 million of them.
    _require_valid(data)
    return data


def _model(graph: Graph, words: str) -> Any:
    """Return the finished model.

    onnxsim sees the weights as inputs, without data: it would copy every byte several times, and
    fold float16 weights back into float32.
    """
    writer = _Model(graph)
    model = _simplified(writer.build())
    # onnxsim writes a diary there.
    del model.metadata_props[:]
    helper.set_model_props(model, writer.facts())
    model.doc_string = words
    body = model.graph
    names = set(graph.inputs)
    for given in [given for given in body.input if given.name not in names]:
        body.input.remove(given)
        data = writer.weights[given.name]
        # Native order is little endian on everything that torch runs on.
        body.initializer.add(
            name=given.name,
            data_type=helper.np_dtype_to_tensor_dtype(data.dtype),
            dims=data.shape,
            raw_data=data.tobytes(),
        )
    return model


def _require_valid(data: bytes) -> None:
    try:
        onnx.checker.check_model(data, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise MobilesegError(f"onnx: the checker refuses the model ({error})") from None


def _simplified(model: Any) -> Any:
    import onnxsim  # noqa: PLC0415  (slow to import)

    with contextlib.redirect_stdout(io.StringIO()):
        simple, agrees = onnxsim.simplify(
            model,
            # Scales and zero points stay one per tensor: shared ones break ONNX Runtime's own
            # rewriting of quantized models.
            skipped_optimizers=["eliminate_duplicate_initializer"],
        )
    if not agrees:
        raise MobilesegError("onnx: onnxsim's model computes something else; report this network")
    return simple


@dataclass
class _Model:
    """An ONNX graph in the making. A quantized tensor `t` is `t_q` in steps and `t` in reals."""

    graph: Graph
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)

    def build(self) -> Any:
        given = self.graph[self.graph.inputs[0]]
        if given.quant is not None:
            self.dequantize(given, stored=given.name)
        for tensor in self.graph.tensors.values():
            if tensor.data is not None:
                self._constant_tensor(tensor)
        for node in self.graph.nodes:
            self._node(node)
        out = self.graph[self.graph.outputs[0]]
        body = helper.make_graph(
            self.nodes,
            "mobileseg",
            [_info(given), *(_value_info(name, data) for name, data in self.weights.items())],
            [_info(out)],
            list(self.constants.values()),
        )
        return helper.make_model(
            body,
            producer_name="mobileseg",
            producer_version=__version__,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )

    def facts(self) -> dict[str, str]:
        """What a reader needs to know and ONNX has no field for."""
        out = self.graph[self.graph.outputs[0]]
        if out.quant is None:
            return {}
        scale, zero_point = float(out.quant.scale[0]), out.quant.zero_point
        return {"output_scale": repr(scale), "output_zero_point": str(zero_point)}

    def _node(self, node: Node) -> None:
        out = self.graph[node.output]
        quantized = out.quant is not None
        made = f"{out.name}_real" if quantized else out.name
        WRITERS[type(node.op)](self, node, made)
        if not quantized:
            return
        last = out.name in self.graph.outputs
        stored = out.name if last else f"{out.name}_q"
        self.quantize(made, _halves_up(out) if _averages(node) else out, stored)
        if not last:
            self.dequantize(out, stored)

    def _constant_tensor(self, tensor: Tensor) -> None:
        assert tensor.data is not None
        if tensor.quant is None:
            self.weights[tensor.name] = tensor.data
            return
        self.weights[f"{tensor.name}_q"] = tensor.data
        self.dequantize(tensor, f"{tensor.name}_q")

    def constant(self, name: str, data: Array) -> str:
        self.constants[name] = numpy_helper.from_array(data, name)
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def quantize(self, real: str, tensor: Tensor, stored: str) -> None:
        self._linear("QuantizeLinear", real, stored, tensor)

    def dequantize(self, tensor: Tensor, stored: str) -> None:
        real = tensor.name if stored != tensor.name else f"{tensor.name}_real"
        self._linear("DequantizeLinear", stored, real, tensor)

    def _linear(self, kind: str, source: str, target: str, tensor: Tensor) -> None:
        quant = tensor.quant
        assert quant is not None
        scale, zero = self._quant_constants(tensor.name, quant, tensor.dtype)
        axis = {} if quant.axis is None else {"axis": quant.axis}
        self.add(kind, [source, scale, zero], target, **axis)

    def _quant_constants(self, name: str, quant: QuantParams, dtype: str) -> tuple[str, str]:
        scale = quant.scale.astype(np.float32)
        zero = np.full(scale.shape, quant.zero_point, np.dtype(dtype))
        if quant.axis is None:
            scale, zero = scale.reshape(()), zero.reshape(())
        return self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero", zero)

    def reads(self, node: Node) -> list[str]:
        """The names of the node's inputs as reals."""
        outer = self.graph.inputs[0] if self.graph[self.graph.inputs[0]].quant else None
        return [f"{name}_real" if name == outer else name for name in node.inputs]


def _averages(node: Node) -> bool:
    return isinstance(node.op, ops.Resize) and node.op.mode != "nearest"


def _halves_up(tensor: Tensor) -> Tensor:
    """Return the tensor with a scale one float32 smaller: no value but a half changes its step.

    LiteRT's resize rounds halves up and QuantizeLinear to even; those that are not negative, behind
    every relu, go up so.
    """
    assert tensor.quant is not None
    scale = np.nextafter(tensor.quant.scale.astype(np.float32), np.float32(0))
    return replace(tensor, name=f"{tensor.name}_up", quant=replace(tensor.quant, scale=scale))


def _info(tensor: Tensor) -> Any:
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.dtype], tensor.shape)


def _value_info(name: str, data: Array) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(data.dtype)
    return helper.make_tensor_value_info(name, kind, data.shape)


def _fused(model: _Model, function: str, source: str, target: str) -> None:
    if function == "relu":
        model.add("Relu", [source], target)
    elif function == "relu6":
        limits = [
            model.constant("zero", np.array(0, np.float32)),
            model.constant("six", np.array(6, np.float32)),
        ]
        model.add("Clip", [source, *limits], target)


def _is_clamped(out: Tensor, function: str) -> bool:
    """Whether the steps of an int8 output reach no further than its activation does.

    Then a Relu or Clip would change nothing, and keep ONNX Runtime from an integer convolution.
    """
    return out.quant is not None and step_limits(out, function) == LIMITS[out.dtype]


def _with_activation(model: _Model, node: Node, kind: str, made: str, **attributes: Any) -> None:
    function = getattr(node.op, "activation", "none")
    if _is_clamped(model.graph[node.output], function):
        function = "none"
    plain = made if function == "none" else f"{made}_linear"
    model.add(kind, model.reads(node), plain, **attributes)
    _fused(model, function, plain, made)


def _conv(model: _Model, node: Node, made: str) -> None:
    op = node.op
    assert isinstance(op, ops.Conv2d | ops.ConvTranspose2d)
    said = {
        "strides": op.stride,
        "pads": op.pad,
        "kernel_shape": model.graph[node.inputs[1]].shape[2:],
    }
    if isinstance(op, ops.Conv2d):
        _with_activation(model, node, "Conv", made, dilations=op.dilation, group=op.groups, **said)
    else:
        _with_activation(model, node, "ConvTranspose", made, output_padding=op.extra, **said)


def _activation(model: _Model, node: Node, made: str) -> None:
    op = node.op
    assert isinstance(op, ops.Activation)
    (source,) = model.reads(node)
    if op.function in {"relu", "relu6"}:
        _fused(model, op.function, source, made)
    elif op.function == "hard_sigmoid":
        model.add("HardSigmoid", [source], made, alpha=1 / 6, beta=0.5)
    elif op.function == "rsqrt":
        power = model.constant(f"{made}_power", np.array(-0.5, np.float32))
        model.add("Pow", [source, power], made)
    else:
        model.add({"sigmoid": "Sigmoid", "hard_swish": "HardSwish"}[op.function], [source], made)


def _pad(model: _Model, node: Node, made: str) -> None:
    top, left, bottom, right = node.op.pad  # type: ignore[attr-defined]
    pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    model.add("Pad", [*model.reads(node), model.constant(f"{made}_pads", pads)], made)


def _crop(model: _Model, node: Node, made: str) -> None:
    op = node.op
    assert isinstance(op, ops.Crop)
    ends = [start + size for start, size in zip(op.start, op.size, strict=True)]
    names = [
        model.constant(f"{made}_{what}", np.array(values, np.int64))
        for what, values in (("starts", op.start), ("ends", ends), ("axes", (2, 3)))
    ]
    model.add("Slice", [*model.reads(node), *names], made)


def _pool(model: _Model, node: Node, made: str) -> None:
    op = node.op
    assert isinstance(op, ops.Pool)
    kind = "MaxPool" if op.function == "max" else "AveragePool"
    model.add(kind, model.reads(node), made, kernel_shape=op.kernel, strides=op.stride, pads=op.pad)


def _resize(model: _Model, node: Node, made: str) -> None:
    op = node.op
    assert isinstance(op, ops.Resize)
    sizes = np.array(model.graph[node.output].shape, np.int64)
    inputs = [*model.reads(node), "", "", model.constant(f"{made}_sizes", sizes)]
    if op.mode == "nearest":
        where, attributes = "asymmetric", {"mode": "nearest", "nearest_mode": "floor"}
    else:
        where = "align_corners" if op.align_corners else "half_pixel"
        attributes = {"mode": "linear"}
    model.add("Resize", inputs, made, coordinate_transformation_mode=where, **attributes)


def _argmax(model: _Model, node: Node, made: str) -> None:
    index = model.add("ArgMax", model.reads(node), f"{made}_int64", axis=1, keepdims=0)
    model.add("Cast", [index], made, to=TensorProto.INT32)


def _copy(model: _Model, node: Node, made: str) -> None:
    """Quantize and Dequantize are the linear pairs around every tensor already."""
    model.add("Identity", model.reads(node), made)


def _dequantize(model: _Model, node: Node, made: str) -> None:
    if model.graph[node.inputs[0]].dtype == "float16":
        model.add("Cast", model.reads(node), made, to=TensorProto.FLOAT)
    elif made in model.graph.outputs:
        _copy(model, node, made)
    else:
        # The largest of one: ONNX Runtime drops an Identity, and quantizes the weights of a float
        # convolution between integers by rules of its own.
        model.add("Max", model.reads(node), made)


def _plain(kind: str, **attributes: Any) -> Writer:
    return lambda model, node, made: _with_activation(model, node, kind, made, **attributes)


Writer = Callable[[_Model, Node, str], None]

WRITERS: dict[type[ops.Op], Writer] = {
    ops.Conv2d: _conv,
    ops.ConvTranspose2d: _conv,
    ops.Activation: _activation,
    ops.LeakyRelu: lambda model, node, made: _plain(
        "LeakyRelu", alpha=getattr(node.op, "slope", 0.0)
    )(model, node, made),
    ops.PRelu: _plain("PRelu"),
    ops.Neg: _plain("Neg"),
    ops.Add: _plain("Add"),
    ops.Mul: _plain("Mul"),
    ops.Concat: _plain("Concat", axis=1),
    ops.Pad: _pad,
    ops.Crop: _crop,
    ops.DepthToSpace: lambda model, node, made: _plain(
        "DepthToSpace", blocksize=getattr(node.op, "block", 2), mode="DCR"
    )(model, node, made),
    ops.Pool: _pool,
    ops.GlobalMean: _plain("GlobalAveragePool"),
    ops.Resize: _resize,
    ops.Softmax: _plain("Softmax", axis=1),
    ops.ArgMax: _argmax,
    ops.Quantize: _copy,
    ops.Dequantize: _dequantize,
}
