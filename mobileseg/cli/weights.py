"""`mobileseg weights`: what recipes start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobileseg.cli.common import RUNS, Runs

app = typer.Typer(no_args_is_help=True, help="Weights that recipes start from.")


@app.command("import")
def import_(
    npz: Annotated[Path, typer.Argument(help="Weights as .npz, its .ops.json beside it.")],
    images: Annotated[Path, typer.Option(help="Folder of pictures for batch-norm statistics.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    until: Annotated[str | None, typer.Option(help="Last block to keep, as conv5_5.")] = None,
) -> None:
    """Turn folded ImageNet MobileNetV1 or V2 weights into encoder weights with batch norm.

    What was written is held against the published network on the first pictures; where the file
    holds its classifier, too, by their likeliest classes.

    Example: mobileseg weights import v1.npz --images photos/ --out v1.safetensors
    """
    from mobileseg.nets.pretrained import import_command

    _, found = import_command(npz, images, out, until)
    for number, (ours, theirs) in enumerate(zip(found.ours, found.published, strict=True), 1):
        words = " ".join(map(str, ours))
        print(f"picture {number}: classes {words}; published: {' '.join(map(str, theirs))}")
    print(
        f"verified on {found.pictures} pictures: differs from the published network by "
        f"{100 * found.error:.2f} %, root mean square"
    )
    if found.ours:
        print(f"likeliest class as published: {found.agreeing} of {found.pictures} pictures")
    print(f"wrote {out}")


@app.command("export")
def export(
    run: Annotated[str, typer.Argument(help="A trained run: NAME/STEP, or NAME.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    runs: Runs = RUNS,
) -> None:
    """Write a run's network as one file that any recipe can start from: weights = "FILE".

    Weights are stored as float16, norms as float32; network, recipe and figures stand beside them.

    Example: mobileseg weights export portrait/base --out people.safetensors
    """
    from mobileseg.runs import find_run
    from mobileseg.workflow.weights import export_weights

    export_weights(find_run(run, runs), out)
    print(f"wrote {out}")
