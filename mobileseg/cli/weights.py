"""`mobileseg weights`: pretrained encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Pretrained encoder weights.")


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
