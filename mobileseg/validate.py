"""Plain data from a file into frozen dataclasses; every mistake at once, each with its place."""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

from mobileseg.errors import MobilesegError

T = TypeVar("T")


class Table:
    """Base of the dataclasses that files fill: a key that no field has is a mistake."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "allow_inf_nan": False}


def parse(kind: type[T], data: object, where: str) -> T:
    """Return `data` as a `kind` (a dataclass or any type of fields).

    Types are strict: "3" is no number. Raises MobilesegError that lists every mistake as
    `where: place: what is wrong`, with the nearest right name for an unknown key.
    """
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415  (kept off start-up)

    try:
        # By way of JSON, where strictness lets an array be a tuple.
        return TypeAdapter(kind).validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        lines = dict.fromkeys(_line(kind, item) for item in error.errors(include_url=False))
        raise MobilesegError("\n".join(f"{where}: {line}" for line in lines)) from None


def _line(kind: Any, item: Any) -> str:
    loc = tuple(part for part in item["loc"] if not _is_branch(part))
    place = ".".join(_place(loc)) or "(top level)"
    value = item["input"]
    if item["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        known = sorted(_fields_at(kind, loc[:-1]))
        near = difflib.get_close_matches(str(loc[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{place}: there is no such key; {hint}keys here: {', '.join(known)}"
    if item["type"] in {"missing", "missing_argument"}:
        return f"{place}: this key is needed and missing"
    quoted = json.dumps(value, default=str)
    shown = quoted if len(quoted) <= 60 else quoted[:57] + "..."
    return f"{place}: {shown}: {item['msg'][0].lower()}{item['msg'][1:]}"


def _is_branch(part: object) -> bool:
    # pydantic adds the branch of a union ("tuple[int, int]", "literal['a']") to the place.
    return isinstance(part, str) and (
        any(c in part for c in "[({") or part in {"int", "float", "str", "bool"}
    )


def _place(loc: Sequence[object]) -> list[str]:
    words: list[str] = []
    for part in loc:
        if isinstance(part, int) and words:
            words[-1] += f"[{part + 1}]"
        else:
            word = str(part)
            words.append(word if word.isprintable() else json.dumps(word))
    return words


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
