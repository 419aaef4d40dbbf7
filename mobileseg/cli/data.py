"""`mobileseg data`: what a recipe's pictures are like, before a training takes hours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mobileseg.cli.common import RUNS, Data, Json, RecipeArg, Runs, Set, say, show

app = typer.Typer(no_args_is_help=True, help="Check a recipe's pictures, and see them augmented.")


@app.command()
def check(
    recipe: RecipeArg, data: Data = None, overrides: Set = None, as_json: Json = False
) -> None:
    """Find bad, repeated and shared pictures: exit code 1 if no training should begin.

    Every file is opened. Serious: what cannot be read, masks of another size or with other numbers
    than the classes', a class that no train mask shows, pictures of one split in another. Worth a
    look: one colour or class everywhere, pictures that are there twice.

    Example: mobileseg data check portrait --data DIR
    """
    from mobileseg.errors import MobilesegError
    from mobileseg.recipe import read_recipe
    from mobileseg.report.data import data_tables
    from mobileseg.workflow.data import check_data

    found = check_data(read_recipe(recipe, overrides or [], data))
    show(found, data_tables(found), as_json)
    if found["serious"]:
        what = "1 thing" if found["serious"] == 1 else f"{found['serious']} things"
        raise MobilesegError(f"data: {what} to mend before a training; listed above")
    say("nothing that a training would stumble over")


@app.command()
def preview(
    recipe: RecipeArg,
    out: Annotated[
        Path | None, typer.Option(help="The .png file to write; else in the recipe's runs.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, max=64, help="Pictures.")] = 6,
    each: Annotated[
        bool, typer.Option("--each", help="A row per augmentation, switched on alone.")
    ] = False,
    split: Annotated[Literal["train", "val", "test"], typer.Option()] = "train",
    step: Annotated[
        str | None, typer.Option(help="Step whose own augmentation is drawn, if it has one.")
    ] = None,
    data: Data = None,
    overrides: Set = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Draw pictures as the training changes them, their masks laid over, on one sheet.

    Example: mobileseg data preview portrait --each --out sheet.png
    """
    from mobileseg.recipe import read_recipe
    from mobileseg.runs import ladder_folder
    from mobileseg.workflow.data import preview as draw

    if out is not None and out.suffix != ".png":
        raise typer.BadParameter(f"{out}: the sheet is a .png file")
    read = read_recipe(recipe, overrides or [], data)
    facts = draw(read, out or ladder_folder(runs, read) / "preview.png", rows, each, split, step)
    show(facts, [], as_json)
    say(f"wrote {facts['sheet']}")
