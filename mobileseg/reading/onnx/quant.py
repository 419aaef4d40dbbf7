"""QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import DType, QuantParams
from mobileseg.reading.onnx.call import Call, Handler
from mobileseg.reading.sketch import Act, Const, RefusedError, Value

_STEPS: Mapping[str, DType] = {"int8": "int8", "uint8": "uint8", "int32": "int32"}


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


QUANT: Mapping[str, Handler] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}
