"""`mobileseg quantize`: judge a network in int8."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from mobileseg.cli.common import RUNS, Data, Json, RunArg, Runs, say, show

app = typer.Typer()

Images = Annotated[
    int | None, typer.Option("--images", min=1, help="Training pictures that calibrate int8.")
]
MaxDrop = Annotated[
    float | None, typer.Option(help="Points of mIoU that int8 may lose; more exits with 3.")
]

RepairBy = Annotated[
    str | None,
    typer.Option("--repair", help="none, or what to do against the loss: equalise,bias."),
]


def given(**options: Any) -> dict[str, Any]:
    """Return those keys of [quantize] that a person gave on the command line.

    Text is a list with commas, `none` the empty one.
    """
    return {
        key: _listed(value) if isinstance(value, str) else value
        for key, value in options.items()
        if value is not None
    }


def _listed(text: str) -> list[str]:
    return [] if text == "none" else [word.strip() for word in text.split(",")]


@app.command()
def quantize(
    run: RunArg,
    max_drop: MaxDrop = None,
    repair: RepairBy = None,
    images: Images = None,
    split: Annotated[
        Literal["val", "test"], typer.Option(help="Part of the data to judge on.")
    ] = "val",
    data: Data = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Judge a network in int8: float beside int8, per class, and the pictures that lose most.

    Writes quantize/report.json in the run's folder. Exits with 3 where int8 loses too much, and
    names the layers to blame.

    Example: mobileseg quantize portrait/final --max-drop 0.3
    """
    from mobileseg.report_quantize import verdict_line, verdict_tables
    from mobileseg.runs import find_run
    from mobileseg.workflow.quantize import QuantizeOptions
    from mobileseg.workflow.quantize import quantize as run_quantize

    found = find_run(run, runs)
    options = QuantizeOptions(given(max_drop=max_drop, images=images, repair=repair), split)
    judged = run_quantize(found, options, data)
    done = judged.as_dict()
    show(done, verdict_tables(done["verdict"]), as_json)
    say(verdict_line(done["verdict"]))
    say(f"wrote {judged.path}")
    judged.verdict.require(found.name)
