"""The one error a user may see without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase


class MobilesegError(Exception):
    """Bad input: `where: what is wrong; what is allowed or what to do`. The CLI exits with 1."""


class GateError(MobilesegError):
    """A quality gate failed (exactness, accuracy drop). The CLI exits with 3."""


def unknown(where: str, kind: str, name: str, known: Iterable[str]) -> MobilesegError:
    """Return the error for a name that a table does not have, with the nearest right one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return MobilesegError(
        f"{where}: no {kind} is named {name!r}; {hint}there are: {', '.join(names)}"
    )


def matching(where: str, kind: str, patterns: Iterable[str], known: Iterable[str]) -> set[str]:
    """Return the names that any of the globs matches. Raises MobilesegError for one with none."""
    names = list(known)
    found: set[str] = set()
    for pattern in patterns:
        these = {name for name in names if fnmatchcase(name, pattern)}
        if not these:
            raise unknown(where, kind, pattern, names)
        found |= these
    return found
