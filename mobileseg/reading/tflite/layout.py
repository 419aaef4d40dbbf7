"""TFLite's operators that move values: resize, crop, pad, and reshapes that do nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from mobileseg.graph import ops
from mobileseg.reading.shapes import crop_of, within
from mobileseg.reading.sketch import Act, Const, RefusedError
from mobileseg.reading.tflite.call import Call, Handler


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
    starts = [0 if masks[0] >> i & 1 else within(n, shape[i]) for i, n in enumerate(begin)]
    ends = [shape[i] if masks[1] >> i & 1 else within(n, shape[i]) for i, n in enumerate(end)]
    _window(call, starts, ends)


def _window(call: Call, starts: Sequence[int], ends: Sequence[int]) -> None:
    x = call.map()
    n, h, w, c = (*call.act().shape, 0, 0)[:4]
    if len(starts) != 4 or (starts[0], starts[3], ends[0], ends[3]) != (0, 0, n, c):
        raise RefusedError("a part of the channels")
    call.emit(crop_of((starts[1], starts[2]), (ends[1], ends[2]), (h, w), call.damaged), [x])


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


LAYOUT: Mapping[str, Handler] = {
    "PAD": _pad,
    "PADV2": _pad,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "DEPTH_TO_SPACE": _depth_to_space,
    "RESIZE_BILINEAR": _resize("bilinear", 2, 3),
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest", 0, 1),
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
}
