"""A graph as a TFLite file: one operator per node, in order, channels last.

Source: tensorflow/lite/schema/schema.fbs (v3a); operator versions from
tensorflow/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ai_edge_litert.schema_py_generated as fb
import flatbuffers
import numpy as np

from mobileseg import __version__
from mobileseg.export.memory_plan import PLAN, memory_plan
from mobileseg.export.tflite_operators import WRITERS, is_depthwise
from mobileseg.graph import ops
from mobileseg.graph.ir import Array, Graph, Node, Tensor

SIGNATURE = "serving_default"
_SCHEMA_VERSION = 3
_IDENTIFIER = b"TFL3"
# XNNPACK and the plain kernels read weights with vector loads.
_ALIGNMENT = 16

_CHANNELS_LAST = (0, 2, 3, 1)
_TYPES = {
    "float32": fb.TensorType.FLOAT32,
    "float16": fb.TensorType.FLOAT16,
    "int8": fb.TensorType.INT8,
    "uint8": fb.TensorType.UINT8,
    "int16": fb.TensorType.INT16,
    "int32": fb.TensorType.INT32,
    "int64": fb.TensorType.INT64,
}


def write_tflite(
    graph: Graph,
    metadata: Mapping[str, bytes] | None = None,
    offsets: Mapping[str, int] | None = None,
) -> bytes:
    """Return the file's bytes. The graph has gone through `passes.FOR_TFLITE`.

    metadata: buffers that readers find by name, such as TFLITE_METADATA. offsets: where the
    activations lie in the arena, by a plan of memory. Raises MobilesegError naming a node that
    TFLite has no operator for.
    """
    return _File(graph, dict(metadata or {}), offsets).write()


class _AlignedBuffer(fb.BufferT):  # type: ignore[misc]
    """The generated packer ignores the schema's force_align on buffer data."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802  (the generated name)
        vector = None
        if self.data is not None:
            raw = self.data.tobytes()
            builder.StartVector(1, len(raw), _ALIGNMENT)
            builder.head -= len(raw)
            builder.Bytes[builder.head : builder.head + len(raw)] = raw
            vector = builder.EndVector()
        fb.BufferStart(builder)
        if vector is not None:
            fb.BufferAddData(builder, vector)
        return fb.BufferEnd(builder)


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """Writes equal vectors of integers once: every filter has a zero point, of 8 bytes, that is 0,
    which in a network of a hundred kilobytes is a sixth of the file. Not so scales, nor the one
    zero point of an activation: these are equal in a graph without weights and ranges, whose file
    is to have its true size.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802  (the base class's name)
        if x.dtype.kind != "i" or x.size == 1:
            return int(super().CreateNumpyVector(x))
        key = (x.dtype.str, x.tobytes())
        if key not in self._written:
            self._written[key] = int(super().CreateNumpyVector(x))
        return self._written[key]


@dataclass
class _Shared:
    """An operator's options, written once for all that have the same."""

    table: Any
    place: int | None = None

    def Pack(self, builder: Any) -> int:  # noqa: N802  (the generated name)
        if self.place is None:
            self.place = self.table.Pack(builder)
        return self.place


@dataclass
class _File:
    graph: Graph
    metadata: dict[str, bytes]
    offsets: Mapping[str, int] | None
    index: dict[str, int] = field(default_factory=dict)
    tensors: list[Any] = field(default_factory=list)
    # Buffer 0 is empty, by the schema's rule.
    buffers: list[Any] = field(default_factory=lambda: [_AlignedBuffer()])
    codes: dict[tuple[int, int], int] = field(default_factory=dict)
    options: dict[str, _Shared] = field(default_factory=dict)

    def write(self) -> bytes:
        layouts = _layouts(self.graph)
        for tensor in self.graph.tensors.values():
            self._add(tensor, layouts[tensor.name])
        operators = [self._operator(node) for node in self.graph.nodes]
        if self.offsets is not None:
            names = [tensor.name for tensor in self.tensors]
            self.metadata[PLAN] = memory_plan(names, self.offsets)
        named = [self._named(name, data) for name, data in self.metadata.items()]
        # Large enough from the start: a buffer that grows is copied each time.
        constants = sum(t.nbytes for t in self.graph.tensors.values() if t.data is not None)
        constants += sum(map(len, self.metadata.values()))
        builder = _Builder(constants + 2**18)
        builder.Finish(self._model(operators, named).Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())

    def _add(self, tensor: Tensor, layout: Sequence[int]) -> None:
        made = fb.TensorT()
        made.name = tensor.name
        made.shape = np.array([tensor.shape[axis] for axis in layout], np.int32)
        made.type = _TYPES[tensor.dtype]
        # What has axes has a rank; saying so takes four bytes.
        made.hasRank = not tensor.shape
        made.buffer = 0
        if tensor.data is not None:
            made.buffer = self._buffer(np.ascontiguousarray(tensor.data.transpose(layout)))
        if tensor.quant is not None:
            quant = fb.QuantizationParametersT()
            quant.scale = tensor.quant.scale.astype(np.float32)
            quant.zeroPoint = np.full(tensor.quant.scale.shape, tensor.quant.zero_point, np.int64)
            if tensor.quant.axis is not None:
                quant.quantizedDimension = list(layout).index(tensor.quant.axis)
            made.quantization = quant
        self.index[tensor.name] = len(self.tensors)
        self.tensors.append(made)

    def _buffer(self, data: Array) -> int:
        buffer = _AlignedBuffer()
        buffer.data = data
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def _operator(self, node: Node) -> Any:
        written = WRITERS[type(node.op)](self.graph, node)
        extra = []
        for name, data in written.extra:
            tensor = Tensor(f"{node.output}.{name}", data.shape, "int32", data=data)
            self._add(tensor, range(data.ndim))
            extra.append(self.index[tensor.name])
        given = node.inputs if written.inputs is None else written.inputs
        operator = fb.OperatorT()
        code = (written.builtin, written.version)
        operator.opcodeIndex = self.codes.setdefault(code, len(self.codes))
        values = [self.index[name] for name in given]
        operator.inputs = extra + values if written.extra_first else values + extra
        operator.outputs = [self.index[node.output]]
        if written.options is not None:
            kind = type(written.options).__name__.removesuffix("T")
            key = f"{kind} {vars(written.options)}"
            operator.builtinOptions = self.options.setdefault(key, _Shared(written.options))
            operator.builtinOptionsType = getattr(fb.BuiltinOptions, kind)
        return operator

    def _named(self, name: str, data: bytes) -> Any:
        made = fb.MetadataT()
        made.name, made.buffer = name, self._buffer(np.frombuffer(data, np.uint8))
        return made

    def _model(self, operators: list[Any], metadata: list[Any]) -> Any:
        model = fb.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = f"mobileseg {__version__}"
        model.buffers = self.buffers
        model.operatorCodes = [_code(*key) for key in self.codes]
        body = fb.SubGraphT()
        body.name = "main"
        body.tensors = self.tensors
        body.operators = operators
        body.inputs = [self.index[name] for name in self.graph.inputs]
        body.outputs = [self.index[name] for name in self.graph.outputs]
        model.subgraphs = [body]
        model.signatureDefs = [self._signature()]
        model.metadata = metadata
        return model

    def _signature(self) -> Any:
        signature = fb.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.inputs = [self._entry(name) for name in self.graph.inputs]
        signature.outputs = [self._entry(name) for name in self.graph.outputs]
        return signature

    def _entry(self, name: str) -> Any:
        entry = fb.TensorMapT()
        entry.name, entry.tensorIndex = name, self.index[name]
        return entry


def _code(builtin: int, version: int) -> Any:
    code = fb.OperatorCodeT()
    code.builtinCode, code.version = builtin, version
    # Old readers look here; codes that do not fit into its byte say so with 127.
    code.deprecatedBuiltinCode = min(builtin, 127)
    return code


def _layouts(graph: Graph) -> Mapping[str, Sequence[int]]:
    """Return the order in which the file keeps each tensor's axes."""
    layouts: dict[str, Sequence[int]] = {
        name: _CHANNELS_LAST if len(tensor.shape) == 4 else range(len(tensor.shape))
        for name, tensor in graph.tensors.items()
    }
    for node in graph.nodes:
        if not isinstance(node.op, ops.Conv2d | ops.ConvTranspose2d):
            continue
        # (O, h, w, I) for convolutions; a depthwise (O, 1, h, w) becomes (1, h, w, O), and
        # (I, O, h, w) of a transposed one (O, h, w, I): the same move of the axes.
        rotated = isinstance(node.op, ops.ConvTranspose2d) or is_depthwise(graph, node)
        name = node.inputs[1]
        layouts[name] = (1, 2, 3, 0) if rotated else _CHANNELS_LAST
        source = graph.producers.get(name)
        if source is not None:
            layouts[source.inputs[0]] = layouts[name]
    return layouts
