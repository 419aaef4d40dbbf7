"""Anybody's trained float file as a network: its graph, its data, and what it takes of a pixel."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.check import CLASS_SHARE
from mobileseg.export.runtime import load, pixels_as
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import float32_weights, normalise, scale_input
from mobileseg.reading.read import read_network, read_surface
from mobileseg.reading.sketch import Reading
from mobileseg.reading.surface import Surface
from mobileseg.recipe import Recipe, Step, read_recipe
from mobileseg.train.config import DataConfig
from mobileseg.train.evaluate import load_eval
from mobileseg.train.pairs import Split, pairs
from mobileseg.workflow.network import Pictures, Predict, file_predict
from mobileseg.workflow.verdict import Judge

# Of what our own files take: mean and standard deviation of a pixel's byte.
_OURS = (128.0,), (128.0,)
_NAMED = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": ((0.0,), (255.0,)),
    "bytes": ((0.0,), (1.0,)),
}
_ALLOWED = f"{', '.join(_NAMED)}, or MEAN/STD in bytes, as 127.5/127.5 or three of each with commas"
# Two executions of a hundred layers, summed in other orders, part by so much of the largest output.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class FileOptions:
    """How a file is to be taken.

    pixels: what it takes of a pixel, as `read_pixels` says; by default what the file says itself.
    size: (height, width) where an .onnx file leaves them open. recipe: whose [data], [quantize]
    and devices are meant; by default lists of pairs in the data's folder, and masks that hold the
    numbers of the classes.
    """

    pixels: str | None = None
    size: tuple[int, int] | None = None
    recipe: str | None = None


AS_IT_SAYS = FileOptions()


@dataclass(frozen=True)
class Pixels:
    """A network takes (byte - mean) / std: one number for all channels, or three."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Pictures, dtype: np.dtype[np.generic]) -> Array:
        """Return pictures `(N, H, W, 3)` as a file takes them, `(N, 3, H, W)` of its type."""
        if dtype != np.float32:
            return pixels_as(images, dtype)
        moved = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
        mean, std = (np.reshape(each, (1, -1, 1, 1)) for each in (self.mean, self.std))
        taken: Array = ((moved - mean) / std).astype(np.float32)
        return taken


@dataclass(frozen=True)
class Foreign:
    """A file at work: as it was read, and in its runtime (`predict`)."""

    path: Path
    reading: Reading
    pixels: Pixels
    predict: Predict
    recipe: Recipe

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture it takes."""
        height, width = self.reading.graph[self.reading.graph.inputs[0]].shape[2:]
        return height, width

    @property
    def quantized(self) -> bool:
        """Whether it computes in integers."""
        graph = self.reading.graph
        return any(graph[node.output].dtype in {"int8", "uint8"} for node in graph.nodes)

    @cached_property
    def graph(self) -> Graph:
        """What the file computes, of (byte - 128) / 128 as ours do, with all folded that can be.

        Raises MobilesegError for a quantized file, and for what the graph has no exact word for.
        """
        if self.quantized:
            raise MobilesegError(
                f"{self.path}: is quantized already; eval and check take it as it is, this needs "
                "the float file"
            )
        if self.reading.notes:
            raise MobilesegError(
                f"{self.path}: {'; '.join(self.reading.notes)}: that can be priced, not written "
                "anew; export the network without it"
            )
        mean, std = np.asarray(self.pixels.mean), np.asarray(self.pixels.std)
        wide = float32_weights(self.reading.graph)
        return normalise(scale_input(wide, (128 - mean) / 128, 128 / std))


def read_pixels(text: str) -> Pixels:
    """Return what a person says that a network takes of a pixel. Raises MobilesegError."""
    if text in _NAMED:
        return Pixels(*_NAMED[text])
    try:
        mean, std = (tuple(map(float, part.split(","))) for part in text.split("/"))
    except ValueError:
        raise MobilesegError(f"--pixels {text}: is none of {_ALLOWED}") from None
    fits = all(len(part) in {1, 3} and np.isfinite(part).all() for part in (mean, std))
    if not fits or min(std) <= 0:
        raise MobilesegError(f"--pixels {text}: one or three numbers each, every STD above 0")
    return Pixels(mean, std)


def open_file(path: Path, options: FileOptions, data: Path | None) -> Foreign:
    """Return a file, loaded; its operators were checked before any runtime saw them.

    data: folder of lists and pictures, in the place of the recipe's. Raises MobilesegError for a
    file that cannot be read or run, is no segmenter, or says nothing of the pixels it takes.
    """
    reading = read_network(path, options.size)
    _require_segmenter(path, reading.graph)
    surface = read_surface(path)
    pixels = _pixels(surface, options)
    recipe = _recipe(path, reading.graph, surface, options, data)
    runner = load(path, size=options.size, channels_last=reading.channels_last)
    predict = file_predict(runner, pixels)
    return Foreign(path, reading, pixels, predict, recipe)


def file_predictor(path: Path, options: FileOptions) -> tuple[Predict, tuple[int, int]]:
    """Return any file in its runtime, whatever its operators, and the (height, width) it takes.

    Raises MobilesegError where it cannot run, or says nothing of the pixels it takes.
    """
    pixels = _pixels(read_surface(path), options)
    runner = load(path, size=options.size)
    return file_predict(runner, pixels), runner.image_size


def file_judge(given: Foreign, split: Split) -> Judge:
    """Return the file's answers on a split, to hold int8 ones against."""
    data = given.recipe.data
    return Judge(given.predict, load_eval(pairs(data, split), data, given.size), split)


def require_same(foreign: Foreign, graph: Graph, images: Pictures) -> None:
    """Raise GateError where the graph's values are not those of the file in its runtime."""
    x = torch.from_numpy(pixels_as(images, np.dtype(np.float32)))
    with torch.inference_mode():
        mine = execute(graph, x).numpy().astype(np.float64)
    theirs = foreign.predict(images)
    if mine.ndim == 3:
        # Of classes a few may tip; values are told apart by their size.
        share = float(np.mean(mine == theirs))
        if share < CLASS_SHARE:
            raise GateError(
                f"{foreign.path}: our graph of it gives {100 * share:.2f} % of the pixels the "
                f"file's class; {100 * CLASS_SHARE:g} % is due"
            )
        return
    error = float(np.abs(mine - theirs).max() / max(np.abs(theirs).max(), 1e-30))
    if not error <= _TOLERANCE:
        raise GateError(
            f"{foreign.path}: our graph of it differs from the file in its runtime by {error:.1e} "
            f"of the largest output; {_TOLERANCE:.0e} is allowed"
        )


def _require_segmenter(path: Path, graph: Graph) -> None:
    given, made = [graph[name] for name in graph.inputs], [graph[name] for name in graph.outputs]
    if len(given) != 1 or given[0].shape[:2] != (1, 3):
        shapes = ", ".join(str(list(each.shape)) for each in given)
        raise MobilesegError(f"{path}: takes {shapes}; a segmenter takes one RGB picture")
    if len(made) != 1:
        names = ", ".join(each.name for each in made)
        raise MobilesegError(f"{path}: has several outputs ({names}); export it with the map alone")


def _pixels(surface: Surface, options: FileOptions) -> Pixels:
    """Return what the file takes of a pixel: as a person says, or as it says itself."""
    if options.pixels is not None:
        return read_pixels(options.pixels)
    note, image = surface.image_note, surface.image
    if note.means and note.deviations:
        return Pixels(note.means, note.deviations)
    integers = image is not None and image.type in {"uint8", "int8"}
    if surface.producer == "mobileseg" or integers:
        return Pixels(*_OURS)
    raise MobilesegError(
        f"{surface.where}: does not say what it takes of a pixel; say it with --pixels: {_ALLOWED}"
    )


def _recipe(
    path: Path, graph: Graph, surface: Surface, options: FileOptions, data: Path | None
) -> Recipe:
    made = graph[graph.outputs[0]].shape
    if options.recipe is not None:
        recipe = read_recipe(options.recipe, (), data)
        if len(made) == 4 and made[1] != len(recipe.data.classes):
            raise MobilesegError(
                f"{path}: gives {made[1]} classes, {options.recipe} names "
                f"{len(recipe.data.classes)}; name the recipe that it was trained by"
            )
        return recipe
    if len(made) != 4:
        raise MobilesegError(
            f"{path}: gives class numbers; say with --recipe FILE what classes there are"
        )
    root = data.resolve() if data is not None else Path()
    there = {split: Path(f"{split}.txt") for split in ("val", "test")}
    found = {split: name for split, name in there.items() if (root / name).is_file()}
    labels = surface.labels
    named = len(labels) == made[1] == len(set(labels))
    classes = tuple(labels) if named else tuple(f"class{i}" for i in range(max(2, made[1])))
    return Recipe(
        name=re.sub(r"[^A-Za-z0-9._-]", "_", path.stem),
        net=path.name,
        image_size=graph[graph.inputs[0]].shape[2:],  # type: ignore[arg-type]
        data=DataConfig(root=root, classes=classes, val=found.get("val"), test=found.get("test")),
        step=(Step(name="file"),),
    )
