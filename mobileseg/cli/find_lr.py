"""`mobileseg find-lr`: a learning rate before hours go into one."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from mobileseg.cli.common import RUNS, Compute, Data, Json, Plot, RecipeArg, Runs, Set, say, show

app = typer.Typer()


@app.command("find-lr")
def find_lr(
    recipe: RecipeArg,
    step: Annotated[str | None, typer.Option(help="Step; else the first trained one.")] = None,
    low: Annotated[float, typer.Option("--from", min=1e-12, help="Lowest rate.")] = 1e-6,
    high: Annotated[float, typer.Option("--to", min=1e-12, help="Highest rate.")] = 1.0,
    steps: Annotated[int, typer.Option(min=10, max=100_000, help="Batches.")] = 150,
    plot: Plot = None,
    compute: Compute = "cpu",
    data: Data = None,
    overrides: Set = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Train a few batches at growing learning rates, and say with which the loss falls steepest.

    Example: mobileseg find-lr portrait --plot rates.png
    """
    from mobileseg.recipe import read_recipe
    from mobileseg.report.training import rates_table
    from mobileseg.workflow.find_lr import find_lr as find

    if not low < high < math.inf:
        raise typer.BadParameter(f"--from {low:g} --to {high:g}: give two numbers, the lower first")
    read = read_recipe(recipe, overrides or [], data)
    found = find(read, runs, step, (low, high), steps, compute, plot)
    show(found, [rates_table(found)], as_json)
    if found["left_out"]:
        say(f"tried as plain training, without the step's {', '.join(found['left_out'])}")
    best = found["suggested_lr"]
    if best is None:
        say("the loss fell nowhere: try lower rates with --from, or more batches with --steps")
    else:
        say(f"steepest at lr {best:.2g}; the recipe has {found['recipe_lr']:.2g}")
