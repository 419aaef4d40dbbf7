"""`mobileseg check`: whether anybody's file does what a consumer asks of it, rule by rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.runtime import load

Target: TypeAlias = Literal["raw", "task", "mediapipe"]
TARGETS: tuple[Target, ...] = get_args(Target)
Verdict: TypeAlias = Literal["ok", "warning", "violated"]


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


def check(path: Path, target: Target = "raw") -> list[Row]:
    """Return a row per rule of the target.

    Raises MobilesegError where there is no such file, or its ending is none of ours. A damaged or
    hostile file is rows, too: its runtime is tried in another process.
    """
    if not path.is_file():
        raise MobilesegError(f"{path}: there is no such file")
    return [rule(path) for rule in RULES[target]]


def require_kept(path: Path, target: Target, rows: Sequence[Row]) -> None:
    """Raise GateError naming the rules that the file violates, if there are any."""
    broken = [row.rule for row in rows if row.verdict == "violated"]
    if broken:
        raise GateError(f"{path}: violates {len(broken)} of {target}'s rules: {'; '.join(broken)}")


def _runs(path: Path) -> Row:
    rule = "its runtime loads and runs it"
    try:
        runner = load(path)
    except MobilesegError as error:
        return Row(rule, str(error).removeprefix(f"{path}: "), "violated", "export it again")
    height, width = runner.image_size
    return Row(rule, f"{runner.input_dtype} {height}x{width}", "ok")


RULES: Mapping[Target, tuple[Callable[[Path], Row], ...]] = {
    "raw": (_runs,),
    "task": (_runs,),
    "mediapipe": (_runs,),
}
