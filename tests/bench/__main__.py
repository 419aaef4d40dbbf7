"""Run a benchmark: see `python -m tests.bench --help`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mobileseg.files import shipped, write_json
from mobileseg.workflow.forms import ARM_COUNTS
from tests.bench import people
from tests.bench.arm import count_arm
from tests.bench.devices import scaling
from tests.bench.nets import NETS
from tests.bench.peers import found as files_of
from tests.bench.peers import rows as rows_of_peers
from tests.bench.run import counted, rows, timed, trained, written
from tests.bench.training import WORKERS, Contest, contest

LOOPS = [("mobilenet_deconv", 160), ("unet_mobilenet_v2", 128), ("portrait_lite", 112)]


def main() -> None:
    asked = _parser().parse_args()
    if asked.verb == "people":
        files = people.rows(asked.peers, asked.list, asked.rounds, say)
        Console().print(people_table(files))
        print(json.dumps(files))
        return
    if asked.verb == "devices":
        scalings = [
            scaling(Contest(net, (side, side), asked.batch, 1, None), asked.rounds, say)
            for net, side in asked.nets
        ]
        Console().print(devices_table(scalings))
        print(json.dumps(scalings))
        return
    if asked.verb == "training":
        contests = [
            contest(
                Contest(net, (side, side), asked.batch, asked.threads, asked.data),
                asked.rounds,
                WORKERS,
                say,
            )
            for net, side in asked.nets
        ]
        Console().print(training_table(contests))
        print(json.dumps(contests))
        return
    if asked.verb == "peers":
        against = list(rows_of_peers(files_of(asked.folder), asked.rounds, lambda _done: None))
        Console().print(peers_table(against))
        print(json.dumps(against))
        return
    with tempfile.TemporaryDirectory() as scratch:
        if asked.verb == "arm":
            count_arm(Path(scratch), asked.out / f"{ARM_COUNTS}.toml", say)
            return
        folder = asked.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = bench(asked.only, asked.seconds, asked.rounds, asked.arm, folder)
    if asked.out:
        write_json(folder / "bench.json", found)
    Console().print(table(found))
    print(json.dumps(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    nets = verbs.add_parser("nets", help="the five networks, plain and in the chosen form")
    nets.add_argument("--only", type=_letters, default=list(NETS), help="their letters, as A,E")
    nets.add_argument("--seconds", type=float, default=60.0, help="of training, each")
    nets.add_argument("--rounds", type=int, default=15, help="in which all files take turns")
    nets.add_argument("--arm", action="store_true", help="count instructions on Arm, too")
    nets.add_argument("--out", type=Path, help="folder for the files and bench.json")
    peers = verbs.add_parser("peers", help="others' files of them beside ours: see peer_files.py")
    peers.add_argument("folder", type=Path, help="what nets --out wrote, and others' files in it")
    peers.add_argument("--rounds", type=int, default=15, help="in which all files take turns")
    arm = verbs.add_parser("arm", help="count instructions for assets/latency")
    arm.add_argument("--out", type=Path, default=shipped("assets", "latency"))
    training = verbs.add_parser("training", help="our training loop beside a plain one")
    training.add_argument("--nets", type=_sized, default=LOOPS, help="as NAME:SIDE,NAME:SIDE")
    training.add_argument("--data", type=Path, help="folder with train.txt; else the sample")
    training.add_argument("--batch", type=int, default=8)
    training.add_argument("--threads", type=int, default=2)
    training.add_argument("--rounds", type=int, default=3, help="of an epoch of each loop")
    devices = verbs.add_parser("devices", help="two processes that train together beside one")
    devices.add_argument("--nets", type=_sized, default=LOOPS, help="as NAME:SIDE,NAME:SIDE")
    devices.add_argument("--batch", type=int, default=8)
    devices.add_argument("--rounds", type=int, default=5, help="of an epoch of each")
    portraits = verbs.add_parser("people", help="the shipped networks beside others' files")
    portraits.add_argument("peers", type=Path, nargs="*", help="as selfie_segmentation.tflite")
    portraits.add_argument("--list", type=Path, nargs="*", default=[], help="image and mask a line")
    portraits.add_argument("--rounds", type=int, default=15, help="in which all files take turns")
    return parser


def _letters(given: str) -> list[str]:
    names = given.upper().split(",")
    if unknown := [name for name in names if name not in NETS]:
        raise argparse.ArgumentTypeError(f"{','.join(unknown)}: there are {','.join(NETS)}")
    return names


def _sized(given: str) -> list[tuple[str, int]]:
    pairs = [each.partition(":") for each in given.split(",")]
    return [(net, int(side)) for net, _, side in pairs]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def bench(
    names: Sequence[str], seconds: float, rounds: int, arm: bool, folder: Path
) -> list[dict[str, Any]]:
    """Return a row per network and precision."""
    files = []
    for name in names:
        say(f"{name}: {(NETS[name].__doc__ or '').strip()}")
        files += written(name, *trained(NETS[name](), seconds), folder)
    say(f"timing {len(files)} files in turns")
    ms = timed(files, rounds, lambda _done: None)
    return rows(files, ms, counted(files, say) if arm else {})


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return the rows as people read them."""
    made = Table(title="One thread, this machine", title_justify="left")
    heads = ("net", "precision", "plain, ms", "chosen, ms", "times", "pieces", "equal", "Arm")
    for name in heads:
        made.add_column(name, justify="right")
    for row in found:
        counts = row["arm_million_instructions"]
        made.add_row(
            row["net"],
            row["precision"],
            f"{row['plain_ms']:.2f}",
            f"{row['chosen_ms']:.2f}",
            f"{row['times_faster']:.2f}",
            f"{row['plain_pieces']} -> {row['chosen_pieces']}",
            f"{100 * row['share_equal']:.2f} %" if row["precision"] == "int8" else "-",
            ", ".join(f"{a:.0f} -> {b:.0f}" for a, b in counts.values()) or "-",
        )
    return made


def peers_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return others' files beside ours as people read them."""
    made = Table(title="One thread, this machine", title_justify="left")
    for name in ("net", "precision", "file", "ms", "ours, ms", "times", "pieces", "alike"):
        made.add_column(name, justify="right")
    for row in found:
        name = (row["net"], row["precision"], row["file"])
        if row["problem"]:
            made.add_row(*name, "does not run", f"{row['ours_ms']:.2f}", "-", "-", "-")
            continue
        made.add_row(
            *name,
            f"{row['ms']:.2f}",
            f"{row['ours_ms']:.2f}",
            f"{row['times']:.2f}",
            str(row["pieces"]),
            f"{row['alike_percent']:.2f} %",
        )
    return made


def people_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return the shipped networks and others as people read them."""
    made = Table(title="Class-mean mIoU, percent; one thread, this machine", title_justify="left")
    for name in ("file", "input", "KB", "ms", *found[0]["miou_percent"]):
        made.add_column(name, justify="right")
    for row in found:
        height, width = row["size"]
        facts = (row["file"], f"{height}x{width}", f"{row['bytes'] / 1e3:.1f}", f"{row['ms']:.2f}")
        made.add_row(*facts, *(f"{score:.2f}" for score in row["miou_percent"].values()))
    return made


def devices_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return the figures of `scaling` as people read them."""
    made = Table(title="Pictures a second, by processes x threads of each", title_justify="left")
    for name in ("net", "processes x threads", "images/s", "times", "CPU ms/image"):
        made.add_column(name, justify="right")
    for row in found:
        name = f"{row['net']} {row['size'][0]}x{row['size'][1]}"
        for side in row["sides"]:
            each = f"{side['processes']} x {side['threads']}"
            figures = (side["images_per_second"], side["times"], side["cpu_ms_per_image"])
            made.add_row(name, each, *(f"{figure:.2f}" for figure in figures))
    return made


def training_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Return loops beside each other as people read them."""
    threads = found[0]["threads"]
    made = Table(title=f"{threads} threads, this machine", title_justify="left")
    for name in ("net", "loop", "pictures/s", "reading and changing them", "ours is faster by"):
        made.add_column(name, justify="right")
    for row in found:
        for name, side in row["sides"].items():
            made.add_row(
                f"{row['net']} {row['size'][0]}",
                name,
                f"{side['images_per_second']:.1f}",
                f"{side['data_share_percent']:.1f} %",
                f"{row['times_faster']:.2f}" if name == row["best_plain"] else "",
            )
    return made


if __name__ == "__main__":
    main()
