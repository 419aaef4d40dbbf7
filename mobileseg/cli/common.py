"""What the verbs share: their common options, and how results are shown."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

RecipeArg = Annotated[str, typer.Argument(help="A recipe's path, or a shipped recipe's name.")]
RunArg = Annotated[str, typer.Argument(help="NAME/STEP, NAME (its last step), or a folder.")]
NetArg = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="NAME/STEP, NAME (its last step), a folder, or anybody's .onnx or .tflite file.",
    ),
]
Compute = Annotated[str, typer.Option(help="torch device to train on.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def _png(path: Path | None) -> Path | None:
    if path is not None and path.suffix != ".png":
        raise typer.BadParameter(f"{path}: the picture is a .png file")
    return path


Plot = Annotated[
    Path | None, typer.Option("--plot", callback=_png, help="Draw it to this .png file.")
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder to take in the place of the recipe's data.root."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value over the recipe's, as --set train.epochs=5."),
]
Device = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="Name in mobileseg devices ls, or a profile's path; again for more; the recipe's.",
    ),
]
Rewrite = Annotated[
    str,
    typer.Option(
        "--rewrite",
        help="Exact other forms of operators: auto (by the devices' prices), all, none, or names "
        "with commas.",
    ),
]
On = Annotated[
    str,
    typer.Option(
        help="Machine to time on: ssh://user@host:port, adb or adb:SERIAL; by default this one."
    ),
]
BoardPython = Annotated[str, typer.Option("--board-python", help="Python on the ssh:// board.")]
SshConfig = Annotated[Path | None, typer.Option(help="Configuration file for the ssh client.")]
BenchmarkModel = Annotated[
    Path | None, typer.Option(help="Your benchmark_model for Android, for --on adb.")
]
InputSize = Annotated[
    str | None,
    typer.Option(metavar="HEIGHT,WIDTH", help="Size of an .onnx file's input if it is open."),
]
Pixels = Annotated[
    str | None,
    typer.Option(
        help="What a file takes of a pixel: imagenet, unit (0 to 1), bytes, or MEAN/STD in bytes, "
        "as 127.5/127.5; by default what it says itself."
    ),
]
RecipeOf = Annotated[
    str | None,
    typer.Option("--recipe", help="Recipe whose data and [quantize] are meant, for a file."),
]
Devices = Annotated[
    int,
    typer.Option(
        "--devices",
        min=1,
        help="Processes that train together on this machine, each with its share of every batch: "
        "as many as GPUs, or on the CPU. Several machines: start the same command by torchrun.",
    ),
]
RUNS = Path("runs")


def share_out(devices: int) -> None:
    """Run this very command as so many processes, if it is not one of them, and end as they do."""
    from mobileseg.train.parallel.launch import launch, ranked

    if devices == 1 or ranked():
        return
    try:
        code = launch(devices, [sys.executable, "-m", "mobileseg.cli", *sys.argv[1:]])
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        code = 130
    raise typer.Exit(code)


def parse_size(given: str) -> tuple[int, int]:
    """Return (height, width) of HEIGHT,WIDTH."""
    sides = given.lower().replace("x", ",").split(",")
    if len(sides) != 2 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise typer.BadParameter(f"{given!r}; it is HEIGHT,WIDTH in pixels, as 256,512")
    return int(sides[0]), int(sides[1])


def is_file(given: str) -> bool:
    """Whether anybody's network is meant, and no run."""
    return given.endswith((".onnx", ".tflite"))


def file_options(pixels: str | None, input_size: str | None, recipe: str | None = None) -> Any:
    """Return how a file is to be taken."""
    from mobileseg.workflow.foreign import FileOptions

    size = parse_size(input_size) if input_size is not None else None
    return FileOptions(pixels, size, recipe)


def require_file(given: str, **options: object) -> None:
    """Refuse options that are of files alone where a run is given."""
    wrong = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if wrong:
        raise typer.BadParameter(f"{', '.join(wrong)}: of .onnx and .tflite files; {given} is none")


def show(data: Any, tables: Iterable[Table], as_json: bool) -> None:
    """Print results on stdout: data as JSON, or the tables."""
    if as_json:
        print(json.dumps(data, indent=2))
    else:
        print_tables(tables)


def width() -> int:
    """Characters of a line; into a pipe or a file a table is as wide as it needs to be."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 240


def print_tables(tables: Iterable[Table]) -> None:
    """Print tables on stdout, as wide as the terminal."""
    from rich.console import Console

    # Names of foreign files may hold brackets, which are no markup.
    console = Console(width=width(), markup=False, emoji=False)
    for table in tables:
        console.print(table)


def show_snippets(paths: Iterable[str]) -> None:
    """Print code that uses a file, ready to be pasted."""
    for path in paths:
        print(f"--- {path}")
        print(Path(path).read_text(encoding="utf-8"))


def command_line() -> str:
    """Return what the person typed."""
    return shlex.join(["mobileseg", *sys.argv[1:]])


def say(text: str) -> None:
    """Print progress on stderr."""
    print(text, file=sys.stderr, flush=True)
