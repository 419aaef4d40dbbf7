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

    Example: mobileseg weights import v1.npz --images photos/ --out v1.safetensors
    """
    from mobileseg.nets.pretrained import import_command

    import_command(npz, images, out, until)
    print(f"wrote {out}")
