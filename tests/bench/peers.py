"""Files of the same networks by other people's converters, timed in turns with ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mobileseg.errors import MobilesegError
from mobileseg.export.runtime import require_runs
from mobileseg.graph.ir import Array
from mobileseg.latency.calibrate import visits
from mobileseg.latency.place import HERE, Job, run_job

OURS, REFERENCE = "chosen", "float32-plain"
_PICTURES = 4


@dataclass(frozen=True)
class PeerFile:
    """`NET-PRECISION-TOOL.tflite`. problem: why it does not run, empty where it does.

    pieces: that XNNPACK took. alike: the share of pixels called as by our plain float file.
    """

    net: str
    precision: str
    tool: str
    path: Path
    problem: str = ""
    pieces: int = 0
    alike: float = 0.0


def found(folder: Path) -> list[PeerFile]:
    """Return all files of the folder, each run once in a process of its own, then compared."""
    files = []
    for path in sorted(folder.glob("?-*-*.tflite")):
        net, precision, tool = path.stem.split("-", 2)
        try:
            require_runs(path)
        except MobilesegError as error:
            files.append(PeerFile(net, precision, tool, path, str(error)))
            continue
        pictures = np.load(folder / f"{net}.npy")[:_PICTURES]
        expected, _ = _masks(folder / f"{net}-{REFERENCE}.tflite", pictures)
        masks, pieces = _masks(path, pictures)
        alike = float((masks == expected).mean()) if masks.shape == expected.shape else 0.0
        files.append(PeerFile(net, precision, tool, path, "", pieces, alike))
    return files


def _masks(path: Path, pictures: Array) -> tuple[Array, int]:
    """Return the class of each pixel `(N, H, W)`, and the pieces that XNNPACK took."""
    runner = Interpreter(str(path), num_threads=1)
    runner.allocate_tensors()
    given, made = runner.get_input_details()[0], runner.get_output_details()[0]
    scale, zero_point = given["quantization"]
    masks = []
    for picture in pictures:
        if scale:
            limits = np.iinfo(given["dtype"])
            picture = np.clip(np.round(picture / scale) + zero_point, limits.min, limits.max)  # noqa: PLW2901
        runner.set_tensor(given["index"], picture[None].astype(given["dtype"]))
        runner.invoke()
        masks.append(runner.get_tensor(made["index"])[0].argmax(-1))
    pieces = sum(each["op_name"] == "DELEGATE" for each in runner._get_ops_details())
    return np.stack(masks), pieces


def rows(
    files: Sequence[PeerFile], rounds: int, say: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """Time all that run, in turns on one thread; yield a row per file, ours beside it."""
    able = {file.path.name: file.path.read_bytes() for file in files if not file.problem}
    answer = run_job(HERE, Job(threads=1, rounds=rounds, ms=150), able, say)
    ms = {name: visits(answer["files"][name]).ms for name in able}
    for file in files:
        if file.tool == OURS:
            continue
        ours = ms[f"{file.net}-{file.precision}-{OURS}.tflite"]
        mine = ms.get(file.path.name)
        yield {
            "net": file.net,
            "precision": file.precision,
            "file": file.tool,
            "ms": mine,
            "ours_ms": ours,
            "times": None if mine is None else mine / ours,
            "pieces": file.pieces,
            "alike_percent": 100 * file.alike,
            "problem": file.problem,
        }
