"""Plans of the arena: nothing that lives at once overlaps, and nothing is wasted for nothing."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings

from mobileseg.graph import ops, passes
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Graph
from mobileseg.graph.memory import (
    METHODS,
    Plan,
    live_bytes,
    live_ranges,
    lower_bound,
    plan,
    plans,
)
from tests.graph.build import Line, graph
from tests.graph.random_graphs import graphs

IMAGE = (1, 3, 4, 4)
# 4x4 pixels of float32 are a cache line: a tensor has as many lines as channels.
LINE = 64


def conv(name: str, source: str, into: int, out: int) -> Line:
    return (name, ops.Conv2d(), source, {f"{name}.w": (out, into, 1, 1)})


# A large tensor that a shortcut reads at the end.
SHORTCUT = graph(
    IMAGE,
    conv("large", "image", 3, 20),
    conv("a", "large", 20, 10),
    conv("b", "a", 10, 12),
    conv("short", "large", 20, 2),
    conv("c", "b", 12, 2),
    ("sum", ops.Add(), "c short"),
)


def test_live_bytes_by_hand() -> None:
    lines = [3 + 20, 20 + 10, 20 + 10 + 12, 20 + 12 + 2, 12 + 2 + 2, 2 + 2 + 2]
    assert live_bytes(SHORTCUT) == [LINE * count for count in lines]
    assert lower_bound(SHORTCUT) == LINE * 42


def test_in_place_by_hand() -> None:
    lines = [3 + 20, 20 + 10, 20 + 10 + 12, 20 + 12 + 2, 12 + 2 + 2, 2 + 2]
    assert live_bytes(SHORTCUT, in_place=True) == [LINE * count for count in lines]
    shared = plan(SHORTCUT, in_place=True).offsets
    assert shared["sum"] in {shared["c"], shared["short"]}


def test_the_caller_s_input_is_never_written_over() -> None:
    doubled = graph(IMAGE, ("y", ops.Add(), "image image"), ("z", ops.Mul(), "y y"))
    assert [buffer.tensors for buffer in live_ranges(doubled, True)] == [("image",), ("y", "z")]


def test_what_the_caller_reads_is_never_written_over() -> None:
    lines = graph(IMAGE, conv("y", "image", 3, 3), ("z", ops.Softmax(), "y"))
    both = lines.edit(lines.nodes, outputs=("y", "z"))
    assert [buffer.tensors for buffer in live_ranges(both, True)] == [("image",), ("y",), ("z",)]


def require_fit(of: Graph, made: Plan, in_place: bool) -> None:
    """No two buffers that live at one node share a byte, and all of them end within the arena."""
    buffers = live_ranges(of, in_place)
    assert set(made.offsets) == {name for name, t in of.tensors.items() if t.data is None}
    spans = []
    for buffer in buffers:
        (at,) = {made.offsets[name] for name in buffer.tensors}
        assert at % LINE == 0
        assert 0 <= at <= at + buffer.nbytes <= made.nbytes
        spans.append((at, at + buffer.nbytes, buffer))
    for (begin, end, one), (start, stop, other) in combinations(spans, 2):
        assert not one.meets(other) or end <= start or stop <= begin, (one, other)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_no_plan_overlaps_what_lives(of: Graph) -> None:
    for in_place in (False, True):
        for made in plans(of, in_place):
            require_fit(of, made, in_place)
            assert made.nbytes >= lower_bound(of, in_place)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_in_place_never_needs_more_to_live(of: Graph) -> None:
    assert lower_bound(of, in_place=True) <= lower_bound(of)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_another_order_computes_the_same_in_no_more_memory(of: Graph) -> None:
    after = passes.order_for_memory(of)
    assert lower_bound(after) <= lower_bound(of)
    assert sorted(node.output for node in after.nodes) == sorted(n.output for n in of.nodes)
    x = torch.randn(of[of.inputs[0]].shape, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(execute(after, x), execute(of, x), rtol=0, atol=0)


def test_a_shortcut_is_taken_early() -> None:
    after = passes.order_for_memory(SHORTCUT)
    assert [node.output for node in after.nodes] == ["large", "short", "a", "b", "c", "sum"]
    assert lower_bound(after) == LINE * (20 + 2 + 10)
    assert plan(after).nbytes == lower_bound(after)


def test_an_order_that_gains_nothing_stays() -> None:
    chain = graph(IMAGE, conv("a", "image", 3, 5), conv("b", "a", 5, 7))
    assert passes.order_for_memory(chain) is chain


def test_the_mended_plan_reaches_the_bound_where_greedy_ones_do_not() -> None:
    """Sizes of the fullest blocks of our base network, in units of 32 KB."""
    sizes = (9, 25, 50, 6, 28, 28, 25, 28, 26, 26, 25, 26, 6)
    names = ["image", *(f"n{i}" for i in range(1, len(sizes)))]
    chain = graph(
        (1, sizes[0], 4, 4),
        *(
            conv(name, source, into, out)
            for name, source, into, out in zip(names[1:], names, sizes, sizes[1:], strict=False)
        ),
    )
    found = {made.method: made.nbytes for made in plans(chain)}
    assert found["by size, mended"] == lower_bound(chain) < found["by size, best fit"]
    assert plan(chain).nbytes == min(found.values())
    assert set(found) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_reuses_memory(method: str) -> None:
    made = next(each for each in plans(SHORTCUT) if each.method == method)
    assert made.nbytes < sum(t.nbytes for t in SHORTCUT.tensors.values() if t.data is None)
