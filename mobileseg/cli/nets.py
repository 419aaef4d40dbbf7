"""`mobileseg nets`: the networks that come with mobileseg."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobileseg.cli.common import Json, parse_size, say, show

app = typer.Typer()


@app.callback(invoke_without_command=True)
def ls(
    context: typer.Context,
    device: Annotated[str, typer.Option(help="Device to price for.")] = "pixel4",
    as_json: Json = False,
) -> None:
    """List the networks: parameters, multiply-adds, int8 file and time on a phone.

    Example: mobileseg nets --device sd855
    """
    if context.invoked_subcommand is not None:
        return
    from mobileseg.report.nets import nets_table
    from mobileseg.workflow.nets import listing

    rows = listing(device, say)
    show(rows, [nets_table(rows)], as_json)


@app.command("show")
def show_net(
    name: Annotated[str, typer.Argument(help="A network's name, or a .toml file with one.")],
    size: Annotated[str, typer.Option(help="HEIGHT,WIDTH; the recipe's.")] = "",
    classes: Annotated[int | None, typer.Option(min=2, max=255)] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw it to this .svg file, too.")] = None,
    as_json: Json = False,
) -> None:
    """Print a network's blocks as a tree, under the names that recipes use.

    Example: mobileseg nets show unet --svg unet.svg
    """
    from mobileseg.report.nets import net_table
    from mobileseg.workflow.nets import describe, require_svg

    if svg is not None:
        require_svg(svg)
    facts = describe(name, parse_size(size) if size else None, classes, svg)
    show(facts, [net_table(facts)], as_json)
    if svg is not None:
        say(f"wrote {svg}")
