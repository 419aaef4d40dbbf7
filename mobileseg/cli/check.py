"""`mobileseg check`: a file against its consumer's rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mobileseg.cli.common import Json, print_tables, say, show

app = typer.Typer()


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="Anybody's .tflite or .onnx file.")],
    target: Annotated[
        Literal["raw", "task", "mediapipe"],
        typer.Option(help="Whose rules: the bare runtime's, Task Library's or MediaPipe's."),
    ] = "raw",
    arm: Annotated[
        bool, typer.Option("--arm", help="Also run it on emulated Arm cores, and compare.")
    ] = False,
    setup: Annotated[
        bool,
        typer.Option("--setup", help="With --arm: fetch the emulator first, 100 MB, if need be."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a file against the rules of what will load it; exit code 3 where one is violated.

    Example: mobileseg check net.tflite --target mediapipe

    Example: mobileseg check net.tflite --arm --setup
    """
    from mobileseg.report.check import arm_lines, arm_table, rules_table
    from mobileseg.workflow.check import check as run_check
    from mobileseg.workflow.check import require_kept

    if setup and not arm:
        raise typer.BadParameter("--setup belongs to --arm")
    rows = run_check(file, target)
    facts = [row.as_dict() for row in rows]
    done: dict[str, Any] = {"file": str(file), "target": target, "rows": facts}
    rules = rules_table(facts, f"{file.name} for {target}")
    if not arm:
        show(done, [rules], as_json)
        require_kept(file, target, rows)
        return
    if not as_json:
        # It stands, whatever becomes of the run on Arm.
        print_tables([rules])
    from mobileseg.workflow.arm import check_arm

    on_arm = check_arm(file, setup, say)
    done["arm"] = on_arm.as_dict()
    show(done, [arm_table(done["arm"], f"{file.name} on emulated Arm cores")], as_json)
    say("\n".join(arm_lines(done["arm"])))
    require_kept(file, target, rows)
    on_arm.require()
