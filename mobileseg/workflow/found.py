"""What a search ends in: the candidates that nothing surpasses, a recipe, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobileseg.errors import MobilesegError
from mobileseg.figure import COLOURS, OTHER, drawing
from mobileseg.files import write_atomic
from mobileseg.recipe import Recipe
from mobileseg.workflow.options import SearchOptions

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


def surpassed(one: tuple[float, float], others: Sequence[tuple[float, float]]) -> int:
    """Return how many of (mIoU, ms) are at least as fast as one, and better."""
    return sum(miou > one[0] and ms <= one[1] for miou, ms in others)


def finished(study: Study) -> list[FrozenTrial]:
    """Return the candidates that were priced, and trained if need be."""
    from optuna.trial import TrialState  # noqa: PLC0415

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def ended(
    recipe: Recipe, options: SearchOptions, study: Study, origin: str, folder: Path
) -> dict[str, Any]:
    """Write the recipe of the best candidate and the plot; return what they show."""
    last = f"round {options.rounds - 1}"
    rows = [
        {
            "candidate": each.number,
            "rounds": sum(f"round {i}" in each.user_attrs for i in range(options.rounds)),
            "val_miou_percent": each.values[0],
            **each.user_attrs["counts"],
            "step": each.user_attrs["step"],
        }
        for each in finished(study)
        if "refused" not in each.user_attrs
    ]
    whole = [row for row in rows if row["rounds"] == options.rounds] or rows
    if not whole:
        raise MobilesegError(
            f"search: no candidate is within {options.budget_ms:g} ms on {options.device}; give "
            "more --trials or a larger --budget-ms"
        )
    points = [(row["val_miou_percent"], row["ms"]) for row in whole]
    front = [row for row, point in zip(whole, points, strict=True) if not surpassed(point, points)]
    best = max(front, key=lambda row: row["val_miou_percent"])
    path = folder / "found.toml"
    write_atomic(path, _found(recipe, origin, best["step"]).encode())
    picture = folder / "search.png"
    _draw(rows, front, options, picture)
    return {
        "study": study.study_name,
        "candidates": len(finished(study)),
        "trained": len(rows),
        "trained_whole": sum(last in each.user_attrs for each in finished(study)),
        "budget_ms": options.budget_ms,
        "device": options.device,
        "front": sorted(front, key=lambda row: row["ms"]),
        "best": best,
        "recipe": str(path),
        "plot": str(picture),
    }


def _found(recipe: Recipe, origin: str, step: dict[str, Any]) -> str:
    """Return the recipe whose last step is the candidate, as TOML."""
    import tomli_w  # noqa: PLC0415

    above = [recipe[origin]]
    while (parent := recipe.parent(above[0])) is not None:
        above.insert(0, parent)
    kept = replace(recipe, name=f"{recipe.name}-found", step=tuple(above))
    table = _brief(kept)
    table["data"]["root"] = str(recipe.data.root.resolve())
    for each in table["step"]:
        each.pop("parent", None)
    table["step"].append({"name": "found", **step})
    return tomli_w.dumps(table)


def _brief(value: Any) -> Any:
    """Return plain data of a dataclass, without what is as ever."""
    if is_dataclass(value):
        return {
            each.name: _brief(own)
            for each in fields(value)
            if (own := getattr(value, each.name)) is not None and own != _default(each)
        }
    if isinstance(value, dict):
        return {key: _brief(own) for key, own in value.items()}
    if isinstance(value, tuple | list):
        return [_brief(own) for own in value]
    return str(value) if isinstance(value, Path) else value


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _draw(
    rows: Sequence[dict[str, Any]],
    front: Sequence[dict[str, Any]],
    options: SearchOptions,
    path: Path,
) -> None:
    with drawing(path, (7.0, 4.5)) as figure:
        axes = figure.add_subplot()
        for number in range(1, options.rounds + 1):
            some = [row for row in rows if row["rounds"] == number]
            axes.scatter(
                [row["ms"] for row in some],
                [row["val_miou_percent"] for row in some],
                color=COLOURS[0] if number == options.rounds else OTHER,
                alpha=number / options.rounds,
                label=f"{number} of {options.rounds} rounds",
            )
        line = sorted(front, key=lambda row: row["ms"])
        axes.plot(
            [row["ms"] for row in line],
            [row["val_miou_percent"] for row in line],
            color=COLOURS[1],
            drawstyle="steps-post",
            label="nothing faster is better",
        )
        axes.axvline(options.budget_ms, color=COLOURS[5], linestyle="--", label="budget")
        axes.set(xlabel=f"{options.device}, int8, estimated ms", ylabel="val mIoU, %")
        axes.legend()
