"""The ladder's verbs: slim climbs one, compare sets steps of several side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from mobileseg.cli.common import (
    RUNS,
    Compute,
    Data,
    Devices,
    Json,
    Plot,
    RecipeArg,
    Runs,
    Set,
    command_line,
    say,
    share_out,
    show,
    width,
)

app = typer.Typer()


@app.command()
def slim(
    recipe: RecipeArg,
    data: Data = None,
    overrides: Set = None,
    runs: Runs = RUNS,
    step: Annotated[str | None, typer.Option(help="Climb to this step only.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print all that needs no training.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--restart",
            help="Go on where a run broke off; or make anew what another recipe or data made.",
        ),
    ] = True,
    compute: Compute = "cpu",
    devices: Devices = 1,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write its events into each step's folder, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Climb a recipe's ladder: slim, train, quantize, price and compare every step.

    Example: mobileseg slim recipes/portrait.toml

    Example: mobileseg slim recipes/portrait.toml --compute cuda --devices 4
    """
    from mobileseg.errors import GateError
    from mobileseg.recipe import read_recipe
    from mobileseg.report.ladder import exports_table, ladder_tables

    read = read_recipe(recipe, overrides or [], data)
    if not dry_run:
        share_out(devices)
    # These wait for torch, which a process that only starts others has no use for.
    from mobileseg.train.parallel.team import join
    from mobileseg.workflow import ladder
    from mobileseg.workflow.rung import SlimOptions, help_train

    if dry_run:
        steps = ladder.dry_run(read, runs)
        show({"recipe": read.name, "steps": steps}, ladder_tables(steps, width()), as_json)
        return
    team = join()
    options = SlimOptions(
        runs,
        team.device(compute),
        not resume,
        only=step,
        team=team,
        command=command_line(),
        tensorboard=tensorboard,
    )
    if not team.leads:
        help_train(read, options)
        return
    done = ladder.slim(read, options, say)
    team.end()
    note = f"mIoU: class mean over {done['test_images']} pictures of the {done['test_split']} split"
    tables = ladder_tables(done["steps"], width(), note)
    if done["exported"]:
        tables.append(exports_table(done["exported"]))
    show(done, tables, as_json)
    last = step or done["steps"][-1]["step"]
    where = runs / read.name
    say(f"wrote {where / 'report.json'}")
    if done["export_error"]:
        raise GateError(done["export_error"])
    elsewhere = "" if runs == RUNS else f" --runs {runs}"
    say(f"next: mobileseg predict {read.name}/{last} PHOTO.jpg{elsewhere}")


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Runs: NAME/STEP, or NAME for all its steps.")],
    plot: Plot = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Compare trained steps, of one ladder or of several.

    Times that latency --measure took stand beside the estimates. --plot draws accuracy against
    time and size.

    Example: mobileseg compare portrait portrait-large/v1

    Example: mobileseg compare article --plot ladder.png
    """
    from mobileseg.report.front import front_picture
    from mobileseg.report.ladder import ladder_tables
    from mobileseg.workflow.ladder import compare as run_compare

    rows = run_compare(names, runs)
    if plot is not None:
        front_picture(rows, plot)
    show({"steps": rows}, ladder_tables(rows, width()), as_json)
