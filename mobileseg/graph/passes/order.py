"""The order of the nodes: the same network in less memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.memory import lower_bound

# So many half-finished orders are followed at once. Branches of our networks leave a handful open;
# 32 finds the best order of each, from whatever order, and plans 500 nodes in half a second.
_WIDTH = 32


def order_for_memory(graph: Graph) -> Graph:
    """Run nodes in the order that keeps the fewest bytes alive at the fullest moment.

    Before: `a = Conv2d image w; b = Conv2d a v; c = Conv2d b u; s = Conv2d a t; y = Add c s`.
    After:  `a = Conv2d image w; s = Conv2d a t; b = ...`, where a is larger than s and b is not.

    The order stays where no other needs less.
    """
    least = max((_alone(graph, node) for node in graph.nodes), default=0)
    if lower_bound(graph) == least:
        return graph
    costs, enough = _Costs.of(graph), lower_bound(graph)
    states = [_State(0, sum(graph[name].nbytes for name in graph.inputs), (), 0, costs.ready(0))]
    for _ in graph.nodes:
        # By the nodes that have run: of two orders of the same, one is followed.
        reached: dict[int, _Step] = {}
        for state in states:
            for step in costs.following(state):
                other = reached.get(step.done)
                if step.peak < enough and (other is None or step.peak < other.peak):
                    reached[step.done] = step
        best = sorted(reached.values(), key=itemgetter(0, 1))[:_WIDTH]
        states = [costs.taken(step) for step in best]
    return graph.edit([graph.nodes[i] for i in states[0].order]) if states else graph


def _alone(graph: Graph, node: Node) -> int:
    """Return the bytes that live while the node runs, in whatever order."""
    read = {tensor.name: tensor.nbytes for tensor in graph.activations(node)}
    return graph[node.output].nbytes + sum(read.values())


class _State(NamedTuple):
    """peak: the most bytes that lived while a node ran; live: those that live now; order: nodes
    run so far, and done: the set of them; ready: those that could run next."""

    peak: int
    live: int
    order: tuple[int, ...]
    done: int
    ready: tuple[int, ...]


class _Step(NamedTuple):
    """What one more node leads to; `before` and `ready` are still those of before it."""

    peak: int
    live: int
    before: tuple[int, ...]
    node: int
    done: int
    ready: tuple[int, ...]


@dataclass(frozen=True)
class _Costs:
    """Facts per node; sets of nodes are the bits of one integer.

    waits: the nodes that it reads from. feeds: those that read it. made: its output's bytes.
    frees: (readers, bytes) of each tensor that it reads and that is no output of the network.
    """

    waits: tuple[int, ...]
    feeds: tuple[tuple[int, ...], ...]
    made: tuple[int, ...]
    frees: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, graph: Graph) -> _Costs:
        place = {node.output: i for i, node in enumerate(graph.nodes)}
        readers = {
            name: tuple(place[node.output] for node in nodes)
            for name, nodes in graph.consumers.items()
        }
        reads = [{tensor.name for tensor in graph.activations(node)} for node in graph.nodes]
        return cls(
            tuple(_bits(place[name] for name in names if name in place) for names in reads),
            tuple(readers[node.output] for node in graph.nodes),
            tuple(graph[node.output].nbytes for node in graph.nodes),
            tuple(
                tuple(
                    (_bits(readers[name]), graph[name].nbytes)
                    for name in sorted(names)
                    if name not in graph.outputs
                )
                for names in reads
            ),
        )

    def ready(self, done: int) -> tuple[int, ...]:
        """Return the nodes that can run after these."""
        every = range(len(self.waits))
        return tuple(i for i in every if not done >> i & 1 and not self.waits[i] & ~done)

    def following(self, state: _State) -> list[_Step]:
        """Return what the nodes that could run next lead to.

        One that frees as many bytes as it makes, under the peak, is no worse now than later: it
        alone is followed.
        """
        steps = [self._step(state, i) for i in state.ready]
        free = (step for step in steps if step.peak == state.peak and step.live <= state.live)
        first = next(free, None)
        return steps if first is None else [first]

    def _step(self, state: _State, i: int) -> _Step:
        after = state.done | 1 << i
        running = state.live + self.made[i]
        freed = sum(nbytes for readers, nbytes in self.frees[i] if not readers & ~after)
        peak = max(state.peak, running)
        return _Step(peak, running - freed, state.order, i, after, state.ready)

    def taken(self, step: _Step) -> _State:
        """Return the state behind a step."""
        opened = (j for j in self.feeds[step.node] if not self.waits[j] & ~step.done)
        ready = (*(j for j in step.ready if j != step.node), *opened)
        return _State(step.peak, step.live, (*step.before, step.node), step.done, ready)


def _bits(places: Iterable[int]) -> int:
    return sum(1 << i for i in set(places))
