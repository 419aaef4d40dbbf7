"""TFLite's operators as the graph's: one handler each, and what only computes shapes.

Source: tensorflow/lite/schema/schema.fbs (v3a), kernels' headers in tensorflow/lite/kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Array, QuantParams
from mobileseg.reading.flat import Table
from mobileseg.reading.shapes import SMALL, crop_of, same_pads
from mobileseg.reading.sketch import Act, Const, Fused, RefusedError, Value

if TYPE_CHECKING:
    from mobileseg.reading.tflite import File

_FUSED: dict[int, Fused] = {0: "none", 1: "relu", 3: "relu6"}
_SAME, _VALID = 0, 1
_SHAPES = np.dtype(np.int64)
Made: TypeAlias = tuple[Array, QuantParams | None]


@dataclass(frozen=True)
class Call:
    """One operator of the file, its tensors by their indices, and the means to answer."""

    file: File
    kind: str
    options: Table | None
    inputs: Sequence[int]
    outputs: Sequence[int]
    layer: str

    def option(self, field: int, code: str = "i", default: Any = 0) -> Any:
        """Return a scalar of the operator's options."""
        return default if self.options is None else self.options.number(field, code, default)

    def fused(self, field: int) -> Fused:
        """Return the activation that the operator ends with."""
        code = self.option(field, "b")
        if code not in _FUSED:
            raise RefusedError(f"fused activation {code}")
        return _FUSED[code]

    def pair(self, fields: tuple[int, int], default: int = 0) -> ops.Pair:
        """Return a height and a width from the options. Raises MobilesegError below 1."""
        high, wide = (int(self.option(field, "i", default)) for field in fields)
        if high < 1 or wide < 1:
            raise self.damaged(f"a stride, dilation or window of {high}x{wide}")
        return high, wide

    def damaged(self, what: str) -> Exception:
        """Return the error for an operator that contradicts itself."""
        return self.file.buffer.damaged(f"{self.layer}: {self.kind}: {what}")

    def value(self, position: int) -> Value:
        """Return an input. Raises MobilesegError where the operator has too few."""
        if position >= len(self.inputs) or self.inputs[position] < 0:
            raise self.damaged(f"input {position} is missing")
        return self.file.value(self.inputs[position])

    def act(self, position: int = 0) -> Act:
        """Return an input that the network computes."""
        found = self.value(position)
        if not isinstance(found, Act):
            raise RefusedError(f"a constant as input {position}")
        return found

    def map(self, position: int = 0) -> str:
        """Return the graph's name of a picture `(N, H, W, C)`, or of a vector `(N, C)`."""
        found = self.act(position)
        shape = self.file.sketch.shape(found.name)
        kept = (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else ()
        if found.shape != kept and (found.shape != kept[:1] + kept[3:] or kept[1:3] != (1, 1)):
            raise RefusedError(f"tensors of {list(found.shape)}")
        return found.name

    def integers(self, position: int) -> list[int]:
        """Return a constant of a few integers: axes, sizes, paddings."""
        found = self.value(position)
        if not isinstance(found, Const) or found.data.dtype.kind not in "iu":
            raise RefusedError(f"input {position} not constant")
        if found.data.size > SMALL:
            raise self.damaged(f"{found.data.size} numbers where a few are due")
        return [int(n) for n in found.data.reshape(-1)]

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.inputs) and self.inputs[position] >= 0

    def emit(self, op: ops.Op, inputs: Sequence[str], function: Fused = "none") -> None:
        """Answer with a node, its activation in or behind it."""
        if len(self.outputs) != 1:
            raise RefusedError(f"{len(self.outputs)} outputs")
        index = self.outputs[0]
        declared, dtype = self.file.tensors[index], self.file.dtype(index)
        made = self.file.sketch.emit_fused(
            op, inputs, declared.name, self.layer, function, dtype, declared.quant
        )
        self.file.made(index, made)

    def weight(self, position: int, layout: str, make: Callable[[Array], Array], axis: int) -> str:
        """Return a convolution's weight in the graph's layout, `axis` its output channels."""
        if isinstance(self.value(position), Act):
            # Made by a Dequantize of a constant, which has had its layout from the start.
            return self.act(position).name

        def turned(data: Array, quant: QuantParams | None) -> Made:
            data = make(data)
            return data, _per_channel(data, quant, axis)

        name = self.file.constant(self.inputs[position], layout, turned)
        return self._as_real(name)

    def _as_real(self, weight: str) -> str:
        """Return int8 weights of a float convolution as reals, and say so."""
        given, sketch = self.act(_DATA.get(self.kind, 0)), self.file.sketch
        tensor = sketch.tensors[weight]
        inward = sketch.tensors[given.name].dtype
        if tensor.dtype not in {"int8", "uint8"} or inward != "float32":
            return weight
        sketch.note(f"{self.kind} with {tensor.dtype} weights is priced as float32 arithmetic")
        return sketch.emit(ops.Dequantize(), [weight], f"{weight}.real", self.layer)

    def bias(self, position: int) -> list[str]:
        """Return the name of a bias, if there is one."""
        if not self.has(position):
            return []
        if not isinstance(self.value(position), Const):
            raise RefusedError("a bias that is computed")

        def flat(data: Array, quant: QuantParams | None) -> Made:
            data = data.reshape(-1)
            return data, _per_channel(data, quant, 0)

        return [self.file.constant(self.inputs[position], "bias", flat)]

    def operand(self, position: int) -> str:
        """Return an input of an element-wise operator, constants broadcast as TFLite does."""
        if not isinstance(self.value(position), Const):
            return self.map(position)
        return self.file.constant(self.inputs[position], "operand", _operand)


def _per_channel(data: Array, quant: QuantParams | None, axis: int) -> QuantParams | None:
    """Return the scale of a convolution's constant, one per channel where it may be."""
    if quant is None or (quant.scale.size == 1 and data.shape[axis] > 1):
        return quant
    if quant.scale.size != data.shape[axis]:
        raise RefusedError(f"{quant.scale.size} scales for {data.shape[axis]} channels")
    return quant if quant.zero_point else QuantParams(quant.scale, 0, axis)


def _operand(data: Array, quant: QuantParams | None) -> Made:
    if data.ndim > 4 or (quant is not None and quant.axis is not None):
        raise RefusedError("such a constant")
    whole = data.reshape((1,) * (4 - data.ndim) + data.shape)
    return whole.transpose(0, 3, 1, 2), quant


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


def _pads(
    call: Call, x: str, kernel: tuple[int, ...], stride: ops.Pair, dilation: ops.Pair
) -> ops.Pads:
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
        stride, _pads(call, x, shape[2:], stride, dilation), dilation, channels // shape[1]
    )
    call.emit(op, [x, weight, *call.bias(2)], call.fused(3))


def _depthwise(call: Call) -> None:
    x, weight = call.map(), call.weight(1, "rotated", _rotated, 0)
    shape, channels = call.file.sketch.shape(weight), call.file.sketch.shape(call.act().name)[1]
    stride, dilation = call.pair((2, 1)), call.pair((6, 5), 1)
    pads = _pads(call, x, shape[2:], stride, dilation)
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


def _binary(make: type[ops.Add] | type[ops.Mul]) -> Handler:
    def handle(call: Call) -> None:
        # A constant stands second in the graph: both operators allow it.
        order = (1, 0) if isinstance(call.value(0), Const) else (0, 1)
        call.emit(make(), [call.operand(i) for i in order], call.fused(0))

    return handle


def _with_constant(make: type[ops.Add] | type[ops.Mul], turn: Callable[[Array], Array]) -> Handler:
    """A difference or quotient with a float constant is a sum or product with another."""

    def handle(call: Call) -> None:
        second = call.value(1)
        if not isinstance(second, Const) or second.data.dtype != np.float32:
            raise RefusedError("two computed inputs")

        def turned(data: Array, quant: QuantParams | None) -> Made:
            return turn(_operand(data, quant)[0]), quant

        name = call.file.constant(call.inputs[1], call.kind, turned)
        call.emit(make(), [call.map(), name], call.fused(0))

    return handle


def _concat(call: Call) -> None:
    axis, rank = call.option(0), len(call.file.tensors[call.outputs[0]].shape)
    if axis not in {-1, rank - 1}:
        raise RefusedError(f"axis {axis}")
    names = [call.operand(i) for i in range(len(call.inputs))]
    call.emit(ops.Concat(), names, call.fused(1))


def _pad(call: Call) -> None:
    x, table = call.map(), call.integers(1)
    if len(table) != 8 or min(table) < 0:
        raise RefusedError(f"paddings {table}")
    if any(table[:2]) or any(table[6:]):
        raise RefusedError("padded channels")
    if call.has(2):
        value = call.value(2)
        quant = call.file.tensors[call.inputs[0]].quant
        zero = 0 if quant is None else quant.zero_point
        if (
            not isinstance(value, Const)
            or value.data.size != 1
            or value.data.reshape(-1)[0] != zero
        ):
            raise RefusedError("another value than zero")
    call.emit(ops.Pad((table[2], table[4], table[3], table[5])), [x])


def _slice(call: Call) -> None:
    found = call.act()
    begin, size = call.integers(1), call.integers(2)
    if len(begin) != len(size) or len(begin) != len(found.shape):
        raise call.damaged(f"begin {begin} and size {size}")
    sides = zip(begin, size, found.shape, strict=True)
    ends = [whole if wide == -1 else start + wide for start, wide, whole in sides]
    _window(call, begin, ends)


def _strided_slice(call: Call) -> None:
    begin, end, strides = (call.integers(i) for i in (1, 2, 3))
    shape = call.act().shape
    if any(call.option(field) for field in (2, 3, 4)) or set(strides) != {1}:
        raise RefusedError("strides or new axes")
    if not len(begin) == len(end) == len(shape):
        raise RefusedError("fewer axes than its input")
    masks = call.option(0), call.option(1)
    starts = [0 if masks[0] >> i & 1 else _within(n, shape[i]) for i, n in enumerate(begin)]
    ends = [shape[i] if masks[1] >> i & 1 else _within(n, shape[i]) for i, n in enumerate(end)]
    _window(call, starts, ends)


def _within(position: int, size: int) -> int:
    return max(0, min(position + size if position < 0 else position, size))


def _window(call: Call, starts: Sequence[int], ends: Sequence[int]) -> None:
    x = call.map()
    n, h, w, c = (*call.act().shape, 0, 0)[:4]
    if len(starts) != 4 or (starts[0], starts[3], ends[0], ends[3]) != (0, 0, n, c):
        raise RefusedError("a part of the channels")
    call.emit(crop_of((starts[1], starts[2]), (ends[1], ends[2]), (h, w), call.damaged), [x])


def _pool(function: Any) -> Handler:
    def handle(call: Call) -> None:
        x, stride, kernel = call.map(), call.pair((2, 1)), call.pair((4, 3))
        pads = _pads(call, x, kernel, stride, (1, 1))
        call.emit(ops.Pool(function, kernel, stride, pads), [x], call.fused(5))

    return handle


def _mean(call: Call) -> None:
    axes, rank = call.integers(1), len(call.act().shape)
    if rank != 4 or sorted(axis % rank for axis in axes) != [1, 2]:
        raise RefusedError(f"axes {axes}")
    call.emit(ops.GlobalMean(), [call.map()])


def _resize(mode: Any, corners: int, centers: int) -> Handler:
    """Positions are the field numbers of align_corners and half_pixel_centers."""

    def handle(call: Call) -> None:
        x, size = call.map(), call.integers(1)
        if len(size) != 2:
            raise call.damaged(f"a size of {size}")
        aligned = bool(call.option(corners, "?", False))
        centred = bool(call.option(centers, "?", False))
        if mode == "bilinear" and not aligned and not centred:
            call.file.sketch.note(
                "RESIZE_BILINEAR without half-pixel centres is priced as one with them"
            )
        if mode == "nearest" and (aligned or (centred and not _divides(call, x, size))):
            call.file.sketch.note("RESIZE_NEAREST_NEIGHBOR is priced as one without corners")
        op = ops.Resize((size[0], size[1]), mode, aligned and mode == "bilinear")
        call.emit(op, [x])

    return handle


def _divides(call: Call, x: str, size: Sequence[int]) -> bool:
    given = call.file.sketch.shape(x)[2:]
    return all(out % n == 0 for out, n in zip(size, given, strict=True))


def _depth_to_space(call: Call) -> None:
    block = call.option(0)
    if block < 1:
        raise call.damaged(f"a block of {block}")
    call.emit(ops.DepthToSpace(block), [call.map()])


def _softmax(call: Call) -> None:
    if call.option(0, "f", 0.0) != 1.0:
        call.file.sketch.note("SOFTMAX with another beta than 1 is priced as one with 1")
    call.emit(ops.Softmax(), [call.map()])


def _argmax(call: Call) -> None:
    axes, rank = call.integers(1), len(call.act().shape)
    if len(axes) != 1 or axes[0] not in {-1, rank - 1}:
        raise RefusedError(f"axis {axes}")
    call.emit(ops.ArgMax(), [call.map()])


def _reshape(call: Call) -> None:
    """Nothing in the graph where only ones come and go, or where a map is made flat."""
    found, index = call.act(), call.outputs[0]
    shape = call.file.tensors[index].shape
    n, c, h, w = call.file.sketch.shape(found.name)
    vector = (h, w) == (1, 1) and [i for i in shape if i != 1] in ([c], [])
    flat = shape == (n, c * h * w)
    if shape != found.shape and prod(shape) != prod(found.shape):
        raise call.damaged(f"{list(found.shape)} to {list(shape)}")
    last = shape[-1:] == (c,)
    if shape != found.shape and not flat and not (vector and last):
        raise RefusedError(f"{list(found.shape)} to {list(shape)}")
    call.file.values[index] = Act(found.name, shape)


def _dequantize(call: Call) -> None:
    index = call.inputs[0] if call.inputs else -1
    if not isinstance(call.value(0), Const):
        call.emit(ops.Dequantize(), [call.map()])
        return
    role = call.file.roles.get(index, "operand")
    layouts: Mapping[str, Callable[[Array], Array]] = {
        "conv": _channels_first,
        "rotated": _rotated,
        "full": lambda data: data.reshape(*data.shape, 1, 1),
        "bias": lambda data: data.reshape(-1),
        "operand": lambda data: _operand(data, None)[0],
    }

    def turned(data: Array, quant: QuantParams | None) -> Made:
        return layouts[role](data), None if quant is None else QuantParams(quant.scale)

    name = call.file.constant(index, f"{role} of DEQUANTIZE", turned)
    declared = call.file.tensors[call.outputs[0]]
    made = call.file.sketch.emit(ops.Dequantize(), [name], declared.name, call.layer)
    call.file.values[call.outputs[0]] = Act(made, declared.shape)


def _activation(function: Any) -> Handler:
    return lambda call: call.emit(ops.Activation(function), [call.map()])


def _unary(op: ops.Op) -> Handler:
    return lambda call: call.emit(op, [call.map()])


def fold(call: Call, given: Sequence[Value]) -> Array | None:
    """Return what a shape computation comes to; None where it depends on the picture."""
    if call.kind == "SHAPE":
        return np.array(given[0].shape, _SHAPES) if isinstance(given[0], Act) else None
    data = [each.data for each in given if isinstance(each, Const)]
    whole = len(data) == len(given) and all(each.dtype.kind in "iu" for each in data)
    if not whole or sum(each.size for each in data) > SMALL:
        return None
    try:
        made: Array = FOLDS[call.kind](call, [each.astype(_SHAPES) for each in data])
    except (ValueError, IndexError, TypeError) as error:
        raise call.damaged(str(error)) from None
    return made


def _fold_slice(call: Call, data: list[Array]) -> Array:
    given, begin, end, strides = data
    masks, shrink = (call.option(0), call.option(1)), call.option(4)
    if given.ndim != 1 or call.option(2) or call.option(3):
        raise RefusedError("constants of several axes")
    if shrink & 1:
        return np.asarray(given[int(begin[0])])
    first = None if masks[0] & 1 else int(begin[0])
    last = None if masks[1] & 1 else int(end[0])
    part: Array = given[slice(first, last, int(strides[0]))]
    return part


Handler: TypeAlias = Callable[[Call], None]

HANDLERS: dict[str, Handler] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _deconv,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _binary(ops.Add),
    "MUL": _binary(ops.Mul),
    "SUB": _with_constant(ops.Add, lambda data: -data),
    "DIV": _with_constant(ops.Mul, lambda data: 1 / data),
    "CONCATENATION": _concat,
    "PAD": _pad,
    "PADV2": _pad,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "DEPTH_TO_SPACE": _depth_to_space,
    "MAX_POOL_2D": _pool("max"),
    "AVERAGE_POOL_2D": _pool("mean"),
    "MEAN": _mean,
    "RESIZE_BILINEAR": _resize("bilinear", 2, 3),
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest", 0, 1),
    "RELU": _activation("relu"),
    "RELU6": _activation("relu6"),
    "LOGISTIC": _activation("sigmoid"),
    "HARD_SWISH": _activation("hard_swish"),
    "NEG": _unary(ops.Neg()),
    "SOFTMAX": _softmax,
    "ARG_MAX": _argmax,
    "QUANTIZE": _unary(ops.Quantize()),
    "DEQUANTIZE": _dequantize,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
}

FOLDS: dict[str, Callable[[Call, list[Array]], Array]] = {
    "SHAPE": lambda _call, data: data[0],
    "PACK": lambda _call, data: np.stack([each.reshape(()) for each in data]),
    "CONCATENATION": lambda _call, data: np.concatenate([each.reshape(-1) for each in data]),
    "STRIDED_SLICE": _fold_slice,
    "GATHER": lambda _call, data: data[0].reshape(-1)[data[1]],
    "ADD": lambda _call, data: data[0] + data[1],
    "SUB": lambda _call, data: data[0] - data[1],
    "MUL": lambda _call, data: data[0] * data[1],
    "CAST": lambda _call, data: data[0],
}

# The options that a kind's handler reads; a file with others is damaged.
OPTIONS: dict[str, str] = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "MUL": "MulOptions",
    "SUB": "SubOptions",
    "DIV": "DivOptions",
    "CONCATENATION": "ConcatenationOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
}

# Where an operator has its weights, and which way they are turned.
WEIGHTS: dict[str, tuple[int, str]] = {
    "CONV_2D": (1, "conv"),
    "DEPTHWISE_CONV_2D": (1, "rotated"),
    "TRANSPOSE_CONV": (1, "rotated"),
    "FULLY_CONNECTED": (1, "full"),
}
_DATA = {"TRANSPOSE_CONV": 2}
