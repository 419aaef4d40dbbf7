"""`mobileseg export FILE`: anybody's trained float file in int8, or in the other format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.export.contract import meaning_of
from mobileseg.export.runtime import load
from mobileseg.files import shipped
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import float16_weights
from mobileseg.quantize.config import QuantizeConfig
from mobileseg.quantize.repair import Quantized, post_train
from mobileseg.train.evaluate import load_eval
from mobileseg.train.pairs import pairs
from mobileseg.train.pictures import picture_paths, read_image, resize_image
from mobileseg.workflow.choose import as_recipe_says, fitting
from mobileseg.workflow.export import Exports, Named, judged, stem_of, write_files
from mobileseg.workflow.foreign import Foreign, file_judge, require_same
from mobileseg.workflow.int8 import Calibration, formed_for, wished
from mobileseg.workflow.network import Pictures, Predict, file_predict, with_output
from mobileseg.workflow.options import ExportOptions
from mobileseg.workflow.verdict import Labels, agreements, next_mend, recorded

Say = Callable[[str], None]

# What a file is compared on: every value of each picture counts.
_CHECK_IMAGES = 8


def export_file(
    given: Foreign,
    options: ExportOptions,
    has_masks: bool,
    images: Path | None = None,
    say: Say = lambda _: None,
) -> Exports:
    """Write the file's network anew, checked as `export` does; int8 is judged where masks are.

    has_masks: whether the recipe's data are there: they calibrate and judge int8. images: pictures
    without masks that calibrate instead. Raises GateError where our graph or a written file
    computes something else than the file, MobilesegError where what is needed is not said.
    """
    _require_sense(given, options, has_masks, images)
    options.require()
    shown = _shown(given, has_masks, images)
    require_same(given, given.graph, shown)
    plain = with_output(given.graph, options.output)
    # What the file itself ends in is said, where nothing is put behind it.
    options = replace(options, output=meaning_of(plain))
    graph, choice = formed_for(plain, options.quantize, options.forms)
    made = None
    if options.precision == "float16":
        graph = float16_weights(graph)
    elif options.precision == "int8":
        config = wished(given.recipe, options.quantize)
        made = _quantized(given, graph, config, options, images, say)
        graph = made.graph
    assert options.folder is not None
    labels = given.recipe.data.classes
    named = Named(
        options.folder,
        stem_of((given.recipe.name,), given.recipe, options),
        given.recipe.name,
        labels,
    )
    files = write_files(graph, choice, named, options, shown)
    if made is None:
        return Exports(files)
    if not has_masks:
        share = _agreement(given, file_predict(load(files[0].path, trusted=True)), shown)
        say(f"int8 calls {100 * share:.2f} % of the pixels of {len(shown)} pictures as the file")
        return Exports(files)
    judge, mend = file_judge(given, "val"), next_mend(str(given.path), config)
    verdicts, alike = judged(files, made, judge, config.max_drop, mend, say)
    return Exports(files, verdicts, alike)


def _require_sense(
    given: Foreign, options: ExportOptions, has_masks: bool, images: Path | None
) -> None:
    where = str(given.path)
    if options.folder is None:
        raise MobilesegError(f"{where}: belongs to no run; say where to write with --out")
    if options.explain or options.plot is not None:
        raise MobilesegError(f"{where}: --explain and --plot are of runs; leave them out")
    if options.precision == "int8" and not has_masks and images is None:
        raise MobilesegError(
            f"{where}: int8 is calibrated on pictures; give --data DIR, or --images DIR if "
            "there are no masks"
        )
    if has_masks and images is not None:
        raise MobilesegError(
            f"{where}: --images {images}: the training pictures of --data calibrate; name one"
        )


def _shown(given: Foreign, has_masks: bool, images: Path | None) -> Pictures:
    """Return pictures to compare values on; shipped ones where none are given."""
    if has_masks:
        data = given.recipe.data
        return load_eval(pairs(data, "val")[:_CHECK_IMAGES], data, given.size).images
    folder = images or shipped("assets", "data", "public_figures", "images")
    return _read(_spread(picture_paths(folder), _CHECK_IMAGES), given.size)


def _spread(paths: list[Path], count: int) -> list[Path]:
    """Return so many of them, evenly from first to last."""
    places = np.linspace(0, len(paths) - 1, min(count, len(paths)))
    return [paths[round(place)] for place in places]


def _read(paths: list[Path], size: tuple[int, int]) -> Pictures:
    return np.stack([resize_image(read_image(path), size) for path in paths])


def _quantized(
    given: Foreign,
    graph: Graph,
    config: QuantizeConfig,
    options: ExportOptions,
    images: Path | None,
    say: Say,
) -> Quantized:
    if images is None:
        return as_recipe_says(graph, given.recipe, config, options.interface, say=say).made
    if "auto" in (config.repair, config.keep_float):
        raise MobilesegError(
            f"{given.path}: auto is chosen by masks; give --data DIR in the place of --images"
        )
    seen = Calibration((), _read(_spread(picture_paths(images), config.images), given.size))
    return post_train(graph, seen, fitting(graph, config, say), options.interface)


def _agreement(given: Foreign, predict: Predict, shown: Pictures) -> float:
    """Return the share of pixels that the file and an executor call alike."""
    mine: list[Labels] = []
    theirs: list[Labels] = []
    recorded(predict, mine)(shown)
    recorded(given.predict, theirs)(shown)
    return float(np.mean(agreements(mine, theirs)))
