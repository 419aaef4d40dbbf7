"""TFLite's operators on single values or windows of them: functions, sums, pooling, means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Array, QuantParams
from mobileseg.reading.sketch import Act, Const, RefusedError
from mobileseg.reading.tflite.call import Call, Handler, Made, operand_of
from mobileseg.reading.tflite.convolve import LAYOUTS, pads_of


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
            return turn(operand_of(data, quant)[0]), quant

        name = call.file.constant(call.inputs[1], call.kind, turned)
        call.emit(make(), [call.map(), name], call.fused(0))

    return handle


def _concat(call: Call) -> None:
    axis, rank = call.option(0), len(call.file.tensors[call.outputs[0]].shape)
    if axis not in {-1, rank - 1}:
        raise RefusedError(f"axis {axis}")
    names = [call.operand(i) for i in range(len(call.inputs))]
    call.emit(ops.Concat(), names, call.fused(1))


def _pool(function: Any) -> Handler:
    def handle(call: Call) -> None:
        x, stride, kernel = call.map(), call.pair((2, 1)), call.pair((4, 3))
        pads = pads_of(call, x, kernel, stride, (1, 1))
        call.emit(ops.Pool(function, kernel, stride, pads), [x], call.fused(5))

    return handle


def _mean(call: Call) -> None:
    axes, rank = call.integers(1), len(call.act().shape)
    if rank != 4 or sorted(axis % rank for axis in axes) != [1, 2]:
        raise RefusedError(f"axes {axes}")
    call.emit(ops.GlobalMean(), [call.map()])


def _softmax(call: Call) -> None:
    if call.option(0, "f", 0.0) != 1.0:
        call.file.sketch.note("SOFTMAX with another beta than 1 is priced as one with 1")
    call.emit(ops.Softmax(), [call.map()])


def _argmax(call: Call) -> None:
    axes, rank = call.integers(1), len(call.act().shape)
    if len(axes) != 1 or axes[0] not in {-1, rank - 1}:
        raise RefusedError(f"axis {axes}")
    call.emit(ops.ArgMax(), [call.map()])


def _activation(function: Any) -> Handler:
    return lambda call: call.emit(ops.Activation(function), [call.map()])


def _unary(op: ops.Op) -> Handler:
    return lambda call: call.emit(op, [call.map()])


def _prelu(call: Call) -> None:
    x, slopes = call.map(), call.value(1)
    channels = call.file.sketch.shape(x)[1]
    if not isinstance(slopes, Const) or slopes.data.size not in {1, channels}:
        raise RefusedError("slopes that are not constants, one per channel")

    def per_channel(data: Array, quant: QuantParams | None) -> Made:
        # One slope is one for all.
        return np.broadcast_to(data.reshape(1, -1, 1, 1), (1, channels, 1, 1)), quant

    name = call.file.constant(call.inputs[1], f"slopes of {channels}", per_channel)
    call.emit(ops.PRelu(), [x, name])


def _dequantize(call: Call) -> None:
    index = call.inputs[0] if call.inputs else -1
    if not isinstance(call.value(0), Const):
        call.emit(ops.Dequantize(), [call.map()])
        return
    role = call.file.roles.get(index, "operand")
    name = call.file.constant(index, f"{role} of DEQUANTIZE", LAYOUTS[role])
    declared = call.file.tensors[call.outputs[0]]
    made = call.file.sketch.emit(ops.Dequantize(), [name], declared.name, call.layer)
    call.file.values[call.outputs[0]] = Act(made, declared.shape)


POINTWISE: Mapping[str, Handler] = {
    "ADD": _binary(ops.Add),
    "MUL": _binary(ops.Mul),
    "SUB": _with_constant(ops.Add, lambda data: -data),
    "DIV": _with_constant(ops.Mul, lambda data: 1 / data),
    "CONCATENATION": _concat,
    "MAX_POOL_2D": _pool("max"),
    "AVERAGE_POOL_2D": _pool("mean"),
    "MEAN": _mean,
    "RELU": _activation("relu"),
    "RELU6": _activation("relu6"),
    "LOGISTIC": _activation("sigmoid"),
    "RSQRT": _activation("rsqrt"),
    "HARD_SWISH": _activation("hard_swish"),
    "LEAKY_RELU": lambda call: call.emit(ops.LeakyRelu(call.option(0, "f", 0.0)), [call.map()]),
    "PRELU": _prelu,
    "NEG": _unary(ops.Neg()),
    "SOFTMAX": _softmax,
    "ARG_MAX": _argmax,
    "QUANTIZE": _unary(ops.Quantize()),
    "DEQUANTIZE": _dequantize,
}
