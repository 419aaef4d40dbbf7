"""ONNX's convolutions, and what changes the filters of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Array, Node
from mobileseg.reading.onnx.call import Call, Handler
from mobileseg.reading.sketch import Act, RefusedError, printable

_CONVS = (ops.Conv2d, ops.ConvTranspose2d)


def _weight(call: Call, position: int, axis: int) -> str:
    given = call.constant(position)
    if given.data.ndim != 4:
        raise RefusedError(f"weights of {given.data.ndim} axes")
    return call.stored(given, given.data, axis)


def _bias(call: Call, position: int) -> list[str]:
    if not call.has(position):
        return []
    given = call.constant(position)
    return [call.stored(given, given.data.reshape(-1), 0)]


def _conv(call: Call) -> Act:
    x, weight = call.map(), _weight(call, 1, 0)
    shape, size = call.file.sketch.shape(weight), call.file.sketch.shape(x)[2:]
    stride, dilation = call.pair("strides"), call.pair("dilations")
    groups = call.integer("group", 1)
    if groups < 1:
        raise call.damaged(f"{groups} groups")
    op = ops.Conv2d(stride, call.pads(size, shape[2:], stride, dilation), dilation, groups)
    return call.emit(op, [x, weight, *_bias(call, 2)])


def _deconv(call: Call) -> Act:
    x, weight = call.map(), _weight(call, 1, 1)
    kernel, size = call.file.sketch.shape(weight)[2:], call.file.sketch.shape(x)[2:]
    if call.integer("group", 1) != 1 or call.pair("dilations") != (1, 1):
        raise RefusedError("groups or dilation")
    stride = call.pair("strides")
    extra = call.integers("output_padding") or [0, 0]
    if len(extra) != 2 or min(extra) < 0:
        raise call.damaged(f"output_padding {extra}")
    wanted = call.integers("output_shape")
    auto = call.text("auto_pad", "NOTSET")
    if auto in {"SAME_UPPER", "SAME_LOWER"} and not wanted:
        wanted = [n * step for n, step in zip(size, stride, strict=True)]
    if not wanted:
        pad = call.pads(size, kernel, stride)
        op = ops.ConvTranspose2d(stride, pad, (extra[0], extra[1]))
        return call.emit(op, [x, weight, *_bias(call, 2)])
    cuts = []
    for n, k, step, more, out in zip(size, kernel, stride, extra, wanted[-2:], strict=True):
        over = (n - 1) * step + k + more - out
        if over < 0:
            raise RefusedError(f"output_shape {wanted}")
        small, large = over // 2, over - over // 2
        cuts.append((small, large) if auto == "SAME_UPPER" else (large, small))
    pad = (cuts[0][0], cuts[1][0], cuts[0][1], cuts[1][1])
    op = ops.ConvTranspose2d(stride, pad, (extra[0], extra[1]))
    return call.emit(op, [x, weight, *_bias(call, 2)])


def _batch_norm(call: Call) -> Act:
    """Fold into the convolution before, in float64, or multiply and add."""
    if call.integer("training_mode", 0) or len(call.outputs) > 1:
        raise RefusedError("training mode")
    x = call.map()
    channels = call.file.sketch.shape(x)[1]
    parts = [call.constant(i) for i in range(1, 5)]
    if any(each.quant is not None or each.data.shape != (channels,) for each in parts):
        raise call.damaged(f"statistics that are not {channels} reals")
    gamma, beta, mean, variance = (each.data.astype(np.float64) for each in parts)
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(variance + call.real("epsilon", 1e-5))
    place = call.sole_maker()
    if place is not None and _scale_filters(call, place, factor, beta - mean * factor):
        return call.like(Act(x, call.file.sketch.shape(x)))
    along = (1, channels, 1, 1)
    sketch = call.file.sketch
    scale = sketch.constant(f"{call.layer}.scale", factor.astype(np.float32).reshape(along))
    shift = sketch.constant(
        f"{call.layer}.shift", (beta - mean * factor).astype(np.float32).reshape(along)
    )
    scaled = call.emit(ops.Mul(), [x, scale], ".scaled")
    return call.like(call.emit(ops.Add(), [scaled.name, shift]))


def _scale_filters(call: Call, place: int, factor: Array, shift: Array) -> bool:
    """Give a convolution's output channels a factor and a shift; False where it cannot be done."""
    sketch = call.file.sketch
    node = sketch.nodes[place]
    if not isinstance(node.op, _CONVS):
        return False
    weight = sketch.tensors[node.inputs[1]].data
    bias = sketch.tensors[node.inputs[2]].data if len(node.inputs) > 2 else np.zeros_like(shift)
    if weight is None or bias is None:
        return False
    axis = 1 if isinstance(node.op, ops.ConvTranspose2d) else 0
    along = [1] * 4
    along[axis] = -1
    scaled = (weight * factor.reshape(along)).astype(np.float32)
    _replace(call, place, node, scaled, (bias * factor + shift).astype(np.float32))
    return True


def _replace(call: Call, place: int, node: Node, weight: Array, bias: Array) -> None:
    sketch = call.file.sketch
    names = (
        sketch.constant(f"{node.inputs[1]}.folded", weight),
        sketch.constant(f"{node.output}.bias", bias),
    )
    sketch.nodes[place] = replace(node, inputs=(node.inputs[0], *names))


def _depth_to_space(call: Call) -> Act:
    """The order of channels is TFLite's in mode DCR; CRD turns the filters before it round."""
    block, x = call.integer("blocksize", 0), call.map()
    if block < 1:
        raise call.damaged(f"a block of {block}")
    mode = call.text("mode", "DCR")
    if mode == "CRD":
        _turn_filters(call, block)
    elif mode != "DCR":
        raise RefusedError(f"mode {printable(mode)}")
    return call.emit(ops.DepthToSpace(block), [x])


def _turn_filters(call: Call, block: int) -> None:
    """Reorder the output channels of the convolution before: c, i, j to i, j, c."""
    sketch, place = call.file.sketch, call.sole_maker()
    node = None if place is None else sketch.nodes[place]
    if place is None or node is None or not isinstance(node.op, ops.Conv2d) or node.op.groups > 1:
        raise RefusedError("mode CRD behind anything but a convolution of one group")
    weight = sketch.tensors[node.inputs[1]].data
    biases = [sketch.tensors[name].data for name in node.inputs[2:]]
    if weight is None or None in [None if b is None else 0 for b in biases]:
        raise RefusedError("mode CRD behind quantized weights")
    channels = weight.shape[0]
    if channels % block**2:
        raise call.damaged(f"{channels} channels in blocks of {block}")
    order = np.arange(channels).reshape(-1, block, block).transpose(1, 2, 0).reshape(-1)
    bias = biases[0] if biases else None
    turned = np.zeros(channels, np.float32) if bias is None else bias[order]
    _replace(call, place, node, weight[order], turned)


def _gemm(call: Call) -> Act:
    """A 1x1 convolution; behind a flattened map one with a kernel of the map's size."""
    if call.integer("transA", 0):
        raise RefusedError("a turned input")
    given, weight = call.act(), call.constant(1)
    n, c, h, w = call.file.sketch.shape(given.name)
    turned = bool(call.integer("transB", 0))
    data = weight.data if turned else weight.data.T
    if data.ndim != 2 or data.shape[1] != c * h * w or given.shape != (n, c * h * w):
        raise RefusedError(f"weights {list(weight.data.shape)} for {list(given.shape)}")
    alpha = np.float32(call.real("alpha", 1.0))
    if alpha != 1 and weight.quant is not None:
        raise RefusedError("a factor on quantized weights")
    if alpha != 1:
        data = data * alpha
    name = call.stored(weight, data.reshape(-1, c, h, w), 0)
    bias = []
    if call.has(2):
        beta, added = np.float32(call.real("beta", 1.0)), call.constant(2)
        if added.quant is not None and beta != 1:
            raise RefusedError("a factor on a quantized bias")
        flat = added.data.reshape(-1)
        flat = np.full(data.shape[0], flat[0]) if flat.size == 1 else flat
        if flat.shape != data.shape[:1]:
            raise RefusedError(f"a bias of {list(added.data.shape)}")
        bias = [call.stored(added, flat if beta == 1 else flat * beta, 0)]
    made = call.emit(ops.Conv2d(), [given.name, name, *bias])
    return Act(made.name, made.shape[:2])


CONVOLUTIONS: Mapping[str, Handler] = {
    "Conv": _conv,
    "ConvTranspose": _deconv,
    "BatchNormalization": _batch_norm,
    "DepthToSpace": _depth_to_space,
    "Gemm": _gemm,
    "MatMul": _gemm,
}
