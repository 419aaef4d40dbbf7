"""TFLite's convolutions: weights turned to the graph's layout, SAME as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from mobileseg.graph import ops
from mobileseg.graph.ir import Array, QuantParams
from mobileseg.reading.shapes import same_pads
from mobileseg.reading.sketch import Act, RefusedError
from mobileseg.reading.tflite.call import Call, Handler, Made, operand_of, per_channel

_SAME = 0


_VALID = 1


def _channels_first(data: Array) -> Array:
    """`(O, h, w, I)` to `(O, I, h, w)`."""
    if data.ndim != 4:
        raise RefusedError(f"weights of {data.ndim} axes")
    return data.transpose(0, 3, 1, 2)


def _rotated(data: Array) -> Array:
    """`(1, h, w, O)` to `(O, 1, h, w)`; `(O, h, w, I)` to `(I, O, h, w)`."""
    if data.ndim != 4:
        raise RefusedError(f"weights of {data.ndim} axes")
    return data.transpose(3, 0, 1, 2)


def pads_of(
    call: Call, x: str, kernel: tuple[int, ...], stride: ops.Pair, dilation: ops.Pair
) -> ops.Pads:
    """Return what the operator's padding, in the first field of its options, comes to."""
    padding = call.option(0, "b")
    if padding == _VALID:
        return ops.NO_PAD
    if padding != _SAME:
        raise call.damaged(f"padding {padding}")
    return same_pads(call.file.sketch.shape(x)[2:], kernel, stride, dilation)


def _conv(call: Call) -> None:
    x, weight = call.map(), call.weight(1, "conv", _channels_first, 0)
    shape = call.file.sketch.shape(weight)
    stride, dilation = call.pair((2, 1)), call.pair((5, 4), 1)
    channels = call.file.sketch.shape(x)[1]
    if channels % shape[1]:
        raise call.damaged(f"weights {list(shape)} for {channels} channels")
    op = ops.Conv2d(
        stride, pads_of(call, x, shape[2:], stride, dilation), dilation, channels // shape[1]
    )
    call.emit(op, [x, weight, *call.bias(2)], call.fused(3))


def _depthwise(call: Call) -> None:
    x, weight = call.map(), call.weight(1, "rotated", _rotated, 0)
    shape, channels = call.file.sketch.shape(weight), call.file.sketch.shape(call.act().name)[1]
    stride, dilation = call.pair((2, 1)), call.pair((6, 5), 1)
    pads = pads_of(call, x, shape[2:], stride, dilation)
    call.emit(
        ops.Conv2d(stride, pads, dilation, channels), [x, weight, *call.bias(2)], call.fused(4)
    )


def _deconv(call: Call) -> None:
    """SAME and VALID both follow from the size of the output, which may be any near them."""
    x, weight = call.map(2), call.weight(1, "rotated", _rotated, 1)
    stride = call.pair((2, 1))
    kernel = call.file.sketch.shape(weight)[2:]
    wanted = call.integers(0)
    if len(wanted) != 4:
        raise call.damaged(f"an output of {wanted}")
    same = call.option(0, "b") == _SAME
    cuts, extra = [], []
    sides = zip(call.file.sketch.shape(x)[2:], kernel, stride, wanted[1:3], strict=True)
    for size, k, step, out in sides:
        over = (size - 1) * step + k - out
        before = max(over, 0) // 2 if same else 0
        cuts.append((before, max(over, 0) - before))
        extra.append(max(-over, 0))
    pad = (cuts[0][0], cuts[1][0], cuts[0][1], cuts[1][1])
    op = ops.ConvTranspose2d(stride, pad, (extra[0], extra[1]))
    call.emit(op, [x, weight, *call.bias(3)], call.fused(3))


def _fully_connected(call: Call) -> None:
    """A 1x1 convolution; behind a flattened map one with a kernel of the map's size."""
    if call.option(1, "b"):
        raise RefusedError("shuffled weights")
    found = call.act()
    n, c, h, w = call.file.sketch.shape(found.name)
    if prod(found.shape[:-1]) != n:
        raise RefusedError(f"tensors of {list(found.shape)}")

    def spread(data: Array) -> Array:
        if data.ndim != 2 or data.shape[1] != c * h * w:
            raise RefusedError(f"weights {list(data.shape)} for {c * h * w} inputs")
        return data.reshape(-1, h, w, c).transpose(0, 3, 1, 2)

    if isinstance(call.value(1), Act) and (h, w) != (1, 1):
        raise RefusedError("float16 weights behind a flattened map")
    weight = call.weight(1, f"full {h}x{w}", spread, 0)
    call.emit(ops.Conv2d(), [found.name, weight, *call.bias(2)], call.fused(0))


def _turn(make: Callable[[Array], Array], axis: int) -> Callable[[Array, QuantParams | None], Made]:
    def turned(data: Array, quant: QuantParams | None) -> Made:
        data = make(data)
        return data, per_channel(data, quant, axis)

    return turned


def _full(data: Array) -> Array:
    if data.ndim != 2:
        raise RefusedError(f"weights of {data.ndim} axes")
    return data.reshape(*data.shape, 1, 1)


# What a DEQUANTIZE of a constant reads, by what its reader takes it for.
LAYOUTS: Mapping[str, Callable[[Array, QuantParams | None], Made]] = {
    "conv": _turn(_channels_first, 0),
    "depthwise": _turn(_rotated, 0),
    "transposed": _turn(_rotated, 1),
    "full": _turn(_full, 0),
    "bias": _turn(lambda data: data.reshape(-1), 0),
    "operand": operand_of,
}

# Where an operator has its weights and its bias, and which way they are turned.
WEIGHTS: Mapping[str, Mapping[int, str]] = {
    "CONV_2D": {1: "conv", 2: "bias"},
    "DEPTHWISE_CONV_2D": {1: "depthwise", 2: "bias"},
    "TRANSPOSE_CONV": {1: "transposed", 3: "bias"},
    "FULLY_CONNECTED": {1: "full", 2: "bias"},
}


CONVOLUTIONS: Mapping[str, Handler] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _deconv,
    "FULLY_CONNECTED": _fully_connected,
}
