"""Each operator as TFLite says it: builtin code, version, options, constants only the file needs.

Source: tensorflow/lite/schema/schema.fbs (v3a); operator versions from
tensorflow/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ai_edge_litert.schema_py_generated as fb
import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Array, Graph, Node
from mobileseg.graph.passes import same_cut, same_pads

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


def is_depthwise(graph: Graph, node: Node) -> bool:
    """Whether the node is written as DEPTHWISE_CONV_2D, weights `(1, h, w, O)`."""
    return isinstance(node.op, ops.Conv2d) and node.op.is_depthwise(graph.shapes(node))


def _is_int8(graph: Graph, node: Node) -> bool:
    return graph[node.inputs[0]].dtype in {"int8", "uint8"}


def _is_int16(graph: Graph, node: Node) -> bool:
    return graph[node.inputs[0]].dtype == "int16"


def _two_if_int8(graph: Graph, node: Node) -> int:
    """Return the version of an operator whose second one knows int8, and whose third int16."""
    return 3 if _is_int16(graph, node) else 2 if _is_int8(graph, node) else 1


def _conv(graph: Graph, node: Node) -> Written:
    op = node.op
    assert isinstance(op, ops.Conv2d)
    depthwise = is_depthwise(graph, node)
    options = fb.DepthwiseConv2DOptionsT() if depthwise else fb.Conv2DOptionsT()
    options.padding = _padding(op.pad, same_pads(graph, node), node)
    options.strideH, options.strideW = op.stride
    options.dilationHFactor, options.dilationWFactor = op.dilation
    options.fusedActivationFunction = _FUSED[op.activation]
    dilated = op.dilation != (1, 1)
    if depthwise:
        options.depthMultiplier = graph[node.inputs[1]].shape[0] // op.groups
        version = 3 if _is_int8(graph, node) else 2 if dilated else 1
        version = 5 if _is_int16(graph, node) else version
        return Written(fb.BuiltinOperator.DEPTHWISE_CONV_2D, version, options)
    version = 4 if _is_int16(graph, node) else 3 if _is_int8(graph, node) else 1
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
        "rsqrt": fb.BuiltinOperator.RSQRT,
    }.get(op.function)
    if builtin is None:
        raise MobilesegError(f"{node.layer}: TFLite has no {op.function}; run FOR_TFLITE")
    options = fb.HardSwishOptionsT() if op.function == "hard_swish" else None
    version = 1 if op.function == "hard_swish" else _two_if_int8(graph, node)
    return Written(builtin, version, options)


def _leaky_relu(graph: Graph, node: Node) -> Written:
    options = fb.LeakyReluOptionsT()
    options.alpha = node.op.slope  # type: ignore[attr-defined]
    version = 1 if graph[node.inputs[0]].dtype == "float32" else 2
    return Written(fb.BuiltinOperator.LEAKY_RELU, version, options)


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
    version = {"uint8": 1, "int8": 2, "float16": 3, "int16": 3}[graph[node.inputs[0]].dtype]
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
