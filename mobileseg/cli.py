"""The command line: parse, call one workflow function, show. Heavy imports stay inside verbs."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mobileseg import __version__
from mobileseg.errors import GateError, MobilesegError

if TYPE_CHECKING:
    from rich.table import Table

    from mobileseg.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Take a segmentation network to a phone: slim, train, quantize, export, price.",
)
recipes_app = typer.Typer(no_args_is_help=True, help="The recipes that come with mobileseg.")
devices_app = typer.Typer(no_args_is_help=True, help="The devices that latency is estimated for.")
weights_app = typer.Typer(no_args_is_help=True, help="Pretrained encoder weights.")
app.add_typer(recipes_app, name="recipes")
app.add_typer(devices_app, name="devices")
app.add_typer(weights_app, name="weights")


RecipeArg = Annotated[str, typer.Argument(help="A recipe's path, or a shipped recipe's name.")]
RunArg = Annotated[str, typer.Argument(help="NAME/STEP, NAME (its last step), or a folder.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
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
    typer.Option("--device", help="Device to price for; again for more. mobileseg devices ls."),
]
On = Annotated[
    str,
    typer.Option(help="Machine to time on: ssh://user@host:port, adb or adb:SERIAL; this one."),
]
BoardPython = Annotated[str, typer.Option("--board-python", help="Python on the ssh:// board.")]
SshConfig = Annotated[Path | None, typer.Option(help="Configuration file for the ssh client.")]
BenchmarkModel = Annotated[
    Path | None, typer.Option(help="Your benchmark_model for Android, for --on adb.")
]
RUNS = Path("runs")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def slim(
    recipe: RecipeArg,
    data: Data = None,
    overrides: Set = None,
    runs: Runs = RUNS,
    step: Annotated[str | None, typer.Option(help="Climb to this step only.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print all that needs no training.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--restart",
            help="Go on where a run broke off; or make anew what another recipe or data made.",
        ),
    ] = True,
    compute: Annotated[str, typer.Option(help="torch device to train on.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Climb a recipe's ladder: slim, train, quantize, price and compare every step.

    Example: mobileseg slim recipes/portrait.toml
    """
    from mobileseg.report import exports_table, ladder_tables
    from mobileseg.workflow import ladder

    read = _recipe(recipe, overrides, data)
    if dry_run:
        steps = ladder.dry_run(read, runs)
        _show({"recipe": read.name, "steps": steps}, ladder_tables(steps, _width()), as_json)
        return
    options = ladder.SlimOptions(runs, compute, not resume, only=step)
    done = ladder.slim(read, options, _say)
    note = f"mIoU: class mean over {done['test_images']} pictures of the {done['test_split']} split"
    tables = [*ladder_tables(done["steps"], _width(), note), exports_table(done["exported"])]
    _show(done, tables, as_json)
    last = step or done["steps"][-1]["step"]
    where = runs / read.name
    _say(f"wrote {where / 'report.json'}")
    elsewhere = "" if runs == RUNS else f" --runs {runs}"
    _say(f"next: mobileseg predict {read.name}/{last} PHOTO.jpg{elsewhere}")


@app.command(name="eval")
def evaluate(
    run: RunArg,
    files: Annotated[
        list[Path] | None, typer.Option("--file", help="Exported file to score; again for more.")
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Part of the data to score on.")
    ] = "test",
    data: Data = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Score the float net, the int8 graph and the exported files side by side.

    Example: mobileseg eval portrait/final --split test
    """
    from mobileseg.report import scores_table
    from mobileseg.runs import find_run
    from mobileseg.workflow.evaluate import evaluate_run

    found = find_run(run, runs)
    evalset, executors = evaluate_run(found, split, data, files or [])
    rows = [each.as_dict() for each in executors]
    title = f"{found.name} on {len(evalset)} pictures of {split}, percent"
    _show({"run": found.name, "executors": rows}, [scores_table(rows, title)], as_json)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="A run, or an exported .tflite or .onnx file.")],
    pictures: Annotated[Path, typer.Argument(help="A picture, or a folder of pictures.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write a mask and an overlay for every picture.

    Example: mobileseg predict portrait/final photo.jpg
    """
    from mobileseg.workflow.predict import predict as run_predict

    done = []
    try:
        for each in run_predict(model, pictures, out, runs):
            done.append(each.as_dict())
            if not as_json:
                print(f"{each.image.name}: {each.words()} -> {each.overlay}")
    finally:
        # What was written is said, even where some pictures could not be read.
        if as_json:
            print(json.dumps(done, indent=2))


@app.command()
def export(
    run: RunArg,
    precision: Annotated[
        Literal["float32", "float16", "int8"] | None,
        typer.Option(help="Of weights and arithmetic; float32."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="The same as --precision int8.")] = False,
    form: Annotated[
        Literal["tflite", "onnx", "both"], typer.Option("--format", help="File format.")
    ] = "tflite",
    interface: Annotated[
        Literal["uint8", "int8", "float32"],
        typer.Option(help="Input and output of an int8 file; uint8: the byte is the pixel."),
    ] = "uint8",
    output: Annotated[
        Literal["logits", "softmax", "sigmoid", "argmax"],
        typer.Option(help="What a pixel of the output says."),
    ] = "logits",
    rewrite: Annotated[
        bool, typer.Option("--rewrite/--no-rewrite", help="Use exact, faster forms of operators.")
    ] = True,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="Training pictures that calibrate int8.")
    ] = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write the files a phone loads and check each in its real runtime.

    Example: mobileseg export portrait/final --int8
    """
    from mobileseg.report import exports_table
    from mobileseg.runs import find_run
    from mobileseg.workflow.export import ExportOptions
    from mobileseg.workflow.export import export as run_export

    if int8 and precision not in {None, "int8"}:
        raise typer.BadParameter(f"--int8 and --precision {precision}; give one of them")
    chosen = "int8" if int8 else precision or "float32"
    if chosen != "int8" and interface != "uint8":
        raise typer.BadParameter(
            f"--interface {interface} is of int8 files; a {chosen} file takes float32"
        )
    if chosen != "int8" and images is not None:
        raise typer.BadParameter(f"--images calibrates int8 files; a {chosen} file needs none")
    options = ExportOptions(
        precision=chosen,
        formats=("tflite", "onnx") if form == "both" else (form,),
        interface=interface,
        output=output,
        rewrite=rewrite,
        folder=out,
        calibration_images=images,
    )
    found = find_run(run, runs)
    files = [each.as_dict() for each in run_export(found, options, data, _say)]
    _show({"run": found.name, "files": files}, [exports_table(files)], as_json)
    # A folder may lie outside of --runs.
    same = run if Path(run).is_dir() else found.name
    words = ["latency", same, *(["--int8"] if chosen == "int8" else []), "--measure"]
    if runs != RUNS:
        words += ["--runs", str(runs)]
    _say(f"next: mobileseg {shlex.join(words)}")


@app.command()
def latency(
    network: Annotated[
        str, typer.Argument(help="A run, a recipe, or anybody's .tflite or .onnx file.")
    ],
    device: Device = None,
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        typer.Option(help="Of the arithmetic; float16 where the runtime is asked for it."),
    ] = "float32",
    int8: Annotated[bool, typer.Option("--int8", help="The same as --precision int8.")] = False,
    step: Annotated[str | None, typer.Option(help="Step of the recipe; the last one.")] = None,
    rewrite: Annotated[
        bool, typer.Option("--rewrite/--no-rewrite", help="Use exact, faster forms of operators.")
    ] = True,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time the file on this machine, too.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the measurement.")] = 1,
    input_size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHT,WIDTH", help="Size of an .onnx file's input if it is open."),
    ] = None,
    advise: Annotated[
        bool, typer.Option("--advise", help="Say what slows it down and what cuts would save.")
    ] = False,
    frame: Annotated[
        str | None, typer.Option(help="Camera frame, height,width: price the way in and out, too.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Profile by benchmark_model to compare with.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Folder to write pictures to.")] = None,
    on: On = "",
    board_python: BoardPython = "python3",
    ssh_config: SshConfig = None,
    benchmark_model: BenchmarkModel = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Say what every operator costs on a named device, and measure it here.

    Example: mobileseg latency recipes/portrait.toml --device pixel4 --int8

    Example: mobileseg latency model.tflite --measure
    """
    from mobileseg.report_latency import latency_lines, latency_tables
    from mobileseg.workflow.frame import parse_frame
    from mobileseg.workflow.latency import LatencyOptions
    from mobileseg.workflow.latency import latency as run_latency
    from mobileseg.workflow.where import Where

    options = LatencyOptions(
        devices=tuple(device or ()),
        precision="int8" if int8 else precision,
        rewrite=rewrite,
        measure=measure or bool(on),
        threads=threads,
        step=step,
        advise=advise,
        frame=parse_frame(frame) if frame else None,
        against=against,
        plot=plot,
        input_size=_size(input_size) if input_size is not None else None,
        where=Where(on, board_python, ssh_config, benchmark_model),
    )
    done = run_latency(network, options, runs)
    if as_json:
        print(json.dumps(done, indent=2))
        return
    for priced in done["devices"]:
        _tables(latency_tables(priced, _width(), done.get("measured")))
        print("\n".join(latency_lines(priced, done)))


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Runs: NAME/STEP, or NAME for all its steps.")],
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Compare trained steps, of one ladder or of several.

    Example: mobileseg compare portrait portrait-large/v1
    """
    from mobileseg.report import ladder_tables
    from mobileseg.workflow.ladder import compare as run_compare

    rows = run_compare(names, runs)
    _show({"steps": rows}, ladder_tables(rows, _width()), as_json)


@recipes_app.command("ls")
def recipes_ls(as_json: Json = False) -> None:
    """List the shipped recipes.

    Example: mobileseg recipes ls
    """
    from mobileseg.recipe import shipped_recipes

    found = shipped_recipes()
    said = {name: _first_comment(path) for name, path in found.items()}
    if as_json:
        print(json.dumps(said, indent=2))
        return
    for name, comment in said.items():
        print(f"{name:16} {comment}")


@recipes_app.command("cat")
def recipes_cat(recipe: RecipeArg) -> None:
    """Print a recipe, to start your own from.

    Example: mobileseg recipes cat portrait > mine.toml
    """
    from mobileseg.recipe import recipe_text

    print(recipe_text(recipe), end="")


@recipes_app.command("validate")
def recipes_validate(
    recipe: RecipeArg, data: Data = None, overrides: Set = None, as_json: Json = False
) -> None:
    """Check a recipe and that its data is there: every mistake is listed, with its place.

    Example: mobileseg recipes validate mine.toml
    """
    from mobileseg.train.pairs import pairs
    from mobileseg.workflow.plan import plan

    read = _recipe(recipe, overrides, data)
    pairs(read.data, "train")
    steps = [rung.step.name for rung in plan(read, RUNS)]
    if as_json:
        print(json.dumps({"recipe": read.name, "steps": steps}))
    else:
        print(f"{recipe}: good; steps {', '.join(steps)}")


@devices_app.command("ls")
def devices_ls(as_json: Json = False) -> None:
    """List the devices with what stands behind their figures.

    Example: mobileseg devices ls
    """
    from mobileseg.report import devices_table
    from mobileseg.workflow.latency import device_facts

    rows = device_facts()
    _show(rows, [devices_table(rows)], as_json)


@devices_app.command("transfer")
def devices_transfer(
    base: Annotated[str, typer.Argument(help="A measured device with the same core.")],
    chip: Annotated[str, typer.Argument(help="Chip with known facts, as Snapdragon 730G.")],
    out: Annotated[Path, typer.Option(help="Profile to write.")],
) -> None:
    """Scale a device's profile to a chip that nobody measured: same core, other clock.

    Example: mobileseg devices transfer pixel4 "Snapdragon 730G" --out mine.toml
    """
    from mobileseg.workflow.latency import transfer_device

    transfer_device(base, chip, out)
    print(out)
    _say(f"next: mobileseg latency RECIPE --device {out}")


@devices_app.command("fit")
def devices_fit(
    names: Annotated[list[str] | None, typer.Argument(help="Devices; all of them.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write profiles to.")] = Path(
        "assets/devices"
    ),
) -> None:
    """Fit device profiles to the published measurements, and print the cross-validated errors.

    Example: mobileseg devices fit pixel4 --out profiles/
    """
    from mobileseg.files import shipped
    from mobileseg.latency.fit import fit_devices

    for path in fit_devices(shipped("assets", "latency"), out, _say, names or []):
        print(path)


@devices_app.command("calibrate")
def devices_calibrate(
    name: Annotated[str, typer.Argument(help="Name of the profile.")] = "host",
    out: Annotated[Path, typer.Option(help="Folder to write NAME.toml to.")] = Path(),
    threads: Annotated[int, typer.Option(min=1, help="Threads to time with.")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="Half the networks, fewer rounds.")
    ] = False,
    on: On = "",
    board_python: BoardPython = "python3",
    ssh_config: SshConfig = None,
    benchmark_model: BenchmarkModel = None,
    as_json: Json = False,
) -> None:
    """Latency calibration: build the profile of any machine by timing small networks on it.

    Takes two or three minutes on a quiet computer. Examples: mobileseg devices calibrate;
    mobileseg devices calibrate pi5 --on ssh://pi@raspberrypi.local --out profiles/
    """
    from mobileseg.report_latency import calibrated_table
    from mobileseg.train.console import Display
    from mobileseg.workflow.calibrate import calibrate_machine
    from mobileseg.workflow.where import Where

    where = Where(on, board_python, ssh_config, benchmark_model)
    with Display(1, 0, not as_json) as display:

        def say(done: int, total: int) -> None:
            display.step(done, "timing", total)

        found = calibrate_machine(name, out, where, threads, quick, say)
    done = found.as_dict()
    _show(done, [calibrated_table(done)], as_json)
    if found.warning:
        _say(f"warning: {found.warning}")
    _say(f"wrote {found.path}")
    _say(f"next: mobileseg latency portrait --device {found.path}")


@weights_app.command("import")
def weights_import(
    npz: Annotated[Path, typer.Argument(help="Weights as .npz, its .ops.json beside it.")],
    images: Annotated[Path, typer.Option(help="Folder of pictures for batch-norm statistics.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    until: Annotated[str | None, typer.Option(help="Last block to keep, as conv5_5.")] = None,
) -> None:
    """Turn folded ImageNet MobileNetV1 weights into encoder weights with batch norm.

    Example: mobileseg weights import v1.npz --images photos/ --out v1.safetensors
    """
    from mobileseg.nets.pretrained import import_command

    import_command(npz, images, out, until)
    print(f"wrote {out}")


def _size(given: str) -> tuple[int, int]:
    sides = given.lower().replace("x", ",").split(",")
    if len(sides) != 2 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise typer.BadParameter(f"{given!r}; it is HEIGHT,WIDTH in pixels, as 256,512")
    return int(sides[0]), int(sides[1])


def _recipe(given: str, overrides: list[str] | None, data: Path | None) -> Recipe:
    from mobileseg.recipe import read_recipe

    return read_recipe(given, overrides or [], data)


def _first_comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def _show(data: Any, tables: Iterable[Table], as_json: bool) -> None:
    if as_json:
        print(json.dumps(data, indent=2))
    else:
        _tables(tables)


def _width() -> int:
    """Characters of a line; into a pipe or a file a table is as wide as it needs to be."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 240


def _tables(tables: Iterable[Table]) -> None:
    from rich.console import Console

    # Names of foreign files may hold brackets, which are no markup.
    console = Console(width=_width(), markup=False, emoji=False)
    for table in tables:
        console.print(table)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line. Exit codes: 1 bad input, 2 usage, 3 a quality gate failed."""
    # A thread that waits gives its core away. With spinning, torch's default, two trainings on one
    # machine took 8 times as long as with this; alone it makes no difference.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except GateError as error:
        _fail(error, 3)
    except MobilesegError as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        _say("stopped; the same command goes on from here")
        sys.exit(130)


def _fail(error: MobilesegError, code: int) -> None:
    _say("\n".join(f"error: {line}" for line in str(error).splitlines()))
    sys.exit(code)


if __name__ == "__main__":
    main()
