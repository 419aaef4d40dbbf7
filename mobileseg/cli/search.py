"""`mobileseg search`: a network within a budget, from a recipe's."""

from __future__ import annotations

from typing import Annotated

import typer

from mobileseg.cli.common import RUNS, Compute, Data, Json, RecipeArg, Runs, Set, say, show

app = typer.Typer()


@app.command()
def search(
    recipe: RecipeArg,
    budget_ms: Annotated[float, typer.Option(min=0.001, help="Most milliseconds, int8.")],
    device: Annotated[str | None, typer.Option(help="Phone; else the recipe's first.")] = None,
    origin: Annotated[
        str | None, typer.Option("--from", help="Step whose network is changed; else the first.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Candidates, all workers' together.")] = 40,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the last round.")] = 8,
    rounds: Annotated[
        int, typer.Option(min=1, max=8, help="Rounds of trainings, each half as long as the next.")
    ] = 3,
    storage: Annotated[
        str | None,
        typer.Option(help="Database for several machines, as postgresql://user@host/name."),
    ] = None,
    compute: Compute = "cpu",
    data: Data = None,
    overrides: Set = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Search sides, widths, depth and decoder for the best network within a budget on a phone.

    Candidates over the budget are not trained; of the others few train to the end. The same
    command goes on with a search, and beside it, or on another machine with the same --storage,
    works on it too. Ends in a recipe, RUNS/NAME/search/found.toml, and a plot.

    Example: mobileseg search portrait --device pixel4 --budget-ms 2
    """
    from mobileseg.recipe import read_recipe
    from mobileseg.report.search import search_table
    from mobileseg.workflow.options import SearchOptions
    from mobileseg.workflow.search import search as run

    read = read_recipe(recipe, overrides or [], data)
    phone = device or read.devices[0]
    options = SearchOptions(
        runs, phone, budget_ms, origin, trials, epochs, rounds, storage, compute
    )
    found = run(read, options, say)
    show(found, [search_table(found)], as_json)
    say(f"wrote {found['plot']}")
    say(f"next: mobileseg slim {found['recipe']}")
