"""What LiteRT takes, measured, against what we planned."""

from __future__ import annotations

import platform
from dataclasses import replace

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.export.arena import measure_arena
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph
from mobileseg.graph.memory import lower_bound, plan
from mobileseg.graph.passes import FOR_TFLITE, float16_weights, run_passes
from mobileseg.workflow.network import as_int8
from tests.graph.build import Line, graph

IMAGE = (1, 3, 40, 56)
# Of what the arenas take besides tensors: alignment, and a few bytes that kernels ask for.
SLACK = 4096


def network() -> Graph:
    """A shortcut over two convolutions. They are of 1x1 and depthwise: no kernel needs scratch."""
    lines: list[Line] = [
        ("a", ops.Conv2d(activation="relu"), "image", {"w": (16, 3, 1, 1), "b": (16,)}),
        ("c", ops.Conv2d(), "a", {"v": (400, 16, 1, 1), "d": (400,)}),
        ("e", ops.Conv2d(), "c", {"u": (16, 400, 1, 1), "f": (16,)}),
        ("z", ops.Add(), "e a"),
    ]
    return run_passes(graph(IMAGE, *lines), FOR_TFLITE)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_litert_takes_what_lives_and_its_input(precision: str) -> None:
    of = network() if precision == "float32" else as_int8(network())
    found = measure_arena(of)
    kept = of[of.inputs[0]].nbytes
    # It writes sums in place and keeps the input for the whole run.
    assert lower_bound(of, in_place=True) <= found.plain_addresses
    assert found.plain_addresses <= plan(of).nbytes + kept + SLACK


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone counts its heap")
def test_weights_are_no_part_of_the_heap_per_picture() -> None:
    of = network()
    found = measure_arena(of)
    assert found.plain_heap is not None and found.xnnpack_heap is not None
    assert found.plain_addresses <= found.plain_heap + SLACK
    assert lower_bound(of, in_place=True) <= found.xnnpack_heap + SLACK
    ends = of[of.inputs[0]].nbytes + of[of.outputs[0]].nbytes
    assert found.xnnpack_heap <= plan(of).nbytes + ends + SLACK


def test_weights_stored_small_are_no_activations() -> None:
    of = network()
    half = float16_weights(of)
    for in_place in (False, True):
        assert lower_bound(half, in_place) == lower_bound(of, in_place)
    assert plan(half).offsets.keys() == plan(of).offsets.keys()


def test_a_network_that_litert_refuses_is_an_error() -> None:
    of = network()
    unscaled = (t for t in of.tensors.values() if t.data is None)
    with pytest.raises(MobilesegError, match="LiteRT cannot run"):
        measure_arena(of.with_tensors(replace(each, dtype="int8") for each in unscaled))
