"""`mobileseg check`: a file against its consumer's rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mobileseg.cli.common import Json, show

app = typer.Typer()


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Anybody's .tflite or .onnx file.")],
    target: Annotated[
        Literal["raw", "task", "mediapipe"],
        typer.Option(help="Whose rules: the bare runtime's, Task Library's or MediaPipe's."),
    ] = "raw",
    as_json: Json = False,
) -> None:
    """Check a file against the rules of what will load it; exit code 3 where one is violated.

    Example: mobileseg check net.tflite --target mediapipe
    """
    from mobileseg.report_check import rules_table
    from mobileseg.workflow.check import check as run_check
    from mobileseg.workflow.check import require_kept

    rows = run_check(file, target)
    facts = [row.as_dict() for row in rows]
    title = f"{file.name} for {target}"
    show({"file": str(file), "target": target, "rows": facts}, [rules_table(facts, title)], as_json)
    require_kept(file, target, rows)
