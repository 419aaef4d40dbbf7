"""`mobileseg quantize`: a trained run in int8, judged, repaired, and looked into."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mobileseg.export.tflite import write_tflite
from mobileseg.files import write_json
from mobileseg.graph.ir import Graph
from mobileseg.latency.measure import measure
from mobileseg.latency.price import price
from mobileseg.quantize.convert import quantize as to_int8
from mobileseg.quantize.plot import plot
from mobileseg.recipe import Recipe
from mobileseg.runs import Run
from mobileseg.train.pairs import Split
from mobileseg.workflow.choose import Settled, as_recipe_says
from mobileseg.workflow.device import device
from mobileseg.workflow.export import judge_of
from mobileseg.workflow.foreign import Foreign, file_judge, require_same
from mobileseg.workflow.int8 import formed_for, graph_for, wished
from mobileseg.workflow.network import load_net
from mobileseg.workflow.sensitivity import LayerError, blamed, in_runtime, sensitivity
from mobileseg.workflow.verdict import Judge, Verdict, next_mend

Say = Callable[[str], None]

# Noise and pixels are counted by the million in so many pictures.
_SENSITIVITY_IMAGES = 32
# Files are timed in turns, so that a busy moment of the machine hits both.
_ROUNDS = 5


@dataclass(frozen=True)
class QuantizeOptions:
    """What is asked. `changes`: keys in the place of the recipe's [quantize]."""

    changes: Mapping[str, Any]
    split: Split = "val"
    sensitivity: bool = False


@dataclass(frozen=True)
class Cost:
    """What layers in float or int16 activations cost: milliseconds all in int8, and with them; per
    device and here."""

    where: str
    int8_ms: float
    mixed_ms: float


@dataclass(frozen=True)
class Judged:
    """A network in int8 and what was found out about it.

    `name`: of the run or file. `path` holds all of it as JSON; None where nothing was written.
    """

    name: str
    settled: Settled
    verdict: Verdict
    errors: tuple[LayerError, ...]
    costs: tuple[Cost, ...]
    path: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "run": self.name,
            "quantize": asdict(self.settled.config)
            | {
                "images": len(self.settled.seen.pairs),
                "activations": self.settled.config.activations,
            },
            "verdict": self.verdict.as_dict(),
            "trials": [trial.as_dict() for trial in self.settled.trials],
            "sensitivity": [error.as_dict() for error in self.errors],
            "costs": [asdict(cost) for cost in self.costs],
        }


def quantize(
    run: Run, options: QuantizeOptions, data: Path | None = None, say: Say = lambda _: None
) -> Judged:
    """Return the verdict on the run in int8, and write it down.

    Raises MobilesegError where the run or its data are not there.
    """
    recipe = run.recipe().with_data(data)
    wished(recipe, options.changes)
    net = load_net(run)
    if run.qat.ranges_path.is_file():
        say(f"{run.name} was trained as int8, too: export writes that; this judges it without")
    judge = judge_of(net, recipe, options.split)
    graph, _ = graph_for(net, options.changes)
    judged = _judged(run.name, graph, recipe, judge, options, say)
    judged = replace(judged, path=run.quantize_folder / "report.json")
    write_json(run.quantize_folder / "report.json", judged.as_dict())
    return judged


def quantize_file(given: Foreign, options: QuantizeOptions, say: Say = lambda _: None) -> Judged:
    """Return the verdict on anybody's float file in int8, against the file in its runtime.

    Nothing is written. Raises MobilesegError where its data are not there, GateError where our
    graph of it computes something else.
    """
    judge = file_judge(given, options.split)
    require_same(given, given.graph, judge.evalset.images[:2])
    graph, _ = formed_for(given.graph, options.changes)
    return _judged(given.path.name, graph, given.recipe, judge, options, say)


def _judged(
    name: str, graph: Graph, recipe: Recipe, judge: Judge, options: QuantizeOptions, say: Say
) -> Judged:
    config = wished(recipe, options.changes)
    settled = as_recipe_says(graph, recipe, config, val=judge, say=say)
    verdict = judge.verdict(in_runtime(settled.made.graph), config.max_drop)
    errors: list[LayerError] = []
    if options.sensitivity:
        say("quantizing one layer at a time")
        errors = sensitivity(settled.made, judge.of_first(_SENSITIVITY_IMAGES))
    if not verdict.passed:
        named = blamed(settled.made, judge, errors)
        verdict = replace(verdict, blamed=named, mend=next_mend(name, config))
    costs = _costs(settled, recipe)
    return Judged(name, settled, verdict, tuple(errors), tuple(costs))


def _costs(settled: Settled, recipe: Recipe) -> list[Cost]:
    """Return what the layers in float cost on the recipe's devices, and here.

    What int16 activations cost is only measured: profiles hold times of XNNPACK, which has none.
    """
    fine = settled.config.activations == "int16"
    if not settled.config.keep_float and not fine:
        return []
    mixed = settled.made.graph
    whole = to_int8(settled.made.source, settled.made.ranges)
    costs = []
    for name in () if fine else recipe.devices:
        profile = device(name)
        if profile.int8 is not None:
            estimated = (price(graph, profile).ms for graph in (whole, mixed))
            costs.append(Cost(name, *estimated))
    return [*costs, Cost("measured here", *_timed(whole, mixed))]


def _timed(*graphs: Graph) -> list[float]:
    """Return the milliseconds of each graph's file in LiteRT, one thread."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.tflite" for number in range(len(graphs))]
        for path, graph in zip(paths, graphs, strict=True):
            path.write_bytes(write_tflite(graph))
        rounds = [[measure(path, runs=20).median_ms for path in paths] for _ in range(_ROUNDS)]
    # The quietest turn of each: other work on the machine only ever adds.
    return [min(each) for each in zip(*rounds, strict=True)]


def draw(judged: Judged, folder: Path) -> Path:
    """Write the picture of the layers' errors, and return its path."""
    path = folder / f"{judged.name.replace('/', '-')}-sensitivity.png"
    title = f"{judged.name}: one layer in int8, all others in float"
    plot([error.as_dict() for error in judged.errors], title, path)
    return path
