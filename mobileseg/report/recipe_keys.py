"""Every key that a recipe may have, read from the dataclasses that check it, words and all."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
import tokenize
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Len, Lt

from mobileseg.errors import unknown
from mobileseg.recipe import Recipe

_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
NEEDED, ABSENT = "needed", "absent"
_BOUNDS = {Ge: ("ge", ">="), Gt: ("gt", ">"), Le: ("le", "<="), Lt: ("lt", "<")}


@dataclass(frozen=True)
class Key:
    """One key: what may stand there, and what does where nothing is given."""

    name: str
    values: str
    default: str  # as TOML, or `needed`, or `absent`
    says: str


@dataclass(frozen=True)
class Section:
    """A table of a recipe: `place` is its heading in TOML, `says` what it is about."""

    place: str
    says: str
    keys: tuple[Key, ...]


def sections(only: str | None = None) -> list[Section]:
    """Return every table that a recipe may have, outermost first; or one, named as "step.prune".

    Raises MobilesegError for a name that no table has.
    """
    found = {each.place.strip("[]"): each for each in _sections(Recipe, "")}
    if only is None:
        return list(found.values())
    if only not in found:
        raise unknown("recipes keys", "table", only, filter(None, found))
    return [found[only]]


def _sections(kind: type, place: str) -> Iterator[Section]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = dataclasses.fields(kind)
    summary, said = _docstrings(kind, [each.name for each in fields])
    for name, comment in _comments(kind).items():
        said[name] = " ".join(filter(None, (said.get(name), comment)))
    keys, inner = [], []
    for each in fields:
        name = str(each.metadata.get("key", each.name))
        table, several = _table(hints[each.name])
        values = _values(hints[each.name])
        if table is not None:
            path = ".".join(filter(None, (place.strip("[]"), name)))
            inner.append((table, f"[[{path}]]" if several else f"[{path}]"))
            values = f"see {inner[-1][1]}"
        keys.append(Key(name, values, _default(each), said.get(each.name, "")))
    yield Section(place, summary, tuple(keys))
    for table, heading in inner:
        yield from _sections(table, heading)


def _docstrings(kind: type, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return what a class says of itself, and what it and its bases say of each field.

    A field's part begins with `name:` or `name, other:` and ends where the next one begins, or a
    source is named.
    """
    one = rf"`?(?:{'|'.join(names)})`?"
    begin = re.compile(rf"(?<![\w`]){one}(?: \([^)]*\))?(?:, {one})*:\s")
    summary = ""
    said: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(parent):
            continue
        text = inspect.cleandoc(parent.__doc__ or "").partition("\nSource: ")[0]
        marks = list(begin.finditer(text))
        summary = text[: marks[0].start() if marks else None].strip()
        ends = [*(mark.start() for mark in marks), len(text)][1:]
        for mark, end in zip(marks, ends, strict=True):
            about = " ".join(text[mark.end() : end].split())
            said |= {name: about for name in names if re.search(rf"\b{name}\b", mark[0])}
    return summary, said


def _table(hint: Any) -> tuple[type | None, bool]:
    """Return the dataclass that a field holds, if it holds one, and whether it holds several."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _table(get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        found = [_table(part) for part in get_args(hint)]
        return next((each for each in found if each[0] is not None), (None, False))
    if origin is tuple:
        return _table(get_args(hint)[0])[0], True
    return (hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None), False


def _values(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [text for mark in parts[1:] for text in _bounds(mark)]
        return " ".join([_values(parts[0]), ", ".join(bounds)]).strip()
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_values(part) for part in parts if part is not type(None))
    if origin is Literal:
        return ", ".join(f'`"{part}"`' for part in parts)
    if origin is dict:
        return f"a table of names = {_values(parts[1])}"
    if origin is tuple:
        several = "list" if parts[-1] is Ellipsis else f"{len(parts)}"
        return f"{several} of {_values(parts[0])}"
    return _NAMES.get(hint, "table")


def _bounds(mark: object) -> Iterator[str]:
    if isinstance(mark, Len):
        yield (
            f"({mark.min_length} or more)"
            if mark.max_length is None
            else (f"({mark.min_length} to {mark.max_length})")
        )
    elif isinstance(mark, GroupedMetadata):
        for part in mark:
            yield from _bounds(part)
    elif isinstance(mark, BaseMetadata) and type(mark) in _BOUNDS:
        name, sign = _BOUNDS[type(mark)]
        bound = getattr(mark, name)
        yield f"{sign} {'2**63' if bound == 2**63 else bound}"


def _default(each: dataclasses.Field[Any]) -> str:
    value = each.default
    if each.default_factory is not dataclasses.MISSING:
        value = each.default_factory()
    if value is dataclasses.MISSING:
        return NEEDED
    if value is None:
        return ABSENT
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = type(value)
        given = [
            f"{part.name} = {json.dumps(getattr(value, part.name))}"
            for part in dataclasses.fields(plain)
            if getattr(value, part.name) != part.default and part.default is not dataclasses.MISSING
        ]
        return f"{{ {', '.join(given)} }}" if given else ABSENT
    return json.dumps(value, default=str)


def _comments(kind: type) -> dict[str, str]:
    """Return what the comments above and behind each field of a dataclass say."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__[:-1]):
        if dataclasses.is_dataclass(parent):
            found |= _own_comments(textwrap.dedent(inspect.getsource(parent)))
    return found


def _own_comments(source: str) -> dict[str, str]:
    found: dict[str, str] = {}
    above: list[str] = []
    name = ""
    depth = 0
    for token in tokenize.generate_tokens(StringIO(source).readline):
        start = token.line[: token.start[1]].strip() == ""
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
        if token.type == tokenize.COMMENT:
            text = token.string.removeprefix("#").strip()
            if start and not depth:
                above.append(text)
                name = ""
            elif name:
                found[name] = " ".join(filter(None, (found.get(name, ""), text)))
        elif token.type == tokenize.NAME and start and not depth and token.start[1] == 4:
            name = token.string
            if above:
                found[name] = " ".join(above)
            above = []
    return found
