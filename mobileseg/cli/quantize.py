"""`mobileseg quantize`: judge a network in int8, mend it, look into it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mobileseg.cli.common import RUNS, Data, Json, RunArg, Runs, say, show

if TYPE_CHECKING:
    from mobileseg.runs import Run

app = typer.Typer()

_LISTS = ("keep_float", "repair")

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


ActivationSteps = Annotated[
    Literal["int8", "int16"] | None,
    typer.Option(
        "--activations",
        help="int8; int16 beside int8 weights: finer, TFLite only, several times slower, no price.",
    ),
]


def given(**options: Any) -> dict[str, Any]:
    """Return those keys of [quantize] that a person gave on the command line.

    Of those that are lists, text has commas between its words, and `none` is the empty one.
    """
    found = {key: value for key, value in options.items() if value is not None}
    for key in found.keys() & {*_LISTS}:
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
    activations: ActivationSteps = None,
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
        max_drop=max_drop,
        images=images,
        ranges=ranges,
        repair=repair,
        keep_float=keep_float,
        activations=activations,
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
    words = [*_named(found, runs), "--int8", *_flags(changes, done["quantize"])]
    words += ["--no-qat"] if found.qat.ranges_path.is_file() else []
    words += ["--data", str(data)] if data is not None else []
    say(f"next: {shlex.join(['mobileseg', 'export', *words])}")


def _named(run: Run, runs: Path) -> list[str]:
    """Return how a command names the run."""
    if run.folder != runs / run.name:
        return [str(run.folder)]
    return [run.name, *([] if runs == RUNS else ["--runs", str(runs)])]


def _flags(asked: dict[str, Any], chosen: dict[str, Any]) -> list[str]:
    """Return the flags that make an export of what was judged: as asked, auto as it was settled."""
    words = ["--ranges", chosen["ranges"]]
    for key in ("max_drop", "images", "activations"):
        words += [f"--{key.replace('_', '-')}", str(asked[key])] if key in asked else []
    for key in _LISTS:
        if chosen[key] or key in asked:
            words += [f"--{key.replace('_', '-')}", ",".join(chosen[key]) or "none"]
    return words
