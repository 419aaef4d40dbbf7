"""Files as other people's exporters write them, made by hand; and what compares graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ai_edge_litert.schema_py_generated as fb
import flatbuffers
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from mobileseg.graph.ir import Array, Graph

_TYPES = {
    "float32": fb.TensorType.FLOAT32,
    "float16": fb.TensorType.FLOAT16,
    "int8": fb.TensorType.INT8,
    "uint8": fb.TensorType.UINT8,
    "int32": fb.TensorType.INT32,
    "int64": fb.TensorType.INT64,
}


@dataclass
class TFLite:
    """A TFLite file in the making: tensors by name, operators in order."""

    index: dict[str, int] = field(default_factory=dict)
    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [fb.BufferT()])
    operators: list[Any] = field(default_factory=list)
    codes: list[tuple[int, str | None]] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        scale: float | Sequence[float] | None = None,
        zero: int = 0,
        data: Array | None = None,
    ) -> str:
        made = fb.TensorT()
        made.name, made.shape, made.type = name, list(shape), _TYPES[dtype]
        made.buffer = 0
        if data is not None:
            buffer = fb.BufferT()
            buffer.data = np.frombuffer(data.astype(dtype).tobytes(), np.uint8)
            made.buffer = len(self.buffers)
            self.buffers.append(buffer)
        if scale is not None:
            quant = fb.QuantizationParametersT()
            quant.scale = np.atleast_1d(np.asarray(scale, np.float32))
            quant.zeroPoint = np.full(quant.scale.shape, zero, np.int64)
            made.quantization = quant
        self.index[name] = len(self.tensors)
        self.tensors.append(made)
        return name

    def constant(self, name: str, data: Any, dtype: str = "float32", **quant: Any) -> str:
        array = np.asarray(data)
        return self.tensor(name, array.shape, dtype, data=array, **quant)

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        options: Any = None,
        custom: str | None = None,
        **values: Any,
    ) -> None:
        """Append an operator; `values` are set on its options."""
        code = (getattr(fb.BuiltinOperator, kind), custom)
        if code not in self.codes:
            self.codes.append(code)
        made = fb.OperatorT()
        made.opcodeIndex = self.codes.index(code)
        made.inputs = [self.index[name] if name else -1 for name in inputs]
        made.outputs = [self.index[name] for name in outputs]
        if options is not None:
            filled = options()
            for name, value in values.items():
                setattr(filled, name, value)
            made.builtinOptions = filled
            word = options.__name__.removesuffix("T")
            made.builtinOptionsType = getattr(fb.BuiltinOptions, word)
        self.operators.append(made)

    def write(self, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        model, body = fb.ModelT(), fb.SubGraphT()
        model.version = 3
        model.buffers = self.buffers
        model.operatorCodes = [_code(*code) for code in self.codes]
        body.tensors, body.operators = self.tensors, self.operators
        body.inputs = [self.index[name] for name in inputs]
        body.outputs = [self.index[name] for name in outputs]
        model.subgraphs = [body]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _code(builtin: int, custom: str | None) -> Any:
    code = fb.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = builtin, min(builtin, 127)
    code.customCode, code.version = custom, 1
    return code


def onnx_file(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    constants: Mapping[str, Any],
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> bytes:
    """Return a model; outputs are declared without a shape, as exporters may."""
    body = helper.make_graph(
        list(nodes),
        "foreign",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(data), name) for name, data in constants.items()],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def assert_equal(a: Graph, b: Graph) -> None:
    """Same operators, names, shapes, types, scales and constants; layers aside."""
    assert (a.inputs, a.outputs) == (b.inputs, b.outputs)
    assert [(n.op, n.inputs, n.output) for n in a.nodes] == [
        (n.op, n.inputs, n.output) for n in b.nodes
    ]
    assert a.tensors.keys() == b.tensors.keys()
    for name, one in a.tensors.items():
        other = b[name]
        assert (one.shape, one.dtype) == (other.shape, other.dtype), name
        assert (one.quant is None) == (other.quant is None), name
        if one.quant is not None and other.quant is not None:
            assert one.quant.same_as(other.quant), name
        assert (one.data is None) == (other.data is None), name
        if one.data is not None and other.data is not None:
            np.testing.assert_array_equal(one.data, other.data)
