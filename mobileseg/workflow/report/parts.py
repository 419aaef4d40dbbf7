"""What a report is gathered with: a part that cannot be had is named, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from mobileseg.errors import MobilesegError
from mobileseg.recipe import Recipe
from mobileseg.runs import Run
from mobileseg.train.pairs import Split

Part: TypeAlias = Literal["ladder", "layers", "files", "int8", "pictures", "training", "commands"]
T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """A run and what the page calls it."""

    run: Run
    label: str


@dataclass
class Gathered:
    """What is missing, in the order in which it was looked for."""

    missing: list[dict[str, str]] = field(default_factory=list)

    def lacks(self, part: Part, label: str, why: str) -> None:
        """Note that a run has no such part, and why."""
        self.missing.append({"part": part, "run": label, "why": why})

    def attempt(self, part: Part, label: str, make: Callable[..., T], *given: object) -> T | None:
        """Return `make(*given)`; None where it raises MobilesegError, which is noted."""
        try:
            return make(*given)
        except MobilesegError as error:
            self.lacks(part, label, str(error))
            return None


def judged_on(recipe: Recipe) -> Split:
    """Return the part of the data that a step's figures are of."""
    return "val" if recipe.data.test is None else "test"


def shown(runs: list[Run]) -> list[Shown]:
    """Return the runs with their names: the steps' alone where all are of one ladder.

    Runs of the same name in different places are called by their folders.
    """
    alone = len({run.folder.resolve().parent for run in runs}) == 1
    names = [run.folder.name if alone else run.name for run in runs]
    alike = {name for name in names if names.count(name) > 1}
    return [
        Shown(run, str(run.folder) if name in alike else name)
        for run, name in zip(runs, names, strict=True)
    ]
