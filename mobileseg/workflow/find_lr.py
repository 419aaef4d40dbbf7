"""`mobileseg find-lr`: a step's network from its first weights, at every learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError, unknown
from mobileseg.figure import COLOURS, drawing
from mobileseg.nets.module import build
from mobileseg.recipe import Recipe
from mobileseg.train import data as train_data
from mobileseg.train.console import Display
from mobileseg.train.find_lr import smoothed, suggested, try_rates
from mobileseg.train.optim import slower_inherited
from mobileseg.workflow.inherited import inherited_weights, parent_of
from mobileseg.workflow.plan import Rung, plan

# Keys of a step that change its training; here it is tried without.
_LEFT_OUT = ("sparse", "cluster", "distill")


def find_lr(
    recipe: Recipe,
    runs: Path,
    step: str | None,
    rates: tuple[float, float],
    steps: int,
    device: str,
    picture: Path | None,
) -> dict[str, Any]:
    """Return the rates, their losses and the one to take; draw them if `picture` names a file.

    step: by default the first that is trained. It is trained plainly; `left_out` names the step's
    keys that would change that. Nothing is written into the run.
    """
    rungs = plan(recipe, runs)
    trained = {rung.step.name: rung for rung in rungs if rung.step.train}
    name = step or next(iter(trained), "")
    if name not in trained:
        raise unknown("--step", "trained step", name, trained)
    rung = trained[name]
    _require_pruned(rung, rungs)
    inherited = inherited_weights(recipe, rung, rungs)
    net = build(rung.spec, recipe.seed)
    net.load_state_dict(inherited.state)
    config = recipe.training(rung.step)
    size = rung.spec.image_size
    with Display(steps, 0, True) as display:
        tried = try_rates(
            net,
            train_data.load(recipe.data, "train", size, cache_dir=rung.run.folder / "cache"),
            recipe.data,
            config,
            recipe.augmentation(rung.step),
            size,
            low=rates[0],
            high=rates[1],
            steps=steps,
            seed=recipe.seed,
            device=device,
            lr_scale=slower_inherited(inherited.fresh, config.encoder_lr),
            heads=rung.spec.heads(),
            progress=lambda done, lr: display.step(done, f"lr {lr:.2g}"),
        )
    found: dict[str, Any] = {
        "step": name,
        "left_out": [key for key in _LEFT_OUT if getattr(rung.step, key) is not None],
        "recipe_lr": config.lr,
        "suggested_lr": suggested(tried),
        "steps": len(tried),
        "tried": [
            {"lr": each.lr, "loss": each.loss, "smooth": float(smooth)}
            for each, smooth in zip(tried, smoothed(tried), strict=True)
        ],
    }
    if picture is not None:
        _draw(found, picture)
    return found


def _require_pruned(rung: Rung, rungs: list[Rung]) -> None:
    """Raise where the widths of the step, or of one that it comes from, are not chosen yet."""
    at: Rung | None = rung
    while at is not None:
        if at.step.prune is not None and at.run.begun().get("recipe") != at.key:
            name = at.step.name
            raise MobilesegError(
                f"find-lr: step {name!r} of this recipe is not pruned yet; climb to it first: "
                f"mobileseg slim RECIPE --step {name}"
            )
        at = parent_of(at, rungs)


def _draw(found: dict[str, Any], path: Path) -> None:
    rates = [each["lr"] for each in found["tried"]]
    with drawing(path, (7.0, 4.0)) as figure:
        axes = figure.add_subplot()
        axes.plot(rates, [each["loss"] for each in found["tried"]], color="#cccccc", linewidth=0.8)
        axes.plot(rates, [each["smooth"] for each in found["tried"]], color=COLOURS[0])
        for lr, word, colour in (
            (found["suggested_lr"], "suggested", COLOURS[2]),
            (found["recipe_lr"], "the recipe's", COLOURS[1]),
        ):
            if lr is not None:
                axes.axvline(lr, color=colour, linestyle="--", label=f"{word}: {lr:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title=found["step"])
        axes.xaxis.set_major_formatter(lambda lr, _: f"{lr:.0e}")
        axes.legend()
