"""`mobileseg devices`: the profiles that latency is estimated from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobileseg.cli.common import (
    Json,
    say,
    show,
)

app = typer.Typer(no_args_is_help=True, help="The devices that latency is estimated for.")


@app.command("ls")
def ls(as_json: Json = False) -> None:
    """List the devices with what stands behind their figures.

    Example: mobileseg devices ls
    """
    from mobileseg.report.latency import devices_table
    from mobileseg.workflow.device import device_facts

    rows = device_facts()
    show(rows, [devices_table(rows)], as_json)


@app.command("transfer")
def transfer(
    base: Annotated[str, typer.Argument(help="A measured device with the same core.")],
    chip: Annotated[str, typer.Argument(help="Chip with known facts, as Snapdragon 730G.")],
    out: Annotated[Path, typer.Option(help="Profile to write.")],
) -> None:
    """Scale a device's profile to a chip that nobody measured: same core, other clock.

    Example: mobileseg devices transfer pixel4 "Snapdragon 730G" --out mine.toml
    """
    from mobileseg.workflow.device import transfer_device

    transfer_device(base, chip, out)
    print(out)
    say(f"next: mobileseg latency RECIPE --device {out}")


@app.command("fit")
def fit(
    names: Annotated[list[str] | None, typer.Argument(help="Devices; all of them.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write profiles to.")] = Path(
        "assets/devices"
    ),
) -> None:
    """Fit device profiles to the published measurements, and print the cross-validated errors.

    Example: mobileseg devices fit pixel4 --out profiles/
    """
    from mobileseg.files import shipped
    from mobileseg.latency.fit import fit_devices

    for path in fit_devices(shipped("assets", "latency"), out, say, names or []):
        print(path)
