"""Where every activation lies in one block of memory, the arena, while the network runs.

A tensor lives from the node that makes it to the last one that reads it. Two tensors may share
bytes unless both live at one node. Whatever the plan, a node's inputs and output are there at
once: the largest such sum is the least that any plan needs for this order of the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.ops import Add, Mul, Op, Softmax

# TFLite's arena starts tensors at cache lines; the one for microcontrollers at 16 bytes.
ALIGNMENT = 64

# LiteRT's plain kernels write these over an input that nobody reads any more.
IN_PLACE: frozenset[type[Op]] = frozenset({Add, Mul, Softmax})


@dataclass(frozen=True)
class Buffer:
    """Bytes in use from node `first` to node `last`, both included; one tensor, or a chain of
    tensors each written over the one before."""

    tensors: tuple[str, ...]
    nbytes: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether both are in use at one node."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """The first byte of every activation, and how many bytes all need together."""

    method: str
    offsets: Mapping[str, int]
    nbytes: int


def live_ranges(graph: Graph, in_place: bool = False) -> tuple[Buffer, ...]:
    """Return the graph's activations as buffers, in the order in which they are first used.

    The input is there from the first node on, an output until the last. What is made of constants
    alone (weights that are stored small) is none: it stays from one run to the next. in_place: an
    operator of `IN_PLACE` writes over an input of its own size that no later node reads.
    """
    index = {node.output: i for i, node in enumerate(graph.nodes)}
    end = max(len(graph.nodes) - 1, 0)
    made = (node.output for node in graph.nodes if graph.activations(node))
    alone: dict[str, Buffer] = {}
    for name in (*graph.inputs, *made):
        tensor = graph[name]
        first = index.get(name, 0)
        last = max((index[node.output] for node in graph.consumers[name]), default=first)
        alone[name] = Buffer((name,), tensor.nbytes, first, end if name in graph.outputs else last)
    if in_place:
        for node in graph.nodes:
            _write_over(graph, node, alone)
    return tuple(sorted(set(alone.values()), key=lambda buffer: (buffer.first, buffer.tensors)))


def _write_over(graph: Graph, node: Node, buffers: dict[str, Buffer]) -> None:
    if type(node.op) not in IN_PLACE or node.output not in buffers:
        return
    made = buffers[node.output]
    # What the caller has written or will read is the caller's.
    for name in (name for name in node.inputs if name not in (*graph.inputs, *graph.outputs)):
        old = buffers.get(name)
        if old is None or old.nbytes != made.nbytes:
            continue
        if old.last == made.first:
            chain = replace(old, tensors=(*old.tensors, node.output), last=made.last)
            buffers |= dict.fromkeys(chain.tensors, chain)
            return


def live_bytes(graph: Graph, in_place: bool = False) -> list[int]:
    """Return for each node the bytes of the tensors that live while it runs."""
    total = [0] * len(graph.nodes)
    for buffer in live_ranges(graph, in_place):
        for i in range(buffer.first, buffer.last + 1):
            total[i] += buffer.nbytes
    return total


def lower_bound(graph: Graph, in_place: bool = False) -> int:
    """Return the bytes that no plan for this order of nodes can go below."""
    return max(live_bytes(graph, in_place), default=0)


def plan(graph: Graph, in_place: bool = False) -> Plan:
    """Return the first plan of `METHODS` that needs no more than what lives at once, or the
    smallest."""
    buffers, least = live_ranges(graph, in_place), lower_bound(graph, in_place)
    made = []
    for name, method in METHODS.items():
        made.append(Plan(name, *method(buffers)))
        if made[-1].nbytes == least:
            break
    return min(made, key=lambda each: each.nbytes)


def plans(graph: Graph, in_place: bool = False) -> list[Plan]:
    """Return the plan of every method, in the order of `METHODS`."""
    buffers = live_ranges(graph, in_place)
    return [Plan(name, *method(buffers)) for name, method in METHODS.items()]


# The first byte of every tensor, and the bytes of all together.
Placing: TypeAlias = tuple[Mapping[str, int], int]
# (first byte, bytes free there), lowest first; the last gap has no end.
Gaps: TypeAlias = Sequence[tuple[int, float]]
Fit: TypeAlias = Callable[[Gaps, int], int]


def _placed(order: Sequence[Buffer], fit: Fit) -> Placing:
    """Place one buffer after the other where those before leave room."""
    placed: list[tuple[int, Buffer]] = []
    for buffer in order:
        taken = sorted((at, at + other.nbytes) for at, other in placed if other.meets(buffer))
        placed.append((fit(_gaps(taken), buffer.nbytes), buffer))
    offsets = {tensor: at for at, buffer in placed for tensor in buffer.tensors}
    return offsets, max((at + buffer.nbytes for at, buffer in placed), default=0)


def _gaps(taken: Sequence[tuple[int, int]]) -> Gaps:
    gaps: list[tuple[int, float]] = []
    free = 0
    for begin, end in taken:
        if begin > free:
            gaps.append((free, begin - free))
        free = max(free, -(-end // ALIGNMENT) * ALIGNMENT)
    return [*gaps, (free, float("inf"))]


def _first_fit(gaps: Gaps, nbytes: int) -> int:
    return next(at for at, room in gaps if room >= nbytes)


def _best_fit(gaps: Gaps, nbytes: int) -> int:
    """The smallest gap that is large enough."""
    return min((room, at) for at, room in gaps if room >= nbytes)[1]


def _by_size(buffers: Sequence[Buffer]) -> list[Buffer]:
    return sorted(buffers, key=lambda buffer: -buffer.nbytes)


def _mended(buffers: Sequence[Buffer]) -> Placing:
    """By size at first; then, again and again, the buffer that ends highest goes first."""
    order = _by_size(buffers)
    best = made = _placed(order, _best_fit)
    for _ in range(_ROUNDS if buffers else 0):
        offsets = made[0]
        highest = max(order, key=lambda each: offsets[each.tensors[0]] + each.nbytes)
        order.remove(highest)
        order.insert(0, highest)
        made = _placed(order, _best_fit)
        best = min(best, made, key=lambda each: each[1])
    return best


# More rounds found nothing in any of our networks.
_ROUNDS = 24

# By size: Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net Inference"
# (arXiv:2001.03288), the planner of TFLite.
METHODS: Mapping[str, Callable[[Sequence[Buffer]], Placing]] = {
    "as they run, first fit": lambda buffers: _placed(buffers, _first_fit),
    "by size, first fit": lambda buffers: _placed(_by_size(buffers), _first_fit),
    "by size, best fit": lambda buffers: _placed(_by_size(buffers), _best_fit),
    "by size, mended": _mended,
}
