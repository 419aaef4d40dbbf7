"""A flatbuffer read with every offset checked: what TFLite files are made of.

The generated readers trust a file: a damaged offset makes them loop or allocate without end. Here
each access lies inside the file or raises, and all vectors together may not be longer than a few
times the file, so that a small file cannot pretend to be a large one.

Source: flatbuffers.dev, "FlatBuffer Internals".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Array

# Honest files share a few small vectors; a hostile one would share a large one a million times.
_SHARING = 4


@dataclass
class Buffer:
    """The bytes of a file; `where` names it in errors."""

    data: bytes
    where: str
    spent: int = field(default=0, repr=False)

    def damaged(self, what: str) -> MobilesegError:
        """Return the error for a file that is not what it should be."""
        return MobilesegError(
            f"{self.where}: is damaged or no TFLite file ({what}); fetch or export it again"
        )

    def root(self, identifier: bytes) -> Table:
        """Return the file's first table. Raises MobilesegError for another kind of file."""
        if self.data[4:8] != identifier:
            raise self.damaged(f"{identifier.decode()} is not at byte 4")
        return Table(self, self.number("<I", 0))

    def number(self, code: str, at: int) -> Any:
        """Return the number at a place in the file."""
        if not 0 <= at <= len(self.data) - struct.calcsize(code):
            raise self.damaged(f"an offset leads to byte {at} of {len(self.data)}")
        return struct.unpack_from(code, self.data, at)[0]

    def vector(self, dtype: str, at: int) -> Array:
        """Return a vector of numbers, a view into the file."""
        count = self.number("<I", at)
        width = np.dtype(dtype).itemsize
        return self.view(dtype, at + 4, count, count * width)

    def view(self, dtype: str, at: int, count: int, size: int) -> Array:
        """Return `count` numbers, `size` bytes from a place on, uncopied."""
        if at < 0 or at + size > len(self.data):
            raise self.damaged(f"{size} bytes from byte {at} on reach beyond its end")
        self.spent += size
        if self.spent > _SHARING * len(self.data):
            raise self.damaged("its vectors are longer than the file")
        return np.frombuffer(self.data, dtype, count, at)


@dataclass(frozen=True)
class Table:
    """A table: fields by their position in the schema, each absent or checked."""

    buffer: Buffer
    at: int

    def number(self, field: int, code: str, default: Any = 0) -> Any:
        """Return a scalar; `code` is struct's."""
        place = self._place(field)
        return self.buffer.number(f"<{code}", place) if place else default

    def table(self, field: int) -> Table | None:
        """Return the table that the field holds."""
        place = self._place(field)
        return Table(self.buffer, self._follow(place)) if place else None

    def has(self, field: int) -> bool:
        """Whether the field is there, be it empty."""
        return bool(self._place(field))

    def text(self, field: int) -> str:
        """Return a string; bytes that are no UTF-8 are marked."""
        return self.vector(field, "u1").tobytes().decode(errors="replace")

    def vector(self, field: int, dtype: str) -> Array:
        """Return a vector of numbers, empty where the field is absent."""
        place = self._place(field)
        if not place:
            return np.empty(0, dtype)
        return self.buffer.vector(dtype, self._follow(place))

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables."""
        place = self._place(field)
        if not place:
            return []
        start = self._follow(place)
        offsets = self.buffer.vector("<u4", start)
        return [
            Table(self.buffer, start + 4 * (i + 1) + int(each)) for i, each in enumerate(offsets)
        ]

    def _follow(self, place: int) -> int:
        return place + int(self.buffer.number("<I", place))

    def _place(self, field: int) -> int:
        """Return where the field stands, 0 where it is absent."""
        start = self.at - int(self.buffer.number("<i", self.at))
        length = int(self.buffer.number("<H", start))
        slot = 4 + 2 * field
        if slot + 2 > length:
            return 0
        offset = int(self.buffer.number("<H", start + slot))
        return self.at + offset if offset else 0
