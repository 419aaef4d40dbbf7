"""A rule of a consumer, and what a file has of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from mobileseg.reading.surface import Edge, Surface

Verdict: TypeAlias = Literal["ok", "warning", "violated"]
# What was found and, where the rule is not kept, the mend.
Found: TypeAlias = tuple[str, str]
# None where the rule has no meaning for the file.
Look: TypeAlias = Callable[[Surface], Found | None]


@dataclass(frozen=True)
class Row:
    """A rule, what the file has of it, and what to do where it is not kept."""

    rule: str
    found: str
    verdict: Verdict
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """`says` is the rule in words, `breach` what a file is called that does not keep it."""

    says: str
    look: Look
    breach: Verdict = "violated"


def names(edges: tuple[Edge, ...]) -> str:
    return ", ".join(f"{edge.name}: {edge.words()}" for edge in edges) or "none"
