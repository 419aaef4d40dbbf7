"""The order of the nodes: the same network in less memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.memory import lower_bound

# So many half-finished orders are followed at once. Branches of our networks leave a handful open;
# 64 finds the best order of each and plans 400 nodes in a second.
_WIDTH = 64


def order_for_memory(graph: Graph) -> Graph:
    """Run nodes in the order that keeps the fewest bytes alive at the fullest moment.

    Before: `a = Conv2d image w; b = Conv2d a v; c = Conv2d b u; s = Conv2d a t; y = Add c s`.
    After:  `a = Conv2d image w; s = Conv2d a t; b = ...`, where a is larger than s and b is not.

    The order stays where no other needs less.
    """
    least = max((_alone(graph, node) for node in graph.nodes), default=0)
    if lower_bound(graph) == least:
        return graph
    costs = _Costs.of(graph)
    states = {0: _State(0, sum(graph[name].nbytes for name in graph.inputs), (), costs.ready(0))}
    for _ in graph.nodes:
        following: dict[int, _State] = {}
        for done, state in states.items():
            for mask, after in costs.following(done, state):
                if mask not in following or after < following[mask]:
                    following[mask] = after
        states = dict(sorted(following.items(), key=lambda item: item[1])[:_WIDTH])
    (last,) = states.values()
    if last.peak >= lower_bound(graph):
        return graph
    return graph.edit([graph.nodes[i] for i in last.order])


def _alone(graph: Graph, node: Node) -> int:
    """Return the bytes that live while the node runs, in whatever order."""
    read = {tensor.name: tensor.nbytes for tensor in graph.activations(node)}
    return graph[node.output].nbytes + sum(read.values())


@dataclass(frozen=True, order=True)
class _State:
    """peak: the most bytes that lived while a node ran; live: those that live now; order: nodes
    run so far; ready: those that could run next."""

    peak: int
    live: int
    order: tuple[int, ...]
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

    def following(self, done: int, state: _State) -> Iterator[tuple[int, _State]]:
        """Yield every set of nodes that one more node leads to, with the state there."""
        for i in state.ready:
            after = done | 1 << i
            running = state.live + self.made[i]
            freed = sum(nbytes for readers, nbytes in self.frees[i] if not readers & ~after)
            opened = (j for j in self.feeds[i] if not self.waits[j] & ~after)
            ready = (*(j for j in state.ready if j != i), *opened)
            peak = max(state.peak, running)
            yield after, _State(peak, running - freed, (*state.order, i), ready)


def _bits(places: Iterable[int]) -> int:
    return sum(1 << i for i in set(places))
