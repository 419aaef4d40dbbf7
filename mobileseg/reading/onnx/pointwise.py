"""ONNX's operators on single values or windows of them: functions, sums, pooling, means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Array
from mobileseg.reading.onnx.call import Call, Handler
from mobileseg.reading.onnx.order import CHANNELS_LAST, with_channels_at
from mobileseg.reading.sketch import Act, Const, RefusedError


def _activation(function: Any) -> Callable[[Call], Act]:
    return lambda call: call.like(call.emit(ops.Activation(function), [call.map()]))


def _leaky_relu(call: Call) -> Act:
    return call.like(call.emit(ops.LeakyRelu(call.real("alpha", 0.01)), [call.map()]))


def _prelu(call: Call) -> Act:
    x, slopes = call.map(), call.constant(1)
    channels = call.file.sketch.shape(x)[1]
    if slopes.data.size not in {1, channels} or slopes.data.ndim not in {1, 3, 4}:
        raise RefusedError(f"slopes {list(slopes.data.shape)}")
    # One slope is one for all.
    each = np.broadcast_to(slopes.data.reshape(1, -1, 1, 1), (1, channels, 1, 1))
    return call.like(call.emit(ops.PRelu(), [x, call.stored(slopes, each)]))


def _hard_sigmoid(call: Call) -> Act:
    alpha, beta = call.real("alpha", 0.2), call.real("beta", 0.5)
    if abs(alpha - 1 / 6) > 1e-4 or beta != 0.5:
        raise RefusedError(f"alpha {alpha:g} and beta {beta:g}")
    return _activation("hard_sigmoid")(call)


def _power(call: Call) -> Act:
    exponent = call.constant(1).data
    if exponent.size != 1 or float(exponent.reshape(-1)[0]) != -0.5:
        raise RefusedError("another exponent than -0.5")
    return _activation("rsqrt")(call)


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
    places = range(len(call.given))
    first = next((i for i in places if isinstance(call.given[i], Act)), 0)
    rank = len(call.act(first).shape)
    if call.integer("axis", 1) % max(rank, 1) != 1:
        raise RefusedError(f"axis {call.integer('axis', 1)}")
    return call.like(call.emit(ops.Concat(), [call.operand(i) for i in places]), first)


def _pool(function: Any) -> Handler:
    def handle(call: Call) -> Act:
        x, kernel, stride = call.map(), call.pair("kernel_shape"), call.pair("strides")
        if call.pair("dilations") != (1, 1) or len(call.outputs) > 1:
            raise RefusedError("dilation or indices")
        size = call.file.sketch.shape(x)[2:]
        pads = call.pads(size, kernel, stride)
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


def _softmax(call: Call) -> Act:
    """Before opset 13 everything from the axis on is one row."""
    old = call.file.opset < 13
    axis = call.integer("axis", 1 if old else -1)
    turned = with_channels_at(call, axis)
    if turned is not None and (not old or axis % 4 == 3):
        made = call.emit(ops.Softmax(), [turned.name])
        return replace(turned, name=made.name)
    shape = call.act().shape
    if axis % len(shape) != 1 or (old and prod(shape[2:]) != 1):
        raise RefusedError(f"axis {axis}")
    return call.like(call.emit(ops.Softmax(), [call.map()]))


def _argmax(call: Call) -> Act:
    turned = with_channels_at(call, call.integer("axis", 0))
    if turned is not None and turned.order == CHANNELS_LAST:
        return call.emit(ops.ArgMax(), [turned.name])
    rank = len(call.act().shape)
    if call.integer("axis", 0) % rank != 1 or call.integer("select_last_index", 0):
        raise RefusedError(f"axis {call.integer('axis', 0)}")
    return call.emit(ops.ArgMax(), [call.map()])


POINTWISE: Mapping[str, Handler] = {
    "Relu": _activation("relu"),
    "Clip": _clip,
    "Sigmoid": _activation("sigmoid"),
    "HardSigmoid": _hard_sigmoid,
    "Pow": _power,
    "HardSwish": _activation("hard_swish"),
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
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
    "Softmax": _softmax,
    "ArgMax": _argmax,
}
