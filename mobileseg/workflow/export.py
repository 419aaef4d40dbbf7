"""`mobileseg export`: a trained run to the files a phone loads, each checked in its runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.check import Check, check_file, require
from mobileseg.export.onnx import write_onnx
from mobileseg.export.runtime import pixels_as
from mobileseg.export.tflite import write_tflite
from mobileseg.files import read_json, write_atomic, write_json
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import float16_weights
from mobileseg.nets.module import Net
from mobileseg.quantize.calibrate import Ranges, calibrate
from mobileseg.quantize.convert import Interface, quantize
from mobileseg.recipe import Recipe
from mobileseg.runs import Run
from mobileseg.train.data import read_image, resize_image
from mobileseg.train.pairs import Pair, pairs
from mobileseg.workflow.network import Output, Pictures, float_graph, load_net

Precision: TypeAlias = Literal["float32", "float16", "int8"]
Format: TypeAlias = Literal["tflite", "onnx"]
Say: TypeAlias = Callable[[str], None]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
FORMATS: tuple[Format, ...] = get_args(Format)

# The graph is the network with batch norm folded: what folding rounds differently must stay here.
FLOAT_TOLERANCE = 1e-5
# Files are compared with our execution on so many real pictures: every value of each counts.
_CHECK_IMAGES = 8
_BATCH = 16


@dataclass(frozen=True)
class ExportOptions:
    """What file is wished for."""

    precision: Precision = "int8"
    formats: tuple[Format, ...] = ("tflite",)
    interface: Interface = "uint8"
    output: Output = "logits"
    rewrite: bool = True
    folder: Path | None = None
    calibration_images: int | None = None


@dataclass(frozen=True)
class Exported:
    """A written and checked file."""

    path: Path
    bytes: int
    check: Check

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"path": str(self.path), "bytes": self.bytes, "check": self.check.as_dict()}


@dataclass(frozen=True)
class Calibrated:
    """The ranges of a float graph's activations, and the training pictures that gave them."""

    ranges: Ranges
    images: tuple[Path, ...]


def export(
    run: Run, options: ExportOptions, data: Path | None = None, say: Say = lambda _: None
) -> list[Exported]:
    """Write the run's files and check each on real pictures in its real runtime.

    Raises GateError where a file computes something else than the graph, MobilesegError where
    the run or its data are not there.
    """
    return export_net(load_net(run), run.recipe().with_data(data), run, options, say)


def export_net(
    net: Net, recipe: Recipe, run: Run, options: ExportOptions, say: Say = lambda _: None
) -> list[Exported]:
    """See `export`; for a module at hand, whose weights the run holds."""
    graph = float_graph(net, options.output, options.rewrite)
    shown = evaluation_pictures(recipe, net.spec.image_size)
    require_equal(net, graph, shown, options.output)
    folder, stem = options.folder or run.export_folder, export_stem(recipe, run, options)
    if options.precision == "int8":
        wished = options.calibration_images
        made = calibrated(graph, recipe, net.spec.image_size, wished or recipe.quantize.images)
        if wished and len(made.images) < wished:
            say(f"calibrated on {len(made.images)} pictures: the training split holds no more")
        graph = quantize(graph, made.ranges, options.interface)
        _write_calibration(calibration_path(folder, stem), made, recipe, run)
    elif options.precision == "float16":
        graph = float16_weights(graph)
    written = []
    for kind in options.formats:
        path = folder / f"{stem}.{kind}"
        write_atomic(path, write_tflite(graph) if kind == "tflite" else write_onnx(graph))
        check = check_file(path, graph, shown)
        written.append(Exported(path, path.stat().st_size, check))
    write_json(
        folder / f"{stem}.json",
        [asdict(options) | {"folder": None}, *(w.as_dict() for w in written)],
    )
    for each in written:
        require(each.check)
    return written


def export_stem(recipe: Recipe, run: Run, options: ExportOptions) -> str:
    """Return the file's name: what is not the default is said in it, so no file hides another."""
    words = [recipe.name, run.folder.name, options.precision]
    if options.precision == "int8" and options.interface != "uint8":
        words.append(f"{options.interface}io")
    if options.output != "logits":
        words.append(options.output)
    return "-".join(words if options.rewrite else [*words, "plain"])


def calibrated(graph: Graph, recipe: Recipe, size: tuple[int, int], count: int) -> Calibrated:
    """Return the graph's ranges on `count` training pictures, or on all where there are fewer."""
    chosen = calibration_pairs(recipe, count)
    pictures = _pictures(chosen, size)
    batches = (
        pixels_as(pictures[start : start + _BATCH], np.dtype(np.float32))
        for start in range(0, len(pictures), _BATCH)
    )
    return Calibrated(calibrate(graph, batches), tuple(pair.image for pair in chosen))


def calibration_path(folder: Path, stem: str) -> Path:
    """Where it stands what an int8 export was calibrated with: beside its files."""
    return folder / f"{stem}.calibration.json"


def _write_calibration(path: Path, made: Calibrated, recipe: Recipe, run: Run) -> None:
    manifest = {
        "split": "train",
        "seed": recipe.seed,
        "weights_sha256": _weights_digest(run),
        "images": [str(image) for image in made.images],
        "ranges": {name: list(span) for name, span in made.ranges.items()},
    }
    write_json(path, manifest)


def read_ranges(path: Path, run: Run, graph: Graph) -> Ranges | None:
    """Return an export's ranges; None where it is of other weights or of a graph with other names.

    Raises MobilesegError for a damaged file.
    """
    manifest = read_json(path)
    try:
        digest = manifest["weights_sha256"]
        ranges = {
            name: (float(low), float(high)) for name, (low, high) in manifest["ranges"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise MobilesegError(f"{path}: is no calibration; export again") from None
    if digest != _weights_digest(run) or not ranges.keys() >= {n.output for n in graph.nodes}:
        return None
    return ranges


def _weights_digest(run: Run) -> str | None:
    """Ranges are those of certain weights: trained again, a run needs others."""
    if not run.trained:
        return None
    with run.weights_path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def calibration_pairs(recipe: Recipe, count: int) -> list[Pair]:
    """Return seeded pairs of the training split, none of which any other split holds."""
    held_out = {pair.image.resolve() for pair in pairs(recipe.data, "val")}
    if recipe.data.test is not None:
        held_out |= {pair.image.resolve() for pair in pairs(recipe.data, "test")}
    mine = [pair for pair in pairs(recipe.data, "train") if pair.image.resolve() not in held_out]
    if not mine:
        raise MobilesegError(
            f"{recipe.data.train}: every training picture is also in val or test; calibration "
            "needs some of its own"
        )
    order = np.random.default_rng(recipe.seed).permutation(len(mine))
    return [mine[i] for i in order[:count]]


def evaluation_pictures(recipe: Recipe, size: tuple[int, int]) -> Pictures:
    """Return the first few validation pictures at the network's size."""
    return _pictures(pairs(recipe.data, "val")[:_CHECK_IMAGES], size)


def _pictures(chosen: list[Pair] | tuple[Pair, ...], size: tuple[int, int]) -> Pictures:
    return np.stack([resize_image(read_image(pair.image), size) for pair in chosen])


def require_equal(net: Net, graph: Graph, images: Pictures, output: Output) -> float:
    """Return the graph's largest error against the module, relative to the largest output.

    Raises GateError above `FLOAT_TOLERANCE`. Of another output than logits the logits are compared.
    """
    x = torch.from_numpy(pixels_as(images, np.dtype(np.float32)))
    if output != "logits":
        graph = graph.edit(graph.nodes[:-1], outputs=(graph.nodes[-1].inputs[0],))
    with torch.inference_mode():
        expected = net(x)
        error = float((execute(graph, x) - expected).abs().max() / expected.abs().max())
    if not error <= FLOAT_TOLERANCE:
        raise GateError(
            f"{net.spec.name}: the graph differs from the module by {error:.1e} of its largest "
            f"output; {FLOAT_TOLERANCE:.0e} is allowed"
        )
    return error
