"""A graph as a TFLite file: one operator per node, in order, channels last.

Source: tensorflow/lite/schema/schema.fbs (v3a); operator versions from
tensorflow/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ai_edge_litert.schema_py_generated as fb
import flatbuffers
import numpy as np

from mobileseg import __version__
from mobileseg.errors import MobilesegError
from mobileseg.export.memory_plan import PLAN, memory_plan
from mobileseg.graph import ops
from mobileseg.graph.ir import Array, Graph, Node, Tensor
from mobileseg.graph.passes import same_cut, same_pads

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
    "int32": fb.TensorType.INT32,
}
_FUSED = {
    "none": fb.ActivationFunctionType.NONE,
    "relu": fb.ActivationFunctionType.RELU,
    "relu6": fb.ActivationFunctionType.RELU6,
}


@dataclass(frozen=True)
class Written:
    """One operator as the file says it; `extra` are constants only the file needs."""

    builtin: int
    version: int = 1
    options: Any = None
    inputs: Sequence[str] | None = None
    extra: Sequence[tuple[str, Array]] = ()
    extra_first: bool = False


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
        builder = flatbuffers.Builder(constants + 2**18)
        builder.Finish(self._model(operators, named).Pack(builder), _IDENTIFIER)
        return bytes(builder.Output())

    def _add(self, tensor: Tensor, layout: Sequence[int]) -> None:
        made = fb.TensorT()
        made.name = tensor.name
        made.shape = [tensor.shape[axis] for axis in layout]
        made.type = _TYPES[tensor.dtype]
        made.hasRank = True
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
            operator.builtinOptions = written.options
            kind = type(written.options).__name__.removesuffix("T")
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
        rotated = isinstance(node.op, ops.ConvTranspose2d) or _is_depthwise(graph, node)
        name = node.inputs[1]
        layouts[name] = (1, 2, 3, 0) if rotated else _CHANNELS_LAST
        source = graph.producers.get(name)
        if source is not None:
            layouts[source.inputs[0]] = layouts[name]
    return layouts


def _is_depthwise(graph: Graph, node: Node) -> bool:
    return isinstance(node.op, ops.Conv2d) and node.op.is_depthwise(graph.shapes(node))


def _is_int8(graph: Graph, node: Node) -> bool:
    return graph[node.inputs[0]].dtype in {"int8", "uint8"}


def _two_if_int8(graph: Graph, node: Node) -> int:
    return 2 if _is_int8(graph, node) else 1


def _conv(graph: Graph, node: Node) -> Written:
    op = node.op
    assert isinstance(op, ops.Conv2d)
    depthwise = _is_depthwise(graph, node)
    options = fb.DepthwiseConv2DOptionsT() if depthwise else fb.Conv2DOptionsT()
    options.padding = _padding(op.pad, same_pads(graph, node), node)
    options.strideH, options.strideW = op.stride
    options.dilationHFactor, options.dilationWFactor = op.dilation
    options.fusedActivationFunction = _FUSED[op.activation]
    dilated = op.dilation != (1, 1)
    if depthwise:
        options.depthMultiplier = graph[node.inputs[1]].shape[0] // op.groups
        version = 3 if _is_int8(graph, node) else 2 if dilated else 1
        return Written(fb.BuiltinOperator.DEPTHWISE_CONV_2D, version, options)
    version = 3 if _is_int8(graph, node) else 1
    return Written(fb.BuiltinOperator.CONV_2D, version, options)


def _padding(pad: ops.Pads, same: ops.Pads, node: Node) -> int:
    if pad == ops.NO_PAD:
        return int(fb.Padding.VALID)
    if pad == same:
        return int(fb.Padding.SAME)
    raise MobilesegError(f"{node.layer}: padding {pad} is neither SAME nor none; run FOR_TFLITE")


def _deconv(graph: Graph, node: Node) -> Written:
    op = node.op
    assert isinstance(op, ops.ConvTranspose2d)
    options = fb.TransposeConvOptionsT()
    options.padding = _padding(op.pad, same_cut(graph, node), node)
    options.strideH, options.strideW = op.stride
    options.fusedActivationFunction = _FUSED[op.activation]
    biased = len(node.inputs) > 2
    version = 3 if biased else _two_if_int8(graph, node)
    if op.activation != "none":
        version = 4
    n, c, h, w = graph[node.output].shape
    return Written(
        fb.BuiltinOperator.TRANSPOSE_CONV,
        version,
        options,
        inputs=(node.inputs[1], node.inputs[0], *node.inputs[2:]),
        extra=[("output_shape", np.array([n, h, w, c], np.int32))],
        extra_first=True,
    )


def _activation(graph: Graph, node: Node) -> Written:
    op = node.op
    assert isinstance(op, ops.Activation)
    builtin = {
        "relu": fb.BuiltinOperator.RELU,
        "relu6": fb.BuiltinOperator.RELU6,
        "sigmoid": fb.BuiltinOperator.LOGISTIC,
        "hard_swish": fb.BuiltinOperator.HARD_SWISH,
    }.get(op.function)
    if builtin is None:
        raise MobilesegError(f"{node.layer}: TFLite has no {op.function}; run FOR_TFLITE")
    options = fb.HardSwishOptionsT() if op.function == "hard_swish" else None
    version = 1 if op.function == "hard_swish" else _two_if_int8(graph, node)
    return Written(builtin, version, options)


def _leaky_relu(graph: Graph, node: Node) -> Written:
    options = fb.LeakyReluOptionsT()
    options.alpha = node.op.slope  # type: ignore[attr-defined]
    return Written(fb.BuiltinOperator.LEAKY_RELU, _two_if_int8(graph, node), options)


def _sum_or_product(builtin: int, make: Callable[[], Any]) -> Writer:
    def write(graph: Graph, node: Node) -> Written:
        options = make()
        options.fusedActivationFunction = _FUSED[node.op.activation]  # type: ignore[attr-defined]
        return Written(builtin, _two_if_int8(graph, node), options)

    return write


def _concat(graph: Graph, node: Node) -> Written:
    options = fb.ConcatenationOptionsT()
    options.axis = 3
    return Written(fb.BuiltinOperator.CONCATENATION, _two_if_int8(graph, node), options)


def _pad(graph: Graph, node: Node) -> Written:
    top, left, bottom, right = node.op.pad  # type: ignore[attr-defined]
    table = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    version = _two_if_int8(graph, node)
    return Written(fb.BuiltinOperator.PAD, version, fb.PadOptionsT(), extra=[("paddings", table)])


def _crop(graph: Graph, node: Node) -> Written:
    (top, left), (height, width) = node.op.start, node.op.size  # type: ignore[attr-defined]
    n, c, _, _ = graph[node.output].shape
    window = [
        ("begin", np.array([0, top, left, 0], np.int32)),
        ("size", np.array([n, height, width, c], np.int32)),
    ]
    version = _two_if_int8(graph, node)
    return Written(fb.BuiltinOperator.SLICE, version, fb.SliceOptionsT(), extra=window)


def _depth_to_space(graph: Graph, node: Node) -> Written:
    options = fb.DepthToSpaceOptionsT()
    options.blockSize = node.op.block  # type: ignore[attr-defined]
    return Written(fb.BuiltinOperator.DEPTH_TO_SPACE, _two_if_int8(graph, node), options)


def _pool(graph: Graph, node: Node) -> Written:
    op = node.op
    assert isinstance(op, ops.Pool)
    options = fb.Pool2DOptionsT()
    options.padding = _padding(op.pad, same_pads(graph, node), node)
    options.filterHeight, options.filterWidth = op.kernel
    options.strideH, options.strideW = op.stride
    best = op.function == "max"
    builtin = fb.BuiltinOperator.MAX_POOL_2D if best else fb.BuiltinOperator.AVERAGE_POOL_2D
    return Written(builtin, _two_if_int8(graph, node), options)


def _global_mean(graph: Graph, node: Node) -> Written:
    options = fb.ReducerOptionsT()
    options.keepDims = True
    axes = np.array([1, 2], np.int32)
    version = _two_if_int8(graph, node)
    return Written(fb.BuiltinOperator.MEAN, version, options, extra=[("axes", axes)])


def _resize(graph: Graph, node: Node) -> Written:
    op = node.op
    assert isinstance(op, ops.Resize)
    bilinear = op.mode == "bilinear"
    options = fb.ResizeBilinearOptionsT() if bilinear else fb.ResizeNearestNeighborOptionsT()
    options.alignCorners = op.align_corners
    # torch's nearest takes floor(index * ratio), which is the one without half-pixel centres.
    options.halfPixelCenters = bilinear and not op.align_corners
    version = 3 if options.halfPixelCenters else _two_if_int8(graph, node)
    builtin = fb.BuiltinOperator.RESIZE_BILINEAR
    if not bilinear:
        builtin = fb.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR
    size = np.array(op.size, np.int32)
    return Written(builtin, version, options, extra=[("size", size)])


def _softmax(graph: Graph, node: Node) -> Written:
    options = fb.SoftmaxOptionsT()
    options.beta = 1.0
    return Written(fb.BuiltinOperator.SOFTMAX, _two_if_int8(graph, node), options)


def _argmax(graph: Graph, node: Node) -> Written:
    options = fb.ArgMaxOptionsT()
    options.outputType = fb.TensorType.INT32
    version = _two_if_int8(graph, node)
    axis = np.array(3, np.int32)
    return Written(fb.BuiltinOperator.ARG_MAX, version, options, extra=[("axis", axis)])


def _quantize(graph: Graph, node: Node) -> Written:
    version = _two_if_int8(graph, node)
    return Written(fb.BuiltinOperator.QUANTIZE, version, fb.QuantizeOptionsT())


def _dequantize(graph: Graph, node: Node) -> Written:
    version = {"uint8": 1, "int8": 2, "float16": 3}[graph[node.inputs[0]].dtype]
    return Written(fb.BuiltinOperator.DEQUANTIZE, version, fb.DequantizeOptionsT())


Writer = Callable[[Graph, Node], Written]

WRITERS: dict[type[ops.Op], Writer] = {
    ops.Conv2d: _conv,
    ops.ConvTranspose2d: _deconv,
    ops.Activation: _activation,
    ops.LeakyRelu: _leaky_relu,
    ops.PRelu: lambda *_: Written(fb.BuiltinOperator.PRELU),
    ops.Neg: lambda *_: Written(fb.BuiltinOperator.NEG, 1, fb.NegOptionsT()),
    ops.Add: _sum_or_product(fb.BuiltinOperator.ADD, fb.AddOptionsT),
    ops.Mul: _sum_or_product(fb.BuiltinOperator.MUL, fb.MulOptionsT),
    ops.Concat: _concat,
    ops.Pad: _pad,
    ops.Crop: _crop,
    ops.DepthToSpace: _depth_to_space,
    ops.Pool: _pool,
    ops.GlobalMean: _global_mean,
    ops.Resize: _resize,
    ops.Softmax: _softmax,
    ops.ArgMax: _argmax,
    ops.Quantize: _quantize,
    ops.Dequantize: _dequantize,
}
