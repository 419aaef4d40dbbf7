"""The verb that shows all of it: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobileseg.cli.common import RUNS, Data, Json, Runs, command_line, say, show

app = typer.Typer()


@app.command()
def report(
    names: Annotated[list[str], typer.Argument(help="Runs: NAME/STEP, or NAME for all its steps.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; by default report.html in the run's or ladder's folder."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=1, help="Test pictures to look at; the worst of them are shown.")
    ] = 32,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Run no network: quick, and without overlays.")
    ] = False,
    data: Data = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write one HTML file of runs: tables, charts, worst pictures. It needs no network.

    Example: mobileseg report portrait
    """
    from mobileseg.report.cells import size
    from mobileseg.report.written import written_tables
    from mobileseg.workflow.report.make import ReportOptions
    from mobileseg.workflow.report.make import report as run_report

    options = ReportOptions(out, 0 if no_pictures else pictures, data, command_line())
    done = run_report(names, options, runs, say).as_dict()
    show(done, written_tables(done), as_json)
    say(f"wrote {done['report']} ({size(done['bytes'])}): open it in a browser")
