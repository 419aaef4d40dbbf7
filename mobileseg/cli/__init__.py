"""The command line: parse, call one workflow function, show. Heavy imports stay inside verbs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mobileseg import __version__
from mobileseg.cli import (
    check,
    data,
    demo,
    devices,
    find_lr,
    latency,
    nets,
    profile,
    qat,
    quantize,
    recipes,
    report,
    runs,
    search,
    slim,
    weights,
)
from mobileseg.cli.common import say
from mobileseg.errors import GateError, MobilesegError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Take a segmentation network to a phone: slim, train, quantize, export, price.",
)
app.add_typer(slim.app)
app.add_typer(runs.app)
app.add_typer(report.app)
app.add_typer(check.app)
app.add_typer(quantize.app)
app.add_typer(qat.app)
app.add_typer(profile.app)
app.add_typer(search.app)
app.add_typer(find_lr.app)
app.add_typer(demo.app)
app.add_typer(latency.app, name="latency")
app.add_typer(data.app, name="data")
app.add_typer(devices.app, name="devices")
app.add_typer(nets.app, name="nets")
app.add_typer(recipes.app, name="recipes")
app.add_typer(weights.app, name="weights")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line. Exit codes: 1 bad input, 2 usage, 3 a quality gate failed."""
    # A thread that waits gives its core away, after some microseconds. With torch's long spinning
    # two trainings on one machine take twenty times as long; with none at all a small network
    # alone takes half as long again.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except GateError as error:
        _fail(error, 3)
    except MobilesegError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        sys.exit(130)


def _fail(error: MobilesegError, code: int) -> None:
    say("\n".join(f"error: {line}" for line in str(error).splitlines()))
    sys.exit(code)
