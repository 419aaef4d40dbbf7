"""The ladder's rows, the training logs and the files of the runs that a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.files import read_json
from mobileseg.runs import Run
from mobileseg.workflow.consumer import gzip_size
from mobileseg.workflow.device import device
from mobileseg.workflow.ladder import rows_of
from mobileseg.workflow.options import FORMATS
from mobileseg.workflow.report.parts import Gathered, Shown, judged_on

# Without these a row says nothing of a network.
_COUNTED = ("image_size", "params", "macs", "float32_bytes", "int8_bytes", "estimated_ms")


def ladder_rows(runs: Sequence[Shown], gathered: Gathered) -> list[dict[str, Any]]:
    """Return a row per run, counted and priced now; else as it was when it was made, or none."""
    readable = [
        each for each in runs if gathered.attempt("ladder", each.label, _readable, each.run)
    ]
    counted = rows_of([each.run for each in readable]) if readable else []
    fresh = {
        each.run: row | {"split": judged_on(each.run.recipe())}
        for each, row in zip(readable, counted, strict=True)
    }
    rows = []
    for each in runs:
        row = fresh.get(each.run) or gathered.attempt("ladder", each.label, _stored, each.run)
        if row is not None:
            rows.append(row | {"label": each.label})
            _note_lacks(row, each, gathered)
    _name_parents(rows, runs)
    return rows


def _note_lacks(row: Mapping[str, Any], each: Shown, gathered: Gathered) -> None:
    if not any(key.endswith("_gzip_bytes") for key in row):
        gathered.lacks("files", each.label, "does not say how large its files are gzipped")
    if "miou_percent" not in row:
        gathered.lacks("ladder", each.label, "is counted and priced, but not trained")


def _readable(run: Run) -> bool:
    """Raises MobilesegError where the run's files, or the devices of its recipe, are not known."""
    recipe = run.recipe()
    for name in recipe.devices:
        device(name)
    return bool(recipe[run.folder.name]) and bool(run.spec())


def _stored(run: Run) -> dict[str, Any]:
    row = run.report()
    lacking = [key for key in _COUNTED if key not in row]
    if lacking:
        raise MobilesegError(f"{run.report_path}: says nothing of {', '.join(lacking)}")
    return row | {"step": run.name}


def _name_parents(rows: list[dict[str, Any]], runs: Sequence[Shown]) -> None:
    """Call the parents as the page calls the runs; an unshown one keeps its name."""
    labels = {each.run.name: each.label for each in runs}
    for row in rows:
        parent = row.get("parent")
        row["parent"] = labels.get(str(parent), parent)


def histories(runs: Sequence[Shown], gathered: Gathered) -> list[dict[str, Any]]:
    """Return the training logs: of float, and of the training as int8 where there is one."""
    found = []
    for each in runs:
        records = gathered.attempt("training", each.label, each.run.history)
        if records:
            found.append({"label": each.label, "history": records})
        elif records is not None:
            gathered.lacks("training", each.label, "has no training log (train.jsonl)")
        records = gathered.attempt("training", each.label, each.run.qat.history)
        if records:
            found.append({"label": f"{each.label} as int8", "history": records})
    return found


def files(runs: Sequence[Shown], gathered: Gathered) -> list[dict[str, Any]]:
    """Return the exported files: bytes, raw and gzipped, and what their runtime made of them."""
    found = []
    for each in runs:
        folder = each.run.export_folder
        paths = [path for kind in FORMATS for path in sorted(folder.glob(f"*.{kind}"))]
        if not paths:
            gathered.lacks("files", each.label, "has no exported files; mobileseg export RUN")
        found += [_file(each, path, gathered) for path in paths]
    return found


def _file(each: Shown, path: Path, gathered: Gathered) -> dict[str, Any]:
    data = path.read_bytes()
    row = {"label": each.label, "file": path.name, "bytes": len(data), "gzip": gzip_size(data)}
    beside = path.with_suffix(".json")
    said = gathered.attempt("files", each.label, read_json, beside)
    if said is not None:
        row["check"] = _check(said, path.name)
    return row


def _check(said: Any, name: str) -> dict[str, Any] | None:
    """Return what the export found when it compared this file with its graph, if it says so."""
    entries = said if isinstance(said, list) else []
    for entry in entries:
        if isinstance(entry, dict) and Path(str(entry.get("path", ""))).name == name:
            check = entry.get("check")
            return check if isinstance(check, dict) else None
    return None
