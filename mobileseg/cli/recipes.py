"""`mobileseg recipes`: the recipes that come with mobileseg."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from mobileseg.cli.common import (
    RUNS,
    Data,
    Json,
    RecipeArg,
    Set,
    show,
)

app = typer.Typer(no_args_is_help=True, help="The recipes that come with mobileseg.")


@app.command("ls")
def ls(as_json: Json = False) -> None:
    """List the shipped recipes.

    Example: mobileseg recipes ls
    """
    from mobileseg.recipe import shipped_recipes

    found = shipped_recipes()
    said = {name: _first_comment(path) for name, path in found.items()}
    if as_json:
        print(json.dumps(said, indent=2))
        return
    for name, comment in said.items():
        print(f"{name:16} {comment}")


@app.command("cat")
def cat(recipe: RecipeArg) -> None:
    """Print a recipe, to start your own from.

    Example: mobileseg recipes cat portrait > mine.toml
    """
    from mobileseg.recipe import recipe_text

    print(recipe_text(recipe), end="")


@app.command("keys")
def keys(
    section: Annotated[
        str | None, typer.Argument(help="One table, as train or step.prune; all of them.")
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a page of recipes/README.md's kind.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say every key that a recipe may have: what may stand there, its default, what it does.

    Example: mobileseg recipes keys augment
    """
    from mobileseg.report.recipe_keys import sections
    from mobileseg.report.recipe_page import keys_page, keys_table

    found = sections(section)
    if as_markdown:
        print(keys_page(found), end="")
        return
    show([dataclasses.asdict(each) for each in found], map(keys_table, found), as_json)


@app.command("validate")
def validate(
    recipe: RecipeArg, data: Data = None, overrides: Set = None, as_json: Json = False
) -> None:
    """Check a recipe and that its data is there: every mistake is listed, with its place.

    Example: mobileseg recipes validate mine.toml
    """
    from mobileseg.recipe import read_recipe
    from mobileseg.train.pairs import pairs
    from mobileseg.workflow.plan import plan
    from mobileseg.workflow.ready import check_steps

    read = read_recipe(recipe, overrides or [], data)
    pairs(read.data, "train")
    rungs = plan(read, RUNS)
    check_steps(read, rungs)
    steps = [rung.step.name for rung in rungs]
    if as_json:
        print(json.dumps({"recipe": read.name, "steps": steps}))
    else:
        print(f"{recipe}: good; steps {', '.join(steps)}")


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()
