"""`mobileseg demo`: try a run in the browser, on this machine or on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobileseg.cli.common import RUNS, Json, Runs, say, show

app = typer.Typer()


@app.command()
def demo(
    run: Annotated[
        str | None, typer.Argument(help="NAME/STEP, NAME (its last step), or a folder.")
    ] = None,
    lan: Annotated[
        bool,
        typer.Option("--lan", help="To this machine's network, with https; else to itself alone."),
    ] = False,
    http: Annotated[
        bool,
        typer.Option("--http", help="With --lan: without encryption, and so without the camera."),
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="With --lan: this machine's address; found by default.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="0 for any; by default the next free one from 8760."),
    ] = None,
    setup: Annotated[
        bool,
        typer.Option("--setup", help="Fetch LiteRT.js by npm first, 12 MB, if need be."),
    ] = False,
    runtime: Annotated[
        Path | None, typer.Option(help="A node_modules folder that has LiteRT.js.")
    ] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Serve a page that runs the exported files on the camera or on pictures, in the browser.

    What the page measures and sends is kept in the run's latency/browser.json.

    Example: mobileseg demo --setup

    Example: mobileseg demo portrait/faster

    Example: mobileseg demo portrait/faster --lan
    """
    if run is None and not setup:
        raise typer.BadParameter("give a run, or --setup alone")
    if not lan and (http or address):
        raise typer.BadParameter("--http and --address belong to --lan")
    if setup and runtime is not None:
        raise typer.BadParameter("--setup and --runtime; give one of them")
    from mobileseg.demo.runtime import set_up

    if setup:
        say(f"LiteRT.js is in {set_up(say)}")
    if run is None:
        say("next: mobileseg demo RUN")
        return
    from mobileseg.report.demo import browser_table
    from mobileseg.runs import find_run

    found = find_run(run, runs)
    from mobileseg.demo.measurement import as_dicts
    from mobileseg.workflow.demo import DemoOptions, open_demo

    served = open_demo(found, DemoOptions(lan, http, address, port, runtime), say)
    served.run_until_stopped()
    say("")
    measured = as_dicts(served.measurements())
    tables = [browser_table(measured, found.name)] if measured else []
    show({"run": found.name, "measurements": measured}, tables, as_json)
