"""`mobileseg check`: whether anybody's file does what a consumer asks of it, rule by rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.contract import Target
from mobileseg.export.runtime import RUNTIMES, require_runs
from mobileseg.reading.read import ENDINGS, read_surface
from mobileseg.reading.rules.rule import Row
from mobileseg.reading.rules.targets import rows
from mobileseg.reading.sketch import printable


def check(path: Path, target: Target = "raw") -> list[Row]:
    """Return a row per rule of the target.

    Raises MobilesegError where there is no such file, or its ending is none of ours. A damaged or
    hostile file is rows, too: its runtime is tried in another process.
    """
    _require_ours(path, target)
    try:
        found = static_rows(path, target)
    except MobilesegError as error:
        return [_failed("can be read", path, error)]
    return [*found, _runs(path)]


def static_rows(path: Path, target: Target) -> list[Row]:
    """Return the rows that need no runtime. Raises MobilesegError for a damaged file."""
    return rows(read_surface(path), "onnx" if path.suffix == ".onnx" else target)


def require_kept(path: Path, target: Target, rows: Sequence[Row]) -> None:
    """Raise GateError naming the rules that the file violates, if there are any."""
    broken = [row.rule for row in rows if row.verdict == "violated"]
    if broken:
        raise GateError(f"{path}: violates {len(broken)} of {target}'s rules: {'; '.join(broken)}")


def _require_ours(path: Path, target: Target) -> None:
    if path.is_dir():
        raise MobilesegError(f"{path}: is a folder; name a file in it")
    if not path.is_file():
        raise MobilesegError(f"{path}: there is no such file; mobileseg export writes some")
    if path.suffix not in ENDINGS:
        raise MobilesegError(f"{path}: ends in none of {', '.join(ENDINGS)}; name such a file")
    if path.suffix == ".onnx" and target != "raw":
        raise MobilesegError(f"{path}: is ONNX; {target} loads TFLite files only")


def _runs(path: Path) -> Row:
    rule = f"{RUNTIMES[path.suffix]} loads and runs it"
    try:
        require_runs(path)
    except MobilesegError as error:
        return _failed(rule, path, error)
    return Row(rule, "it does", "ok")


def _failed(rule: str, path: Path, error: MobilesegError) -> Row:
    """Return the error as a row; behind its last semicolon stands the mend."""
    what, _, mend = str(error).removeprefix(f"{path}: ").rpartition("; ")
    return Row(rule, printable(what or mend), "violated", mend if what else "export it again")
