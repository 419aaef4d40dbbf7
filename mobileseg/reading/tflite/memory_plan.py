"""The plan of memory that a TFLite file carries, if it carries one.

Source: tflite-micro, docs/memory_management.md; field positions are those of schema.fbs (v3a).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

import ai_edge_litert.schema_py_generated as fb
import numpy as np

from mobileseg.reading.flat import Buffer, Table
from mobileseg.reading.sketch import printable

_IDENTIFIER = b"TFL3"
_PLAN = "OfflineMemoryAllocation"
_HEADER = 3
_BYTES = {
    fb.TensorType.FLOAT32: 4,
    fb.TensorType.INT32: 4,
    fb.TensorType.FLOAT16: 2,
    fb.TensorType.INT8: 1,
    fb.TensorType.UINT8: 1,
}


@dataclass(frozen=True)
class Place:
    """A tensor of the arena: its bytes, and the operators between which they are in use."""

    name: str
    offset: int
    nbytes: int
    first: int
    last: int

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


def read_memory_plan(data: bytes, where: str) -> tuple[Place, ...] | None:
    """Return the planned tensors of a file, or None where it carries no plan.

    Raises MobilesegError for damage, or a plan for other tensors than the file's.
    """
    buffer = Buffer(data, where)
    model = buffer.root(_IDENTIFIER)
    entry = next((each for each in model.tables(6) if each.text(0) == _PLAN), None)
    if entry is None:
        return None
    stored, bodies = model.tables(4), model.tables(2)
    number = entry.number(1, "I")
    if number >= len(stored) or not bodies:
        raise buffer.damaged(f"its memory plan is in buffer {number} of {len(stored)}")
    raw = stored[number].vector(0, "u1")
    words = raw[: raw.size // 4 * 4].view("<i4")
    tensors = bodies[0].tables(0)
    if raw.size != 4 * (_HEADER + len(tensors)) or words[2] != len(tensors) or words[1] != 0:
        raise buffer.damaged(
            f"its memory plan has {raw.size} bytes, which are none for {len(tensors)} tensors"
        )
    offsets = [int(word) for word in words[_HEADER:]]
    planned = [(i, at) for i, at in enumerate(offsets) if at >= 0]
    lives = _lives(buffer, bodies[0], len(tensors))
    return tuple(
        Place(printable(tensors[i].text(3)), at, _size(buffer, tensors[i]), *lives[i])
        for i, at in planned
    )


def overlaps(places: Sequence[Place]) -> list[tuple[Place, Place]]:
    """Return the pairs of tensors that are in use at one operator and share bytes."""
    return [
        (one, other)
        for one, other in combinations(places, 2)
        if one.first <= other.last
        and other.first <= one.last
        and one.offset < other.end
        and other.offset < one.end
    ]


def _lives(buffer: Buffer, body: Table, count: int) -> list[tuple[int, int]]:
    """Return for each tensor the first and the last operator that uses it."""
    operators = body.tables(3)
    last_one = max(len(operators) - 1, 0)
    used: list[list[int]] = [[] for _ in range(count)]
    for at, operator in enumerate(operators):
        for index in (*operator.vector(1, "<i4"), *operator.vector(2, "<i4")):
            if not -1 <= index < count:
                raise buffer.damaged(f"an operator uses tensor {index} of {count}")
            if index >= 0:
                used[index].append(at)
    for field, at in ((1, 0), (2, last_one)):
        for index in body.vector(field, "<i4"):
            if not 0 <= index < count:
                raise buffer.damaged(f"its inputs or outputs are tensor {index} of {count}")
            used[index].append(at)
    return [(min(each, default=0), max(each, default=0)) for each in used]


def _size(buffer: Buffer, tensor: Table) -> int:
    kind, shape = tensor.number(1, "b"), tensor.vector(0, "<i4").astype(np.int64)
    if kind not in _BYTES or (shape < 1).any():
        raise buffer.damaged(f"its memory plan has a place for type {kind} of {shape.tolist()}")
    return int(prod(shape.tolist())) * _BYTES[kind]
