"""The plan of memory in the file: what was planned is read back, and nothing in use overlaps."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from mobileseg.errors import MobilesegError
from mobileseg.export.memory_plan import PLAN
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.ir import Graph
from mobileseg.graph.memory import lower_bound, plan, plans
from mobileseg.graph.passes import FOR_TFLITE, run_passes
from mobileseg.nets.module import build
from mobileseg.nets.zoo import zoo_net
from mobileseg.reading.tflite.memory_plan import Place, overlaps, read_memory_plan
from mobileseg.workflow.network import as_int8, float_graph
from tests.graph.build import graph
from tests.graph.random_graphs import graphs
from tests.graph.test_passes import CONV, IMAGE


def in_bytes(of: Graph) -> Graph:
    """Return the graph with activations of a byte, as an int8 network has them."""
    made = (tensor for tensor in of.tensors.values() if tensor.data is None)
    return of.with_tensors(replace(tensor, dtype="int8") for tensor in made)


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_read_back_and_nothing_in_use_overlaps(drawn: Graph) -> None:
    lowered = run_passes(drawn, FOR_TFLITE)
    for of in (lowered, in_bytes(lowered)):
        made = plan(of)
        places = read_memory_plan(write_tflite(of, offsets=made.offsets), "the file")
        assert places is not None
        assert {place.name: place.offset for place in places} == dict(made.offsets)
        assert {place.name: place.nbytes for place in places} == {
            name: of[name].nbytes for name in made.offsets
        }
        assert max(place.end for place in places) == made.nbytes >= lower_bound(of)
        assert not overlaps(places)


@settings(max_examples=20, deadline=None)
@given(graphs())
def test_a_plan_that_overlaps_is_seen(drawn: Graph) -> None:
    """Everything at byte 0: the input and output of every operator share bytes."""
    of = run_passes(drawn, FOR_TFLITE)
    piled = dict.fromkeys(plan(of).offsets, 0)
    places = read_memory_plan(write_tflite(of, offsets=piled), "the file")
    assert places is not None
    pairs = {frozenset((one.name, other.name)) for one, other in overlaps(places)}
    for node in of.nodes:
        for tensor in of.activations(node):
            assert frozenset((tensor.name, node.output)) in pairs


def test_overlaps_by_hand() -> None:
    a, b = Place("a", 0, 64, 0, 1), Place("b", 64, 64, 1, 2)
    above, later = Place("c", 32, 64, 1, 1), Place("d", 0, 64, 2, 3)
    assert overlaps([a, b, later]) == []
    assert overlaps([a, b, above]) == [(a, above), (b, above)]


@pytest.mark.parametrize(
    "words",
    [[1], [1, 0, 2, 0, 0], [1, 0, 10**6], [1, 1, 3, 0, 0, -1], []],
    ids=["header", "fewer", "more", "another subgraph", "empty"],
)
def test_a_plan_for_other_tensors_is_refused(words: list[int]) -> None:
    data = write_tflite(graph(IMAGE, CONV), {PLAN: np.array(words, "<i4").tobytes()})
    with pytest.raises(MobilesegError, match="its memory plan"):
        read_memory_plan(data, "the file")


@pytest.fixture(scope="module")
def micro() -> str:
    path = os.environ.get("MOBILESEG_MICRO")
    if not path:
        pytest.skip(
            "MOBILESEG_MICRO is not set; `sh tests/micro.sh DIR` makes the environment and says it"
        )
    return path


@pytest.mark.micro
def test_a_runtime_that_obeys_plans_takes_what_was_planned(micro: str, tmp_path: Path) -> None:
    """Our base network: no plan of the runtime's own is better; a bad plan costs what it says."""
    net = build(zoo_net("mobilenet_deconv", (160, 160), 2, "test"))
    of = as_int8(float_graph(net))
    best, worst = plan(of), max(plans(of), key=lambda made: made.nbytes)
    files = {"none": None, "best": best.offsets, "worst": worst.offsets}
    for name, offsets in files.items():
        (tmp_path / f"{name}.tflite").write_bytes(write_tflite(of, offsets=offsets))
    runner = Path(__file__).with_name("micro_runner.py")
    paths = [str(tmp_path / f"{name}.tflite") for name in files]
    done = subprocess.run(
        [micro, str(runner), *paths],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout + done.stderr
    outputs = {json.loads(line)["output"] for line in said.splitlines() if line.startswith("{")}
    assert len(outputs) == 1
    found = [int(size) for size in re.findall(r"allocation head (\d+) bytes", said)]
    taken = dict(zip(files, found, strict=True))
    assert taken["best"] == best.nbytes == lower_bound(of)
    assert taken["worst"] == worst.nbytes
    assert taken["best"] <= taken["none"] < taken["worst"]
