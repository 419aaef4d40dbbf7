"""`mobileseg latency`: price and measure a network; calibrate a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from mobileseg.cli.common import (
    RUNS,
    BenchmarkModel,
    BoardPython,
    Device,
    InputSize,
    Json,
    On,
    Rewrite,
    Runs,
    SshConfig,
    parse_size,
    print_tables,
    say,
    show,
    width,
)
from mobileseg.cli.qat import Qat


class _PriceByDefault(TyperGroup):
    """`latency NETWORK` is `latency price NETWORK`: all that is no other verb is a network."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["price", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_PriceByDefault, help="Price a network on phones, and measure it.")


@app.command()
def price(
    network: Annotated[
        str,
        typer.Argument(
            help="A run (NAME/STEP), a recipe (a path or a shipped name), anybody's .tflite or "
            ".onnx file, or a run's latency/*.graph.safetensors."
        ),
    ],
    device: Device = None,
    precision: Annotated[
        Literal["float32", "float16", "int8"],
        typer.Option(help="Of the arithmetic; float16 where the runtime is asked for it."),
    ] = "float32",
    int8: Annotated[bool, typer.Option("--int8", help="The same as --precision int8.")] = False,
    step: Annotated[
        str | None, typer.Option(help="Step of the recipe; by default the last one.")
    ] = None,
    rewrite: Rewrite = "auto",
    measure: Annotated[
        bool, typer.Option("--measure", help="Time the file on this machine, too.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of the device's profile, and of the measurement."),
    ] = None,
    input_size: InputSize = None,
    advise: Annotated[
        bool,
        typer.Option("--advise", help="Say what slows it down and (not of files) what cuts save."),
    ] = False,
    frame: Annotated[
        str | None, typer.Option(help="Camera frame, height,width: price the way in and out, too.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Times to compare with: what --measure --json printed (.json), or a profile by "
            "benchmark_model."
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Folder to write pictures to.")] = None,
    on: On = "",
    board_python: BoardPython = "python3",
    ssh_config: SshConfig = None,
    benchmark_model: BenchmarkModel = None,
    qat: Qat = True,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Say what every operator costs on a named device, and measure it here.

    Example: mobileseg latency recipes/portrait.toml --device pixel4 --int8

    Example: mobileseg latency model.tflite --measure --json > here.json

    Example: mobileseg latency model.tflite --device host --against here.json

    A profile of this machine or of a board: mobileseg latency calibrate --help
    """
    from mobileseg.report.latency import latency_lines, latency_tables
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
        input_size=parse_size(input_size) if input_size is not None else None,
        where=Where(on, board_python, ssh_config, benchmark_model),
        qat=qat,
        say=say,
    )
    done = run_latency(network, options, runs)
    if as_json:
        print(json.dumps(done, indent=2))
        return
    for priced in done["devices"]:
        print_tables(latency_tables(priced, width(), done.get("measured")))
        print("\n".join(latency_lines(priced, done)))


@app.command()
def calibrate(
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

    Takes two or three minutes on a quiet computer.

    Example: mobileseg latency calibrate

    Example: mobileseg latency calibrate pi5 --on ssh://pi@raspberrypi.local --out profiles/
    """
    from mobileseg.report.latency import calibrated_table
    from mobileseg.train.console import Display
    from mobileseg.workflow.calibrate import calibrate_machine
    from mobileseg.workflow.where import Where

    where = Where(on, board_python, ssh_config, benchmark_model)
    with Display(1, 0, not as_json) as display:

        def progress(done: int, total: int) -> None:
            display.step(done, "timing", total)

        found = calibrate_machine(name, out, where, threads, quick, progress)
    done = found.as_dict()
    show(done, [calibrated_table(done)], as_json)
    if found.warning:
        say(f"warning: {found.warning}")
    say(f"wrote {found.path}")
    say(f"next: mobileseg latency portrait --device {found.path}")
