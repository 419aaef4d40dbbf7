"""What a TFLite file computes of constants and shapes alone: a constant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mobileseg.graph.ir import Array
from mobileseg.reading.shapes import SMALL
from mobileseg.reading.sketch import Act, Const, RefusedError, Value
from mobileseg.reading.tflite.call import Call

_SHAPES = np.dtype(np.int64)


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
