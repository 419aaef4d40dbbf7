"""ONNX's operators as the graph's: one handler each, answering with what the operator makes.

Source: onnx.ai, operator schemas; older forms (attributes that became inputs) included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Array, DType, Node, QuantParams
from mobileseg.reading.shapes import SMALL, crop_of, same_pads
from mobileseg.reading.sketch import Act, Const, RefusedError, Value

if TYPE_CHECKING:
    from mobileseg.reading.onnx import File

_CONVS = (ops.Conv2d, ops.ConvTranspose2d)
_STEPS: Mapping[str, DType] = {"int8": "int8", "uint8": "uint8", "int32": "int32"}
_FLOAT = 1
_INTEGERS = frozenset({6, 7})


@dataclass(frozen=True)
class Call:
    """One operator of the file, its inputs' values (None: left out), and the means to answer."""

    file: File
    node: Any
    kind: str
    layer: str
    given: Sequence[Value | None]

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The operator's attributes by name."""
        return {each.name: each for each in self.node.attribute}

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self.attributes[name].i) if name in self.attributes else default

    def real(self, name: str, default: float) -> float:
        """Return a float attribute."""
        return float(self.attributes[name].f) if name in self.attributes else default

    def text(self, name: str, default: str) -> str:
        """Return a text attribute."""
        found = self.attributes.get(name)
        return default if found is None else found.s.decode(errors="replace")

    def integers(self, name: str) -> list[int]:
        """Return a list attribute, empty where it is absent."""
        return [int(n) for n in self.attributes[name].ints] if name in self.attributes else []

    def pair(self, name: str, default: int = 1) -> ops.Pair:
        """Return a height and a width. Raises MobilesegError below 1."""
        found = self.integers(name) or [default, default]
        if len(found) != 2:
            raise RefusedError(f"{name} {found}")
        if min(found) < 1:
            raise self.damaged(f"{name} {found}")
        return found[0], found[1]

    def damaged(self, what: str) -> Exception:
        """Return the error for an operator that contradicts itself."""
        return self.file.sketch.fail(
            f"{self.layer}: {self.kind}: {what}; the file is damaged, export it again"
        )

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.given) and self.given[position] is not None

    def value(self, position: int) -> Value:
        """Return an input. Raises MobilesegError where the operator has too few."""
        found = self.given[position] if position < len(self.given) else None
        if found is None:
            raise self.damaged(f"input {position} is missing")
        return found

    def act(self, position: int = 0) -> Act:
        """Return an input that the network computes."""
        found = self.value(position)
        if not isinstance(found, Act):
            raise RefusedError(f"a constant as input {position}")
        return found

    def map(self, position: int = 0) -> str:
        """Return the graph's name of a picture `(N, C, H, W)`, or of a vector `(N, C)`."""
        found = self.act(position)
        shape = self.file.sketch.shape(found.name)
        if found.shape != shape and (found.shape != shape[:2] or shape[2:] != (1, 1)):
            raise RefusedError(f"tensors of {list(found.shape)}")
        return found.name

    def constant(self, position: int) -> Const:
        """Return an input that stands in the file."""
        found = self.value(position)
        if not isinstance(found, Const):
            raise RefusedError(f"input {position} not constant")
        return found

    def numbers(self, position: int, name: str) -> list[int] | None:
        """Return a few integers: an input, in older files the attribute `name`, or None."""
        if not self.has(position):
            return self.integers(name) if name in self.attributes else None
        data = self.constant(position).data
        if data.size > SMALL or data.dtype.kind not in "iu":
            raise self.damaged(f"{data.size} {data.dtype} numbers where a few integers are due")
        return [int(n) for n in data.reshape(-1)]

    def emit(self, op: ops.Op, inputs: Sequence[str], suffix: str = "") -> Act:
        """Append a node; return what it makes, shaped as in the graph."""
        sketch = self.file.sketch
        dtype: DType = "int32" if isinstance(op, ops.ArgMax) else "float32"
        name = sketch.emit(op, inputs, f"{self.node.output[0]}{suffix}", self.layer, dtype)
        return Act(name, sketch.shape(name))

    def like(self, made: Act, position: int = 0) -> Act:
        """Return the value with as many axes as an input has."""
        rank = len(self.act(position).shape)
        return Act(made.name, made.shape[:2]) if rank == 2 else made

    def stored(self, given: Const, data: Array, axis: int | None = None) -> str:
        """Return the name of a constant in the graph's layout: its real value, if it has steps."""
        sketch = self.file.sketch
        if given.quant is not None:
            quant = replace(given.quant, axis=axis) if given.quant.axis is not None else given.quant
            steps = sketch.constant(given.name, data, quant)
            return sketch.emit(ops.Dequantize(), [steps], f"{given.name}_real", self.layer)
        if data.dtype == np.float16:
            half = sketch.constant(given.name, data)
            return sketch.emit(ops.Dequantize(), [half], f"{given.name}_real", self.layer)
        if data.dtype != np.float32:
            raise RefusedError(f"constants of {data.dtype}")
        return sketch.constant(given.name, data)

    def operand(self, position: int) -> str:
        """Return an input of an element-wise operator, constants broadcast as ONNX does."""
        found = self.value(position)
        if isinstance(found, Const):
            return self.stored(found, self.broadcast(found.data))
        return self.map(position)

    def broadcast(self, data: Array) -> Array:
        """Return a constant with four axes, as it stands beside the other operand."""
        rank = max(len(each.shape) for each in self.given if isinstance(each, Act))
        if data.ndim > 4 or (data.ndim > 2 and rank == 2):
            raise RefusedError(f"a constant of {list(data.shape)}")
        whole = data.reshape((1,) * (rank - data.ndim) + data.shape)
        return whole.reshape(*whole.shape, 1, 1) if rank == 2 else whole

    def sole_maker(self, position: int = 0) -> int | None:
        """Return which node makes an input that nothing else reads."""
        if self.file.uses[self.node.input[position]] != 1:
            return None
        name = self.act(position).name
        places = range(len(self.file.sketch.nodes) - 1, -1, -1)
        return next((i for i in places if self.file.sketch.nodes[i].output == name), None)


def _pads(
    call: Call, size: Sequence[int], kernel: Sequence[int], stride: ops.Pair, dilation: ops.Pair
) -> ops.Pads:
    auto = call.text("auto_pad", "NOTSET")
    if auto in {"SAME_UPPER", "SAME_LOWER"}:
        top, left, bottom, right = same_pads(size, kernel, stride, dilation)
        return (top, left, bottom, right) if auto == "SAME_UPPER" else (bottom, right, top, left)
    if auto not in {"NOTSET", "VALID"}:
        raise RefusedError(f"auto_pad {printable_word(auto)}")
    pads = call.integers("pads") if auto == "NOTSET" else []
    found = pads or [0, 0, 0, 0]
    if len(found) != 4:
        raise RefusedError(f"pads {found}")
    if min(found) < 0:
        raise call.damaged(f"pads {found}")
    return (found[0], found[1], found[2], found[3])


def printable_word(text: str) -> str:
    """Return a word of the file as it may be shown."""
    return "".join(c if c.isprintable() else "?" for c in text[:50])


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
    op = ops.Conv2d(stride, _pads(call, size, shape[2:], stride, dilation), dilation, groups)
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
        pad = _pads(call, size, kernel, stride, (1, 1))
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
    if call.integer("training_mode", 0) or len([name for name in call.node.output if name]) > 1:
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


def _activation(function: Any) -> Callable[[Call], Act]:
    return lambda call: call.like(call.emit(ops.Activation(function), [call.map()]))


def _hard_sigmoid(call: Call) -> Act:
    alpha, beta = call.real("alpha", 0.2), call.real("beta", 0.5)
    if abs(alpha - 1 / 6) > 1e-4 or beta != 0.5:
        raise RefusedError(f"alpha {alpha:g} and beta {beta:g}")
    return _activation("hard_sigmoid")(call)


def _clip(call: Call) -> Act:
    low, high = (_limit(call, i, name) for i, name in ((1, "min"), (2, "max")))
    if low != 0 or high not in {6, np.inf}:
        raise RefusedError(f"limits {low:g} and {high:g}")
    return _activation("relu6" if high == 6 else "relu")(call)


def _limit(call: Call, position: int, name: str) -> float:
    if call.has(position):
        data = call.constant(position).data
        if data.size != 1:
            raise call.damaged(f"{name} of {data.size} numbers")
        found = float(data.reshape(-1)[0])
    else:
        found = call.real(name, -np.inf if name == "min" else np.inf)
    # Older exporters say "no limit" with the largest float.
    return np.inf if found > 3e38 else found


def _binary(make: type[ops.Add] | type[ops.Mul]) -> Handler:
    def handle(call: Call) -> Act:
        if len(call.given) != 2:
            raise RefusedError(f"{len(call.given)} inputs")
        # A constant stands second in the graph: both operators allow it.
        order = (1, 0) if isinstance(call.value(0), Const) else (0, 1)
        made = call.emit(make(), [call.operand(i) for i in order])
        return call.like(made, order[0])

    return handle


def _with_constant(make: type[ops.Add] | type[ops.Mul], turn: Callable[[Array], Array]) -> Handler:
    """A difference or quotient with a float constant is a sum or product with another."""

    def handle(call: Call) -> Act:
        second = call.value(1)
        if not isinstance(second, Const) or second.data.dtype != np.float32:
            raise RefusedError("two computed inputs")
        with np.errstate(all="ignore"):
            data = turn(call.broadcast(second.data))
        name = call.file.sketch.constant(second.name, data)
        return call.like(call.emit(make(), [call.map(), name]))

    return handle


def _concat(call: Call) -> Act:
    rank = len(next(each for each in call.given if isinstance(each, Act)).shape)
    if call.integer("axis", 1) % max(rank, 1) != 1:
        raise RefusedError(f"axis {call.integer('axis', 1)}")
    places = range(len(call.given))
    first = next(i for i in places if isinstance(call.given[i], Act))
    return call.like(call.emit(ops.Concat(), [call.operand(i) for i in places]), first)


def _pool(function: Any) -> Handler:
    def handle(call: Call) -> Act:
        x, kernel, stride = call.map(), call.pair("kernel_shape"), call.pair("strides")
        if call.pair("dilations") != (1, 1) or len([name for name in call.node.output if name]) > 1:
            raise RefusedError("dilation or indices")
        size = call.file.sketch.shape(x)[2:]
        pads = _pads(call, size, kernel, stride, (1, 1))
        counted = function == "mean" and call.integer("count_include_pad", 0) and any(pads)
        more = _ceiling(size, kernel, stride, pads) if call.integer("ceil_mode", 0) else (0, 0)
        if counted and any(more):
            raise RefusedError("count_include_pad and ceil_mode")
        if counted:
            # Zeros that count are a part of the picture.
            x, pads = call.emit(ops.Pad(pads), [x], ".pad").name, ops.NO_PAD
        top, left, bottom, right = pads
        whole = (top, left, bottom + more[0], right + more[1])
        return call.emit(ops.Pool(function, kernel, stride, whole), [x])

    return handle


def _ceiling(
    size: Sequence[int], kernel: ops.Pair, stride: ops.Pair, pads: ops.Pads
) -> tuple[int, int]:
    """Return the rows and columns of padding that a last, incomplete window needs."""
    more = []
    for n, k, step, before, after in zip(size, kernel, stride, pads[:2], pads[2:], strict=True):
        windows = -(-(n + before + after - k) // step) + 1
        if (windows - 1) * step >= n + before:
            windows -= 1
        more.append(max((windows - 1) * step + k - (n + before + after), 0))
    return more[0], more[1]


def _global_mean(call: Call) -> Act:
    return call.emit(ops.GlobalMean(), [call.map()])


def _reduce_mean(call: Call) -> Act:
    axes, rank = call.numbers(1, "axes"), len(call.act().shape)
    if rank != 4 or axes is None or sorted(axis % rank for axis in axes) != [2, 3]:
        raise RefusedError(f"axes {axes}")
    made = call.emit(ops.GlobalMean(), [call.map()])
    return made if call.integer("keepdims", 1) else Act(made.name, made.shape[:2])


def _resize(call: Call) -> Act:
    x = call.map()
    height, width = call.file.sketch.shape(x)[2:]
    size = _target(call, (height, width))
    mode = call.text("mode", "nearest")
    if mode not in {"nearest", "linear"} or call.integer("antialias", 0):
        raise RefusedError(f"mode {printable_word(mode)}")
    # Upsample and Resize-10 say nothing: they sample from the corner.
    default = "half_pixel" if call.kind == "Resize" and call.file.opset > 10 else "asymmetric"
    where = call.text("coordinate_transformation_mode", default)
    if where == "tf_crop_and_resize":
        raise RefusedError("a region")
    divides = size[0] % height == 0 and size[1] % width == 0
    if mode == "nearest":
        rounding = call.text("nearest_mode", "round_prefer_floor")
        floor = where == "asymmetric" and (rounding == "floor" or call.file.opset < 11)
        halves = where in {"half_pixel", "pytorch_half_pixel"} and rounding.startswith("round")
        if not floor and not (divides and halves):
            call.file.sketch.note("Resize to the nearest pixel is priced as one that rounds down")
        return call.emit(ops.Resize(size, "nearest"), [x])
    if where not in {"half_pixel", "pytorch_half_pixel", "align_corners"}:
        call.file.sketch.note(
            f"linear Resize with {printable_word(where)} pixels is priced as one with half-pixel "
            "centres"
        )
    return call.emit(ops.Resize(size, "bilinear", where == "align_corners"), [x])


def _target(call: Call, given: tuple[int, int]) -> ops.Pair:
    """Return the height and width that sizes or scales lead to."""
    single = call.kind == "Upsample" or call.file.opset < 11
    sizes = None if single else call.numbers(3, "sizes")
    axes = call.integers("axes")
    if sizes:
        whole = dict(zip(axes or range(len(sizes)), sizes, strict=True))
        return whole.get(2, given[0]), whole.get(3, given[1])
    scales = _scales(call, 1 if single else 2)
    whole_scales = dict(zip(axes or range(len(scales)), scales, strict=False))
    if any(whole_scales.get(axis, 1) != 1 for axis in (0, 1)):
        raise RefusedError("scaled channels")
    high, wide = (whole_scales.get(axis, 1.0) for axis in (2, 3))
    if not (0 < high < SMALL and 0 < wide < SMALL):
        raise call.damaged(f"scales {high} and {wide}")
    size = int(given[0] * high), int(given[1] * wide)
    linear = call.text("mode", "nearest") == "linear"
    if linear and (size[0] != given[0] * high or size[1] != given[1] * wide):
        call.file.sketch.note("Resize by scales that do not divide is priced as one to its size")
    return size


def _scales(call: Call, position: int) -> list[float]:
    if call.has(position):
        data = call.constant(position).data
        return [float(n) for n in data.reshape(-1)[:SMALL]]
    if "scales" in call.attributes:
        return [float(n) for n in call.attributes["scales"].floats]
    raise call.damaged("neither sizes nor scales")


def _depth_to_space(call: Call) -> Act:
    """The order of channels is TFLite's in mode DCR; CRD turns the filters before it round."""
    block, x = call.integer("blocksize", 0), call.map()
    if block < 1:
        raise call.damaged(f"a block of {block}")
    mode = call.text("mode", "DCR")
    if mode == "CRD":
        _turn_filters(call, block)
    elif mode != "DCR":
        raise RefusedError(f"mode {printable_word(mode)}")
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


def _slice(call: Call) -> Act:
    x = call.map()
    shape = call.act().shape
    starts, ends = call.numbers(1, "starts"), call.numbers(2, "ends")
    axes, steps = call.numbers(3, "axes"), call.numbers(4, "steps")
    if starts is None or ends is None:
        raise call.damaged("no window")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise call.damaged("starts, ends, axes and steps differ in length")
    window = [(0, n) for n in shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step != 1 or len(shape) != 4 or not -4 <= axis < 4:
            raise RefusedError(f"steps {steps}")
        n = shape[axis]
        window[axis] = (_within(start, n), _within(end, n))
    if window[:2] != [(0, n) for n in shape[:2]]:
        raise RefusedError("a part of the channels")
    (top, bottom), (left, right) = window[2:]
    return call.emit(crop_of((top, left), (bottom, right), (shape[2], shape[3]), call.damaged), [x])


def _within(position: int, size: int) -> int:
    return max(0, min(position + size if position < 0 else position, size))


def _pad(call: Call) -> Act:
    x, mode = call.map(), call.text("mode", "constant")
    if mode != "constant":
        raise RefusedError(f"mode {printable_word(mode)}")
    table, axes = call.numbers(1, "pads"), call.numbers(3, "axes")
    if table is None or len(table) % 2:
        raise call.damaged(f"pads {table}")
    half = len(table) // 2
    rank = len(call.act().shape)
    where = [axis % rank for axis in axes] if axes is not None else list(range(rank))
    if len(where) != half or rank != 4:
        raise RefusedError(f"pads {table}")
    sides = dict(zip(where, zip(table[:half], table[half:], strict=True), strict=True))
    value = call.constant(2).data.reshape(-1) if call.has(2) else np.zeros(1)
    if not np.array_equal(value, [0]) or call.real("value", 0.0):
        raise RefusedError("another value than zero")
    if any(sides.get(0, (0, 0))) or any(sides.get(1, (0, 0))) or min(table) < 0:
        raise RefusedError("padded channels, or less than none")
    (top, bottom), (left, right) = sides.get(2, (0, 0)), sides.get(3, (0, 0))
    return call.emit(ops.Pad((top, left, bottom, right)), [x])


def _softmax(call: Call) -> Act:
    """Before opset 13 everything from the axis on is one row."""
    shape = call.act().shape
    old = call.file.opset < 13
    axis = call.integer("axis", 1 if old else -1)
    if axis % len(shape) != 1 or (old and prod(shape[2:]) != 1):
        raise RefusedError(f"axis {axis}")
    return call.like(call.emit(ops.Softmax(), [call.map()]))


def _argmax(call: Call) -> Act:
    rank = len(call.act().shape)
    if call.integer("axis", 0) % rank != 1 or call.integer("select_last_index", 0):
        raise RefusedError(f"axis {call.integer('axis', 0)}")
    return call.emit(ops.ArgMax(), [call.map()])


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


def _flat(call: Call, shape: tuple[int, ...]) -> Act:
    """Nothing in the graph where only ones come and go, or where a map is made flat."""
    found = call.act()
    whole = call.file.sketch.shape(found.name)
    if prod(shape) != prod(found.shape):
        raise call.damaged(f"{list(found.shape)} to {list(shape)}")
    same = shape in {found.shape, whole}
    if len(whole) != 4:
        # Behind argmax alone: any ones may come and go.
        same = [n for n in shape if n != 1] == [n for n in whole if n != 1]
    elif not same:
        vector = whole[2:] == (1, 1) and len(shape) > 1 and shape[1] == whole[1]
        same = vector or shape == (whole[0], prod(whole[1:]))
    if not same:
        raise RefusedError(f"{list(found.shape)} to {list(shape)}")
    return Act(found.name, shape)


def _flatten(call: Call) -> Act:
    shape, axis = call.act().shape, call.integer("axis", 1)
    if axis % max(len(shape), 1) != 1:
        raise RefusedError(f"axis {axis}")
    return _flat(call, (shape[0], prod(shape[1:])))


def _reshape(call: Call) -> Act:
    given, wanted = call.act().shape, call.numbers(1, "shape") or []
    if len(wanted) > 8 or wanted.count(-1) > 1 or min(wanted, default=0) < -1:
        raise call.damaged(f"a shape of {wanted[:8]}")
    zeros = [i for i, n in enumerate(wanted) if n == 0]
    if zeros and zeros[-1] >= len(given):
        raise call.damaged(f"a shape of {wanted}")
    sides = [given[i] if n == 0 else n for i, n in enumerate(wanted)]
    known = prod(n for n in sides if n != -1)
    if -1 in sides and known and prod(given) % known == 0:
        sides[sides.index(-1)] = prod(given) // known
    return _flat(call, tuple(sides))


def _squeeze(call: Call) -> Act:
    shape, axes = call.act().shape, call.numbers(1, "axes")
    drop = {axis % len(shape) for axis in axes} if axes else set(range(len(shape)))
    if axes and any(shape[axis] != 1 for axis in drop):
        raise call.damaged(f"axes {axes} of {list(shape)}")
    return _flat(call, tuple(n for i, n in enumerate(shape) if i not in drop or n != 1))


def _unsqueeze(call: Call) -> Act:
    shape, axes = list(call.act().shape), call.numbers(1, "axes") or []
    rank = len(shape) + len(axes)
    if rank > 8 or any(not -rank <= axis < rank for axis in axes):
        raise call.damaged(f"axes {axes[:8]}")
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    return _flat(call, tuple(shape))


def _cast(call: Call) -> Act:
    """From float to float, and between the integers of an argmax, nothing is done."""
    to, found = call.integer("to", 0), call.act()
    dtype = call.file.sketch.tensors[found.name].dtype
    if not (dtype == "float32" and to == _FLOAT) and not (dtype == "int32" and to in _INTEGERS):
        raise RefusedError(f"type {to}")
    return found


def _quant(call: Call, channels: Sequence[int]) -> tuple[QuantParams, DType]:
    """Return scale, zero point and type of a quantized value of this shape."""
    scale = call.constant(1).data.astype(np.float64)
    zero = call.constant(2).data if call.has(2) else np.zeros(1, np.uint8)
    if zero.dtype.name not in _STEPS:
        raise RefusedError(f"steps of {zero.dtype}")
    flat = zero.reshape(-1)
    if not scale.size or not (np.isfinite(scale).all() and (scale > 0).all()):
        raise call.damaged("a scale that is no positive number")
    if not flat.size or (flat != flat[0]).any() or scale.ndim > 1:
        raise RefusedError("zero points that differ, or scales per block")
    axis = call.integer("axis", 1) if scale.ndim else None
    if axis is not None:
        axis %= max(len(channels), 1)
        if axis >= len(channels) or scale.size not in {1, channels[axis]}:
            raise call.damaged(f"{scale.size} scales for {list(channels)}")
        axis = axis if scale.size == channels[axis] else None
    return QuantParams(scale.reshape(-1), int(flat[0]), axis), _STEPS[zero.dtype.name]


def _quantize(call: Call) -> Act:
    found, sketch = call.act(), call.file.sketch
    quant, dtype = _quant(call, found.shape)
    if quant.axis is not None:
        raise RefusedError("a scale per channel of an activation")
    name = sketch.emit(ops.Quantize(), [found.name], call.node.output[0], call.layer, dtype, quant)
    return Act(name, found.shape)


def _dequantize(call: Call) -> Value:
    found, sketch = call.value(0), call.file.sketch
    if isinstance(found, Const):
        quant, _ = _quant(call, found.data.shape)
        return Const(found.name, found.data, quant)
    assert isinstance(found, Act)
    quant, dtype = _quant(call, found.shape)
    tensor = sketch.tensors[found.name]
    if tensor.dtype != dtype:
        raise call.damaged(f"{dtype} steps of a {tensor.dtype} tensor")
    if tensor.quant is None:
        sketch.tensors[found.name] = replace(tensor, quant=quant)
        sketch.inputs = [sketch.tensors[each.name] for each in sketch.inputs]
    name = sketch.emit(ops.Dequantize(), [found.name], call.node.output[0], call.layer)
    return Act(name, found.shape)


Handler: TypeAlias = Callable[[Call], Value]

HANDLERS: dict[str, Handler] = {
    "Conv": _conv,
    "ConvTranspose": _deconv,
    "BatchNormalization": _batch_norm,
    "Relu": _activation("relu"),
    "Clip": _clip,
    "Sigmoid": _activation("sigmoid"),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation("hard_swish"),
    "Neg": lambda call: call.like(call.emit(ops.Neg(), [call.map()])),
    "Add": _binary(ops.Add),
    "Sum": _binary(ops.Add),
    "Mul": _binary(ops.Mul),
    "Sub": _with_constant(ops.Add, lambda data: -data),
    "Div": _with_constant(ops.Mul, lambda data: np.float32(1) / data),
    "Concat": _concat,
    "MaxPool": _pool("max"),
    "AveragePool": _pool("mean"),
    "GlobalAveragePool": _global_mean,
    "ReduceMean": _reduce_mean,
    "Resize": _resize,
    "Upsample": _resize,
    "DepthToSpace": _depth_to_space,
    "Slice": _slice,
    "Pad": _pad,
    "Softmax": _softmax,
    "ArgMax": _argmax,
    "Gemm": _gemm,
    "MatMul": _gemm,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Cast": _cast,
    "Identity": lambda call: call.value(0),
    "Dropout": lambda call: call.value(0),
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Constant": lambda call: call.value(0),
}
