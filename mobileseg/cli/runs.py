"""Verbs on a run or a file: eval, predict, export."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mobileseg.cli.common import (
    RUNS,
    Data,
    InputSize,
    Json,
    NetArg,
    Pixels,
    RecipeOf,
    Rewrite,
    Runs,
    file_options,
    is_file,
    require_file,
    say,
    show,
    show_snippets,
)
from mobileseg.cli.qat import Qat
from mobileseg.cli.quantize import (
    ActivationSteps,
    KeepFloat,
    MaxDrop,
    RangesBy,
    RepairBy,
    given,
    number_or_folder,
)

if TYPE_CHECKING:
    from mobileseg.workflow.export import Exports

app = typer.Typer()


@app.command(name="eval")
def evaluate(
    run: NetArg,
    files: Annotated[
        list[Path] | None, typer.Option("--file", help="Exported file to score; again for more.")
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Part of the data to score on.")
    ] = "test",
    data: Data = None,
    recipe: RecipeOf = None,
    pixels: Pixels = None,
    input_size: InputSize = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Score the float net, the int8 graph and the exported files side by side.

    Example: mobileseg eval portrait/faster --split test

    Example: mobileseg eval model.onnx --data DIR --pixels imagenet
    """
    from mobileseg.runs import find_run

    if is_file(run):
        from mobileseg.workflow.evaluate import evaluate_file

        name, options = Path(run).name, file_options(pixels, input_size, recipe)
        evalset, executors = evaluate_file(Path(run), options, split, data, files or [])
    else:
        require_file(run, recipe=recipe, pixels=pixels, input_size=input_size)
        found = find_run(run, runs)
        from mobileseg.workflow.evaluate import evaluate_run

        name = found.name
        evalset, executors = evaluate_run(found, split, data, files or [])
    from mobileseg.report.ladder import scores_table

    rows = [each.as_dict() for each in executors]
    title = f"{name} on {len(evalset)} pictures of {split}, percent"
    show({"run": name, "executors": rows}, [scores_table(rows, name, title)], as_json)


@app.command()
def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]",
            help="A run, or an exported .tflite or .onnx file; by default the portrait network "
            "that comes with mobileseg.",
        ),
    ],
    pictures: Annotated[
        Path | None,
        typer.Argument(metavar="PICTURES", help="A picture, or a folder of pictures."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to.")] = None,
    qat: Qat = True,
    pixels: Pixels = None,
    input_size: InputSize = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write a mask and an overlay for every picture.

    Example: mobileseg predict photo.jpg

    Example: mobileseg predict portrait/faster photos/
    """
    from mobileseg.workflow.predict import predict as run_predict

    if pictures is None:
        model, pictures = "portrait/shipped", Path(model)
    if not is_file(model):
        require_file(model, pixels=pixels, input_size=input_size)
    taken = file_options(pixels, input_size)
    done = []
    try:
        for each in run_predict(model, pictures, out, runs, qat, say, taken):
            done.append(each.as_dict())
            if not as_json:
                print(f"{each.image.name}: {each.words()} -> {each.overlay}")
    finally:
        # What was written is said, even where some pictures could not be read.
        if as_json:
            print(json.dumps(done, indent=2))


@app.command()
def export(
    run: NetArg,
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
        Literal["logits", "softmax", "sigmoid", "argmax"] | None,
        typer.Option(help="What a pixel of the output says: logits; for --target task softmax."),
    ] = None,
    target: Annotated[
        Literal["raw", "task", "mediapipe"],
        typer.Option(help="Who loads it: the bare runtime, Task Library, MediaPipe."),
    ] = "raw",
    device: Annotated[
        list[str] | None,
        typer.Option(
            help="Device whose prices choose between exact forms of operators, name or path; again "
            "for more. By default what was measured here and counted on Arm."
        ),
    ] = None,
    rewrite: Rewrite = "auto",
    images: Annotated[
        str | None,
        typer.Option(
            "--images",
            metavar="NUMBER|DIR",
            help="Training pictures that calibrate int8; for a file without masks, their folder.",
        ),
    ] = None,
    max_drop: MaxDrop = None,
    ranges: RangesBy = None,
    repair: RepairBy = None,
    keep_float: KeepFloat = None,
    activations: ActivationSteps = None,
    qat: Qat = True,
    memory_plan: Annotated[
        bool, typer.Option("--memory-plan", help="Write into .tflite where each activation lies.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what each pass does: nodes, memory, time here.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Folder to write a picture of the memory to.")
    ] = None,
    data: Data = None,
    recipe: RecipeOf = None,
    pixels: Pixels = None,
    input_size: InputSize = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write the files a phone loads and check each in its real runtime.

    Example: mobileseg export portrait/faster --int8

    Example: mobileseg export model.onnx --int8 --images PHOTOS --pixels imagenet --out .

    Example: mobileseg export portrait/faster --int8 --explain --plot pictures
    """
    if int8 and precision not in {None, "int8"}:
        raise typer.BadParameter(f"--int8 and --precision {precision}; give one of them")
    chosen = "int8" if int8 else precision or "float32"
    if chosen != "int8" and interface != "uint8":
        raise typer.BadParameter(
            f"--interface {interface} is of int8 files; a {chosen} file takes float32"
        )
    count, folder = number_or_folder(images)
    changes = given(
        images=count,
        max_drop=max_drop,
        ranges=ranges,
        repair=repair,
        keep_float=keep_float,
        activations=activations,
    )
    if chosen != "int8" and changes:
        flags = ", ".join(f"--{key.replace('_', '-')}" for key in changes)
        raise typer.BadParameter(f"{flags}: of int8 files; this one is {chosen}")
    if device and rewrite != "auto":
        raise typer.BadParameter(
            f"--device chooses forms by price, --rewrite {rewrite} names them; leave one out"
        )
    if memory_plan and form == "onnx":
        raise typer.BadParameter("--memory-plan: is of .tflite files; leave it out")
    from mobileseg.runs import find_run
    from mobileseg.workflow.options import ExportOptions, default_output

    options = ExportOptions(
        precision=chosen,
        formats=("tflite", "onnx") if form == "both" else (form,),
        interface=interface,
        output=output or default_output(target),
        rewrite=rewrite,
        devices=tuple(device or ()),
        folder=out,
        memory_plan=memory_plan,
        explain=explain,
        plot=plot,
        quantize=changes,
        target=target,
        qat=qat,
    )
    options.require()
    if not is_file(run):
        require_file(run, recipe=recipe, pixels=pixels, input_size=input_size, images=folder)
        found = find_run(run, runs)
    # These wait for torch: what is wrong with the options is said before.
    from mobileseg.workflow.export import export as run_export
    from mobileseg.workflow.export_file import export_file
    from mobileseg.workflow.foreign import open_file

    if is_file(run):
        opened = open_file(Path(run), file_options(pixels, input_size, recipe), data)
        made = export_file(opened, options, bool(data or recipe), folder, say)
        _show_exports(opened.path.name, made, as_json)
    else:
        made = run_export(found, options, data, say)
        _show_exports(found.name, made, as_json)
    path = shlex.quote(str(made.files[0].path))
    if activations == "int16":
        say("no device's profile prices int16; mobileseg quantize --activations int16 times it")
        say(f"next: mobileseg predict {path} PHOTO.jpg")
    else:
        say(f"next: mobileseg latency {path} --measure")


def _show_exports(name: str, made: Exports, as_json: bool) -> None:
    """Show what was written and how int8 was judged. Raises GateError where it loses too much."""
    from mobileseg.report.int8 import verdict_line, verdict_tables
    from mobileseg.report.ladder import exports_table, forms_tables
    from mobileseg.report.memory import explain_tables

    files = [each.as_dict() for each in made.files]
    verdicts = [verdict.as_dict() for verdict in made.verdicts]
    tables = [exports_table(files), *forms_tables(files)]
    tables += verdict_tables(verdicts[0]) if verdicts else []
    if made.explained:
        tables += explain_tables(made.explained)
    done = {
        "run": name,
        "files": files,
        "verdicts": verdicts,
        "files_agreement": made.agreement,
        "explained": made.explained,
    }
    if not as_json:
        # Long as it is, it comes before what there is to judge.
        for each in files:
            show_snippets(each["snippets"])
    show(done, tables, as_json)
    if made.explained and "picture" in made.explained:
        say(f"wrote {made.explained['picture']}")
    for file, each in zip(made.files, verdicts, strict=False):
        say(f"{file.path.name}: {verdict_line(each)}")
    if made.agreement is not None:
        say(f"both files call {100 * made.agreement:.2f} % of the pixels alike")
    for verdict in made.verdicts:
        verdict.require(name)
