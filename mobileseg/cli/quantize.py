"""`mobileseg quantize`: judge a network in int8, mend it, look into it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mobileseg.cli.common import RUNS, Data, Json, RunArg, Runs, say, show

app = typer.Typer()

_LISTS = {"repair", "keep_float"}

Images = Annotated[
    int | None, typer.Option("--images", min=1, help="Training pictures that calibrate int8.")
]
MaxDrop = Annotated[
    float | None, typer.Option(help="Points of mIoU that int8 may lose; more exits with 3.")
]

RepairBy = Annotated[
    str | None,
    typer.Option("--repair", help="none; auto; or some of relu6,equalise,round,bias."),
]

RangesBy = Annotated[
    Literal["mean", "minmax", "moving", "percentile", "mse", "kl"] | None,
    typer.Option("--ranges", help="How activation ranges come from calibration; mean."),
]

KeepFloat = Annotated[
    str | None,
    typer.Option(help="Layers (globs, with commas) to keep in float; auto: the fewest that do."),
]


def given(**options: Any) -> dict[str, Any]:
    """Return those keys of [quantize] that a person gave on the command line.

    Of those that are lists, text has commas between its words, and `none` is the empty one.
    """
    found = {key: value for key, value in options.items() if value is not None}
    for key in _LISTS & found.keys():
        text = found[key]
        if text != "auto":
            found[key] = [] if text == "none" else [word.strip() for word in text.split(",")]
    return found


@app.command()
def quantize(
    run: RunArg,
    max_drop: MaxDrop = None,
    images: Images = None,
    ranges: RangesBy = None,
    repair: RepairBy = None,
    keep_float: KeepFloat = None,
    layers: Annotated[
        bool, typer.Option("--sensitivity", help="Quantize one layer at a time, too.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Folder for a picture of --sensitivity.")
    ] = None,
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

    Example: mobileseg quantize portrait/final --repair auto --sensitivity --plot .
    """
    from mobileseg.report.int8 import quantize_tables, verdict_line
    from mobileseg.runs import find_run
    from mobileseg.workflow.quantize import QuantizeOptions, draw
    from mobileseg.workflow.quantize import quantize as run_quantize

    found = find_run(run, runs)
    changes = given(
        max_drop=max_drop, images=images, ranges=ranges, repair=repair, keep_float=keep_float
    )
    options = QuantizeOptions(changes, split, layers or plot is not None)
    judged = run_quantize(found, options, data, say)
    done = judged.as_dict()
    show(done, quantize_tables(done), as_json)
    if plot is not None:
        say(f"wrote {draw(judged, plot)}")
    say(verdict_line(done["verdict"]))
    say(f"wrote {judged.path}")
    judged.verdict.require(found.name)
    trained = found.qat.ranges_path.is_file()
    say(f"next: {_next(found.name, done['quantize'], runs, trained)}")


def _next(name: str, chosen: dict[str, Any], runs: Path, trained: bool) -> str:
    """Return the command that exports what was judged; trained: as int8, which it was without."""
    words = ["mobileseg", "export", name, "--int8", "--ranges", chosen["ranges"]]
    words += ["--no-qat"] if trained else []
    for key in sorted(_LISTS):
        if chosen[key]:
            words += [f"--{key.replace('_', '-')}", ",".join(chosen[key])]
    return shlex.join([*words, *([] if runs == RUNS else ["--runs", str(runs)])])
