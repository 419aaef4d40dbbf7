"""Runs to one HTML file: what is known of them, and by name what is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.files import read_json, write_atomic
from mobileseg.latency.board import machine
from mobileseg.report.html.page import page
from mobileseg.runs import find_runs
from mobileseg.workflow.ladder import versions
from mobileseg.workflow.report.layers import layers, measured, sensitivity
from mobileseg.workflow.report.parts import Gathered, Shown, shown
from mobileseg.workflow.report.pictures import pictures
from mobileseg.workflow.report.steps import files, histories, ladder_rows

Say = Callable[[str], None]


@dataclass(frozen=True)
class ReportOptions:
    """What is asked. pictures: so many test pictures are looked at; 0: none.

    out: the file; by default `report.html` in the run's folder, or in the ladder's. data: folder
    in the place of the recipe's. command: what the person typed, to be shown.
    """

    out: Path | None = None
    pictures: int = 32
    data: Path | None = None
    command: str = ""


@dataclass(frozen=True)
class Written:
    """The file, and how much of each part it holds; `missing` names the parts that it lacks."""

    path: Path
    bytes: int
    parts: dict[str, int]
    missing: list[dict[str, str]]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "report": str(self.path),
            "bytes": self.bytes,
            "parts": self.parts,
            "missing": self.missing,
        }


def report(
    names: Sequence[str], options: ReportOptions, runs: Path, say: Say = lambda _: None
) -> Written:
    """Write the page of these runs, of a ladder with the steps that were only counted.

    Raises MobilesegError where there is no such run, nothing is known of any, or nowhere to write.
    """
    found = {
        run.folder.resolve(): run for name in names for run in find_runs(name, runs, counted=True)
    }
    every = shown(list(found.values()))
    out = _out(every, options.out)
    gathered = Gathered()
    say("counting and pricing")
    rows = ladder_rows(every, gathered)
    if not rows:
        raise MobilesegError("\n".join(each["why"] for each in gathered.missing))
    parts: dict[str, list[dict[str, Any]]] = {
        "ladder": rows,
        "layers": layers(every, gathered),
        "measured": measured(every, gathered),
        "sensitivity": sensitivity(every, gathered),
        "files": files(every, gathered),
        "training": histories(every, gathered),
        "pictures": [],
    }
    if options.pictures:
        say("looking at pictures")
        parts["pictures"] = pictures(every, gathered, options.pictures, options.data)
    else:
        gathered.lacks("pictures", "all", "were not asked for (--no-pictures)")
    facts = parts | {
        "title": _title(every),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commands": _commands(every, options.command, gathered),
        "recipes": _recipes(every, gathered),
        "environment": _environment(every),
        "missing": gathered.missing,
    }
    text = page(facts)
    write_atomic(out, text)
    counts = {name: len(found) for name, found in parts.items()}
    return Written(out, len(text.encode()), counts, gathered.missing)


def _out(every: Sequence[Shown], out: Path | None) -> Path:
    if out is not None:
        if out.is_dir():
            raise MobilesegError(f"--out {out}: is a folder; name a file in it")
        return out
    if len(every) == 1:
        return every[0].run.page_path
    ladders = {each.run.folder.resolve().parent for each in every}
    if len(ladders) > 1:
        raise MobilesegError("runs of several ladders: say where to write with --out FILE")
    return every[0].run.ladder_page_path


def _title(every: Sequence[Shown]) -> str:
    if len(every) == 1:
        return every[0].run.name
    ladders = dict.fromkeys(each.run.folder.resolve().parent.name for each in every)
    return ", ".join(ladders)


def _commands(every: Sequence[Shown], command: str, gathered: Gathered) -> list[dict[str, str]]:
    """Return what made the runs, as far as they say it, and what made the page."""
    made: dict[str, list[str]] = {}
    for each in every:
        said = gathered.attempt("commands", each.label, each.run.report)
        if said is None:
            continue
        if "command" in said:
            made.setdefault(str(said["command"]), []).append(each.label)
        else:
            gathered.lacks(
                "commands", each.label, "does not say what command made it: an older version did"
            )
    found = [
        {"what": f"made {', '.join(labels)}", "command": text} for text, labels in made.items()
    ]
    return found + ([{"what": "made this page", "command": command}] if command else [])


def _recipes(every: Sequence[Shown], gathered: Gathered) -> list[dict[str, Any]]:
    """Return the recipes as used, each once; ladders share one."""
    found: list[dict[str, Any]] = []
    for each in every:
        path = each.run.folder / "recipe.json"
        recipe = gathered.attempt("commands", each.label, read_json, path)
        same = next((one for one in found if one["recipe"] == recipe), None)
        if same is not None:
            same["labels"].append(each.label)
        elif recipe is not None:
            found.append({"labels": [each.label], "recipe": recipe})
    return found


def _environment(every: Sequence[Shown]) -> list[dict[str, Any]]:
    """Return versions: those that the runs were made with, and these here with the machine."""
    found: list[dict[str, Any]] = []
    for each in every:
        try:
            figures = each.run.report()
        except MobilesegError:
            # The ladder has said so already.
            continue
        said = figures.get("versions")
        if not isinstance(said, dict):
            continue
        said = said | {key: figures[key] for key in ("seed", "recipe_digest") if key in figures}
        same = next((one for one in found if one["versions"] == said), None)
        if same is not None:
            same["labels"].append(each.label)
        else:
            found.append({"labels": [each.label], "versions": said})
    here = {key: value for key, value in machine().items() if key != "load" and value}
    return [*found, {"labels": [], "versions": versions() | here}]
