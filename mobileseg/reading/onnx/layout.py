"""ONNX's operators that move values: resize, crop, pad, and reshapes that do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from mobileseg.graph import ops
from mobileseg.reading.onnx.call import Call, Handler
from mobileseg.reading.onnx.order import part_of
from mobileseg.reading.shapes import SMALL, crop_of, within
from mobileseg.reading.sketch import Act, RefusedError, printable

_FLOAT = 1


_INTEGERS = frozenset({6, 7})


def _resize(call: Call) -> Act:
    x = call.map()
    height, width = call.file.sketch.shape(x)[2:]
    size = _target(call, (height, width))
    mode = call.text("mode", "nearest")
    if mode not in {"nearest", "linear"} or call.integer("antialias", 0):
        raise RefusedError(f"mode {printable(mode)}")
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
            f"linear Resize with {printable(where)} pixels is priced as one with half-pixel centres"
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
        window[axis] = (within(start, n), within(end, n))
    if window[0] != (0, shape[0]) or window[1][0] >= window[1][1]:
        raise RefusedError("a part of the batch, or of nothing")
    if window[1] != (0, shape[1]):
        if window[2:] != [(0, n) for n in shape[2:]]:
            raise RefusedError("a part of channels and picture at once")
        return part_of(call, x, *window[1])
    (top, bottom), (left, right) = window[2:]
    return call.emit(crop_of((top, left), (bottom, right), (shape[2], shape[3]), call.damaged), [x])


def _pad(call: Call) -> Act:
    x, mode = call.map(), call.text("mode", "constant")
    if mode != "constant":
        raise RefusedError(f"mode {printable(mode)}")
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


LAYOUT: Mapping[str, Handler] = {
    "Resize": _resize,
    "Upsample": _resize,
    "Slice": _slice,
    "Pad": _pad,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Cast": _cast,
    "Identity": lambda call: call.value(0),
    "Dropout": lambda call: call.value(0),
}
