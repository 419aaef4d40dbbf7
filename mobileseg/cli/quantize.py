"""`mobileseg quantize`: judge a network in int8, mend it, look into it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mobileseg.cli.common import (
    RUNS,
    Data,
    InputSize,
    Json,
    NetArg,
    Pixels,
    RecipeOf,
    Runs,
    file_options,
    is_file,
    require_file,
    say,
    show,
)

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
        help="int8; int16 beside int8 weights: finer, TFLite only, many times slower, no price.",
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


def number_or_folder(text: str | None) -> tuple[int | None, Path | None]:
    """Return how many pictures calibrate, or the folder of those that do."""
    if text is None or not text.isdecimal():
        return None, Path(text) if text else None
    if int(text) < 1:
        raise typer.BadParameter(f"--images {text}: at least one calibrates")
    return int(text), None


@app.command()
def quantize(
    run: NetArg,
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
    recipe: RecipeOf = None,
    pixels: Pixels = None,
    input_size: InputSize = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Judge a network in int8: float beside int8, per class, and the pictures that lose most.

    Writes quantize/report.json in a run's folder. Exits with 3 where int8 loses too much, and
    names the layers to blame.

    Example: mobileseg quantize portrait/faster --max-drop 0.3

    Example: mobileseg quantize portrait/faster --repair auto --sensitivity --plot .

    Example: mobileseg quantize model.onnx --data DIR --pixels imagenet
    """
    from mobileseg.report.int8 import quantize_tables, verdict_line
    from mobileseg.runs import find_run
    from mobileseg.workflow.foreign import open_file
    from mobileseg.workflow.quantize import QuantizeOptions, draw, quantize_file
    from mobileseg.workflow.quantize import quantize as run_quantize

    changes = given(
        max_drop=max_drop,
        images=images,
        ranges=ranges,
        repair=repair,
        keep_float=keep_float,
        activations=activations,
    )
    options = QuantizeOptions(changes, split, layers or plot is not None)
    if is_file(run):
        opened = open_file(Path(run), file_options(pixels, input_size, recipe), data)
        judged, named = quantize_file(opened, options, say), [run, "--out", "."]
    else:
        require_file(run, recipe=recipe, pixels=pixels, input_size=input_size)
        found = find_run(run, runs)
        judged, named = run_quantize(found, options, data, say), _named(found, runs)
    done = judged.as_dict()
    show(done, quantize_tables(done), as_json)
    if plot is not None:
        say(f"wrote {draw(judged, plot)}")
    say(verdict_line(done["verdict"]))
    if judged.path is not None:
        say(f"wrote {judged.path}")
    judged.verdict.require(judged.name)
    words = [*named, "--int8", *_flags(changes, done["quantize"])]
    words += _words(data=data, recipe=recipe, pixels=pixels, input_size=input_size)
    say(f"next: {shlex.join(['mobileseg', 'export', *words])}")


def _named(run: Run, runs: Path) -> list[str]:
    """Return how a command names the run, and that it is meant as it was trained in float."""
    words = [run.name, *([] if runs == RUNS else ["--runs", str(runs)])]
    if run.folder != runs / run.name:
        words = [str(run.folder)]
    return [*words, *(["--no-qat"] if run.qat.ranges_path.is_file() else [])]


def _words(**options: object) -> list[str]:
    """Return options as they were given."""
    named = [(f"--{name.replace('_', '-')}", value) for name, value in options.items()]
    return [str(word) for pair in named if pair[1] is not None for word in pair]


def _flags(asked: dict[str, Any], chosen: dict[str, Any]) -> list[str]:
    """Return the flags that make an export of what was judged: as asked, auto as it was settled."""
    words = ["--ranges", chosen["ranges"]]
    for key in ("max_drop", "images", "activations"):
        words += [f"--{key.replace('_', '-')}", str(asked[key])] if key in asked else []
    for key in _LISTS:
        if chosen[key] or key in asked:
            words += [f"--{key.replace('_', '-')}", ",".join(chosen[key]) or "none"]
    return words
