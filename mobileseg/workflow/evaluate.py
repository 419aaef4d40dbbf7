"""`mobileseg eval`: one network as module, as int8 graph and as the file in its runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.export.runtime import load
from mobileseg.files import read_json
from mobileseg.graph.ir import Graph
from mobileseg.recipe import Recipe
from mobileseg.runs import Run
from mobileseg.train.evaluate import EvalSet, evaluate, load_eval, module_predict
from mobileseg.train.metrics import Scores
from mobileseg.train.pairs import Split, pairs
from mobileseg.workflow.choose import as_recipe_says
from mobileseg.workflow.export import export_stem
from mobileseg.workflow.foreign import FileOptions, open_file
from mobileseg.workflow.forms import FOR_INT8, choose
from mobileseg.workflow.int8 import calibration_path, read_int8
from mobileseg.workflow.network import (
    Predict,
    file_predict,
    float_graph,
    graph_predict,
    load_net,
)
from mobileseg.workflow.options import FORMATS, ExportOptions
from mobileseg.workflow.trained import load_trained
from mobileseg.workflow.verdict import Labels, agreements, recorded


@dataclass(frozen=True)
class Evaluated:
    """The scores of one executor; `agreement` is the share of pixels that it and the module
    call alike, at the network's size."""

    executor: str
    scores: Scores
    agreement: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "executor": self.executor,
            "scores": self.scores.as_dict(),
            "agreement": self.agreement,
        }


def evaluate_run(
    run: Run, split: Split, data: Path | None, files: Sequence[Path]
) -> tuple[EvalSet, list[Evaluated]]:
    """Score the float module, the int8 graph and the exported files on one split.

    The int8 graph is that of the files' export, of the default one or of the newest one, or else
    calibrated now; beside it stands the one of quantization-aware training, if the run has one.
    files: those to score; by default all .tflite and .onnx files that the run has
    exported with logits. Raises MobilesegError where data or files do not fit.
    """
    recipe, net = run.recipe().with_data(data), load_net(run)
    size = net.spec.image_size
    evalset = load_eval(pairs(recipe.data, split), recipe.data, size)
    graph = float_graph(net)
    int8 = _exported_graph(run, recipe, graph, files)
    if int8 is None:
        int8 = as_recipe_says(graph, recipe, recipe.quantize).made.graph
    executors: list[tuple[str, Predict]] = [
        ("float", module_predict(net)),
        ("int8 graph", graph_predict(int8)),
    ]
    trained = load_trained(run)
    if trained is not None:
        executors.append(("qat graph", graph_predict(trained.int8().graph)))
    executors += _loaded(files or sorted(_exports(run)), size, run.name)
    return evalset, _side_by_side(executors, evalset)


def evaluate_file(
    path: Path, options: FileOptions, split: Split, data: Path | None, files: Sequence[Path]
) -> tuple[EvalSet, list[Evaluated]]:
    """Score anybody's file in its runtime on one split; of a float file our graph and int8, too.

    files: others to score beside it, as `mobileseg export` writes them. Raises MobilesegError
    where data or files do not fit.
    """
    given = open_file(path, options, data)
    executors: list[tuple[str, Predict]] = [(path.name, given.predict)]
    if not given.quantized:
        graph = choose(given.graph, FOR_INT8)(given.graph)
        int8 = as_recipe_says(graph, given.recipe, given.recipe.quantize).made.graph
        executors += [
            ("float graph", graph_predict(given.graph)),
            ("int8 graph", graph_predict(int8)),
        ]
    executors += _loaded(files, given.size, path.name)
    evalset = load_eval(pairs(given.recipe.data, split), given.recipe.data, given.size)
    return evalset, _side_by_side(executors, evalset)


def _loaded(files: Iterable[Path], size: tuple[int, int], name: str) -> list[tuple[str, Predict]]:
    found = []
    for path in files:
        runner = load(path)
        if runner.image_size != size:
            raise MobilesegError(f"{path}: takes {runner.image_size} pictures, {name} takes {size}")
        found.append((path.name, file_predict(runner)))
    return found


def _exported_graph(run: Run, recipe: Recipe, graph: Graph, files: Sequence[Path]) -> Graph | None:
    """Return the int8 graph of an export of these weights, None without one."""
    paths = [calibration_path(path.parent, path.stem) for path in files]
    paths.append(calibration_path(run.export_folder, export_stem(recipe, run, ExportOptions())))
    others = run.export_folder.glob(calibration_path(run.export_folder, "*").name)
    paths += sorted(others, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in paths:
        if path.is_file():
            int8 = read_int8(path, run, graph)
            if int8 is not None:
                return int8
    return None


def _exports(run: Run) -> list[Path]:
    """The files with logits, as what stands beside each says."""
    files = [path for kind in FORMATS for path in sorted(run.export_folder.glob(f"*.{kind}"))]
    return [path for path in files if _gives_logits(path)]


def _gives_logits(path: Path) -> bool:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return True
    wished, *_ = read_json(beside)
    return bool(wished.get("output") == "logits")


def _side_by_side(executors: list[tuple[str, Predict]], evalset: EvalSet) -> list[Evaluated]:
    done: list[Evaluated] = []
    reference: list[Labels] = []
    for name, predict in executors:
        labels: list[Labels] = []
        scores = evaluate(recorded(predict, labels), evalset)
        reference = reference or labels
        agreement = float(np.mean(agreements(labels, reference)))
        done.append(Evaluated(name, scores, agreement))
    return done
