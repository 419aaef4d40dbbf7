"""`mobileseg profile`: where the memory of a training goes."""

from __future__ import annotations

from typing import Annotated

import typer

from mobileseg.cli.common import RUNS, Json, RecipeArg, Runs, Set, parse_size, say, show

app = typer.Typer()


@app.command()
def profile(
    recipe: RecipeArg,
    train: Annotated[
        bool, typer.Option("--train", help="The training's memory; there is no other yet.")
    ] = False,
    step: Annotated[str | None, typer.Option(help="Step whose network; else the first.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures; else the recipe's.")] = None,
    image: Annotated[str | None, typer.Option(help="HEIGHT,WIDTH; the step's.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Run steps here, for their time and their peak.")
    ] = False,
    overrides: Set = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Count what a training keeps for the way back, and its peak, for every way to save memory.

    The ways are what a recipe says under [train]: memory = "lean", recompute = ["block*"],
    precision = "bfloat16" (float16 takes as much), accumulate = 2, and these together.

    Example: mobileseg profile deeplabv3plus_xception65 --train --image 1024,2048 --batch 1
    """
    from mobileseg.errors import MobilesegError
    from mobileseg.recipe import read_recipe
    from mobileseg.report.training import memory_tables
    from mobileseg.workflow.memory import Asked, training_memory

    if not train:
        raise MobilesegError(
            "profile: say --train; what a phone needs is told by latency and export --explain"
        )
    read = read_recipe(recipe, overrides or [])
    asked = Asked(step, batch, parse_size(image) if image else None, measure)
    found = training_memory(read, runs, asked)
    show(found, memory_tables(found), as_json)
    sides = "x".join(map(str, found["image_size"]))
    say(f"{found['step']}: {found['batch_size']} pictures of {sides}")
