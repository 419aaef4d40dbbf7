"""This machine, calibrated, foretells networks that the calibration did not hold.

The table it prints is the report: `pytest -m slow tests/workflow/test_host.py -s`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobileseg.export.tflite import write_tflite
from mobileseg.graph.ir import Graph
from mobileseg.latency.calibrate import visits
from mobileseg.latency.place import HERE, Job, run_job
from mobileseg.latency.price import price
from mobileseg.latency.profile import Precision, load_profile
from mobileseg.recipe import read_recipe, shipped_recipes
from mobileseg.workflow.calibrate import calibrate_machine
from mobileseg.workflow.network import as_int8, empty_graph
from mobileseg.workflow.plan import plan
from mobileseg.workflow.where import THIS_MACHINE

# Of the median error; where the calibration itself says that the machine is busy, the other one.
BOUND, BUSY = 0.10, 0.25


def networks(runs: Path) -> dict[tuple[str, Precision], Graph]:
    """Every rung of the shipped recipes, the zoo's networks among them, float and int8."""
    found: dict[tuple[str, Precision], Graph] = {}
    for recipe in map(read_recipe, shipped_recipes()):
        for rung in plan(recipe, runs):
            graph = empty_graph(rung.spec)
            name = f"{recipe.name}/{rung.step.name}"
            found[name, "float32"] = graph
            found[name, "int8"] = as_int8(graph)
    return found


@pytest.mark.slow
def test_foretells_the_recipes(tmp_path: Path) -> None:
    found = calibrate_machine("host", tmp_path, THIS_MACHINE, 1, True, lambda _done, _of: None)
    profile = load_profile(found.path)
    assert profile == found.profile
    graphs = networks(tmp_path)
    files = {f"{i}.tflite": write_tflite(graph) for i, graph in enumerate(graphs.values())}
    answer = run_job(HERE, Job(rounds=3, warmup=1, least=3), files, lambda _done: None)
    print(f"\n{profile.title}, {profile.runtime}, {profile.source[0]}")
    print(f"{found.warning or 'a quiet machine'}")
    misses: dict[Precision, list[float]] = {"float32": [], "int8": []}
    inside = 0
    for file, (name, precision) in zip(files, graphs, strict=True):
        priced = price(graphs[name, precision], profile)
        ms = visits(answer["files"][file]).ms
        misses[precision].append(priced.ms / ms - 1)
        inside += priced.low_ms <= ms <= priced.high_ms
        band = f"({priced.low_ms:.2f}-{priced.high_ms:.2f})"
        miss = f"{100 * misses[precision][-1]:+.1f} %"
        print(f"{name:40} {precision:8} {priced.ms:7.2f} {band:16} measured {ms:7.2f} ms {miss:>8}")
    medians = {key: float(np.median(np.abs(each))) for key, each in misses.items()}
    said = ", ".join(f"{name} {100 * each:.1f} %" for name, each in medians.items())
    print(f"median error: {said}; inside the 80 % band: {inside} of {len(graphs)}")
    assert max(medians.values()) < (BUSY if found.warning else BOUND)
    assert inside >= 0.8 * len(graphs)
