"""`mobileseg qat`: train a network on as the int8 graph that ships."""

from __future__ import annotations

from typing import Annotated

import typer

from mobileseg.cli.common import RUNS, Compute, Data, Json, RunArg, Runs, Set, say, show

app = typer.Typer()

Qat = Annotated[
    bool,
    typer.Option("--qat/--no-qat", help="Use what mobileseg qat made of the run, if it did."),
]


@app.command()
def qat(
    run: RunArg,
    overrides: Set = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--restart",
            help="Go on where a training broke off; or make anew what other settings made.",
        ),
    ] = True,
    compute: Compute = "cpu",
    data: Data = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Train a trained run on as int8: quantization-aware training of the very graph that ships.

    Its settings are the recipe's section qat. Export, eval, predict, latency and slim use the
    result. Exits with 3 where it loses more than qat.max_drop points against the float net.

    Example: mobileseg qat portrait/faster --set qat.epochs=10
    """
    from mobileseg.errors import MobilesegError
    from mobileseg.report.int8 import qat_table, verdict_line, verdict_tables
    from mobileseg.runs import find_run
    from mobileseg.train.parallel.launch import ranked
    from mobileseg.workflow.qat import QatOptions, require, train_int8

    if ranked():
        raise MobilesegError("qat: trains in one process; start it without torchrun")
    found = find_run(run, runs)
    recipe = found.recipe().with_changes(overrides or []).with_data(data)
    done = train_int8(found, recipe, QatOptions(compute, not resume), say)
    show(done, [qat_table(done), *verdict_tables(done["trained"])[1:]], as_json)
    say(verdict_line(done["trained"]))
    say(f"wrote {found.qat.folder} and {done['file']['path']}")
    require(done)
