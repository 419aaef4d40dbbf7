"""Plain data from a file into frozen dataclasses; every mistake at once, each with its place."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import functools
import json
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

from mobileseg.errors import MobilesegError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
Loc: TypeAlias = tuple[str | int, ...]

# What TOML calls an integer: 64 bits.
_MAX_INT = 2**63 - 1
# pydantic's names of mistakes, and how most of its messages begin.
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
_MISSING = ("missing", "missing_argument")
_SHOULD = "Input should be "


class Table:
    """Base of the dataclasses that files fill: a key that no field has is a mistake."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}


def parse(kind: type[T], data: object, where: str) -> T:
    """Return `data` as a `kind` (a dataclass or any type of fields).

    Types are strict: "3" is no number. Raises MobilesegError that lists every mistake as
    `where: place: what is wrong`, a line for each place, with the nearest right name for an
    unknown key.
    """
    from pydantic import ValidationError  # noqa: PLC0415  (kept off start-up)

    lines: dict[Loc, str] = {}
    plain = _plain(data, (), lines)
    found: T | None = None
    try:
        # By way of JSON, where strictness lets an array be a tuple.
        found = _adapter(typing.cast(Any, kind)).validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        lines = _lines(kind, plain, error.errors(include_url=False)) | lines
    if found is None or lines:
        said = (f"{where}: {_place(loc)}: {line}" for loc, line in lines.items())
        raise MobilesegError("\n".join(said))
    return found


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what checks a kind; to make it takes longer than to check."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(kind)


def _plain(data: object, loc: Loc, lines: dict[Loc, str]) -> object:
    """Return the data as JSON has it; add a line for what no field of ours can hold."""
    if isinstance(data, Mapping):
        return {str(key): _plain(item, (*loc, str(key)), lines) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(item, (*loc, i), lines) for i, item in enumerate(data)]
    if isinstance(data, PurePath):
        return str(data)
    if isinstance(data, datetime.date | datetime.time):
        kind = "time" if isinstance(data, datetime.time) else "date"
        lines[loc] = f"{data}: a {kind} is no value here; write text in quotes"
        return None
    if isinstance(data, int) and abs(data) > _MAX_INT:
        lines[loc] = f"a number beyond {_MAX_INT}; take a smaller one"
        return None
    return data


def _lines(kind: Any, data: object, items: Iterable[Any]) -> dict[Loc, str]:
    """Return what is wrong by place: one line, even where every branch of a union complains."""
    places: dict[Loc, list[Any]] = {}
    for item in items:
        places.setdefault(_loc(data, item), []).append(item)
    # What holds a mistake is complained about too ("too short"); to mend the mistake is enough.
    outer = {loc[:length] for loc in places for length in range(len(loc))}
    return {loc: _line(kind, loc, found) for loc, found in places.items() if loc not in outer}


def _loc(data: object, item: Any) -> Loc:
    """Return the mistake's place in the data: pydantic puts names of union branches between."""
    loc: list[str | int] = []
    for number, part in enumerate(item["loc"], 1):
        missing = item["type"] in _MISSING and number == len(item["loc"])
        if isinstance(data, Mapping) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part] if part < len(data) else None
        elif not missing:
            continue
        loc.append(part)
    return tuple(loc)


def _line(kind: Any, loc: Loc, items: Sequence[Any]) -> str:
    item = items[0]
    if item["type"] in _UNKNOWN:
        known = sorted(_fields_at(kind, loc[:-1]))
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"there is no such key; {hint}keys here: {', '.join(known)}"
    if item["type"] in _MISSING:
        return "this key is needed and missing"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    quoted = json.dumps(item["input"], default=str)
    shown = quoted if len(quoted) <= 60 else quoted[:57] + "..."
    wishes = dict.fromkeys(item["msg"].removeprefix(_SHOULD) for item in items)
    start = _SHOULD if item["msg"].startswith(_SHOULD) else ""
    said = start + " or ".join(wishes)
    return f"{shown}: {said[0].lower()}{said[1:]}"


def _place(loc: Loc) -> str:
    words: list[str] = []
    for part in loc:
        if isinstance(part, int) and words:
            words[-1] += f"[{part + 1}]"
        else:
            word = str(part)
            words.append(word if word.isprintable() else json.dumps(word))
    return ".".join(words) or "(top level)"


def _fields_at(kind: Any, loc: Sequence[object]) -> set[str]:
    """Return the field names of the dataclasses that stand at `loc` below `kind`."""
    kinds = _dataclasses_in(kind)
    for part in loc:
        below: list[Any] = []
        for cls in kinds:
            hints = typing.get_type_hints(cls, include_extras=False)
            if part in hints:
                below += _dataclasses_in(hints[str(part)])
        kinds = below or kinds
    return {
        field.metadata.get("key", field.name) for cls in kinds for field in dataclasses.fields(cls)
    }


def _dataclasses_in(kind: Any) -> list[Any]:
    if dataclasses.is_dataclass(kind):
        return [kind]
    return [cls for arg in typing.get_args(kind) for cls in _dataclasses_in(arg)]
