"""What an ONNX file computes of constants and shapes alone: a constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mobileseg.graph.ir import Array
from mobileseg.reading.shapes import SMALL
from mobileseg.reading.sketch import Act, Const

if TYPE_CHECKING:
    from mobileseg.reading.onnx.call import Call

Fold: TypeAlias = Callable[["Call", list[Array]], Array]


def fold(call: Call) -> Array | None:
    """Return the operator's only result, or None where the picture has a say in it."""
    if call.kind == "Constant":
        return _constant(call)
    if call.kind == "Shape":
        return _shape(call)
    compute = FOLDS.get(call.kind)
    if compute is None or not call.given:
        return None
    data = [each.data for each in call.given if isinstance(each, Const) and each.quant is None]
    if len(data) != len(call.given) or not _is_modest(call.kind, data):
        return None
    try:
        with np.errstate(all="ignore"):
            return np.asarray(compute(call, data))
    except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise call.damaged(str(error)) from None


def _is_modest(kind: str, data: list[Array]) -> bool:
    """Whether the result is no larger than what stands in the file: nothing is spread wide."""
    held = sum(each.size for each in data)
    if kind in _SPREADING:
        return held <= SMALL
    try:
        return prod(np.broadcast_shapes(*(each.shape for each in data))) <= max(held, SMALL)
    except ValueError:
        # They are no operands of one another: a gather's, a slice's.
        return True


def _constant(call: Call) -> Array:
    kinds = {"value_float": np.float32, "value_floats": np.float32}
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        found = call.attributes.get(name)
        if found is not None:
            plain = {"value_float": found.f, "value_int": found.i}.get(name)
            values: Any = plain if plain is not None else list(found.floats or found.ints)
            return np.array(values, kinds.get(name, np.int64))
    if "value" not in call.attributes:
        raise call.damaged("a constant without a value")
    return call.file.data(call.attributes["value"].t)


def _shape(call: Call) -> Array | None:
    (given,) = call.given[:1] or [None]
    size: Any = given.shape if isinstance(given, Act) else None
    if isinstance(given, Const):
        size = given.data.shape
    if size is None:
        return None
    start, end = call.integer("start", 0), call.integer("end", len(size))
    return np.array(size[start:end], np.int64)


def _cast(call: Call, data: list[Array]) -> Array:
    types: Mapping[int, Any] = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}
    to = call.integer("to", 1)
    if to not in types:
        raise TypeError(f"a constant made type {to}")
    # float16 stays so: the operator that reads it makes it float32, as runtimes do.
    return data[0] if data[0].dtype == np.float16 and to == 1 else data[0].astype(types[to])


def _slice(_call: Call, data: list[Array]) -> Array:
    if len(data) < 3:
        raise ValueError("a slice without its window")
    starts, ends = data[1].tolist(), data[2].tolist()
    axes = data[3].tolist() if len(data) > 3 else list(range(len(starts)))
    steps = data[4].tolist() if len(data) > 4 else [1] * len(starts)
    window = [slice(None)] * data[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        window[axis] = slice(start, end, step)
    return data[0][tuple(window)]


def _axes(call: Call, data: list[Array]) -> list[int]:
    return data[1].reshape(-1).tolist() if len(data) > 1 else call.integers("axes")


def _unsqueeze(call: Call, data: list[Array]) -> Array:
    return np.expand_dims(data[0], tuple(_axes(call, data)))


def _squeeze(call: Call, data: list[Array]) -> Array:
    return np.squeeze(data[0], tuple(_axes(call, data)) or None)


def _reshape(_call: Call, data: list[Array]) -> Array:
    given, wanted = data
    sides = [given.shape[i] if n == 0 else n for i, n in enumerate(wanted.tolist())]
    return given.reshape(sides)


def _full(call: Call, data: list[Array]) -> Array:
    sides = data[0].tolist()
    if prod(sides) > SMALL:
        raise ValueError(f"a constant of {sides}")
    value = call.attributes.get("value")
    filling = np.zeros(1, np.float32) if value is None else call.file.data(value.t)
    return np.full(sides, filling.reshape(-1)[0], filling.dtype)


def _divide(_call: Call, data: list[Array]) -> Array:
    # Integers are divided towards zero; here they are sizes, never negative.
    a, b = data
    quotient: Array = a // b if a.dtype.kind in "iu" else a / b
    return quotient


_SPREADING = frozenset({"ConstantOfShape", "Gather", "Tile", "Range"})

FOLDS: dict[str, Fold] = {
    "Identity": lambda _call, data: data[0],
    "Cast": _cast,
    "Gather": lambda call, data: np.take(data[0], data[1], call.integer("axis", 0)),
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Transpose": lambda call, data: data[0].transpose(call.integers("perm") or None),
    "Concat": lambda call, data: np.concatenate(data, call.integer("axis", 0)),
    "ConstantOfShape": _full,
    "Add": lambda _call, data: data[0] + data[1],
    "Sub": lambda _call, data: data[0] - data[1],
    "Mul": lambda _call, data: data[0] * data[1],
    "Div": _divide,
    "Neg": lambda _call, data: -data[0],
    "Sqrt": lambda _call, data: np.sqrt(data[0]),
    "Floor": lambda _call, data: np.floor(data[0]),
    "Ceil": lambda _call, data: np.ceil(data[0]),
}
