"""What passes are written with: a graph in the making, merging of neighbours, rewrites."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import is_
from typing import TypeAlias

from mobileseg.graph.ir import Array, Graph, Node, Tensor
from mobileseg.graph.ops import Conv2d, ConvTranspose2d

Pass: TypeAlias = Callable[[Graph], Graph]
CONVS = (Conv2d, ConvTranspose2d)


def run_passes(graph: Graph, passes: Iterable[Pass]) -> Graph:
    """Return the graph after the passes, in order."""
    for each in passes:
        graph = each(graph)
    return graph


@dataclass
class Draft:
    """A graph in the making: nodes in order, and new constants."""

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)

    def constant(self, name: str, data: Array) -> str:
        self.constants[name] = Tensor(name, data.shape, data=data)
        return name

    def data(self, name: str) -> Array:
        tensor = self.constants.get(name) or self.graph[name]
        assert tensor.data is not None
        return tensor.data

    def last(self, name: str) -> Node | None:
        """Return the drafted node that makes `name`."""
        return next((node for node in reversed(self.nodes) if node.output == name), None)

    def drop(self, node: Node) -> None:
        # By identity, from the end: comparing operators is slow, and the node was drafted lately.
        places = reversed(range(len(self.nodes)))
        del self.nodes[next(place for place in places if self.nodes[place] is node)]

    def finish(self) -> Graph:
        """Return the graph made; the very same one where every node is what it was."""
        before = self.graph.nodes
        if len(self.nodes) == len(before) and all(map(is_, self.nodes, before)):
            return self.graph
        return self.graph.edit(self.nodes, self.constants.values())


def absorb(graph: Graph, into: Callable[[Draft, Node, Node], Node | None]) -> Graph:
    """Offer each node to its sole producer: `into(draft, before, node)` returns the merged one.

    The merged node stands where the node stood, so that all it reads is made before it, and makes
    the node's output, so that a network's outputs keep their names.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        before = draft.last(node.inputs[0])
        merged = None
        if before is not None and graph.only_consumer(before.output) is not None:
            merged = into(draft, before, node)
        if merged is None or before is None:
            draft.nodes.append(node)
        else:
            draft.drop(before)
            draft.nodes.append(replace(merged, output=node.output))
    return draft.finish()


# The nodes in the place of one, the last of them making its output; None where the form is not
# for it. New constants go into the draft.
Local: TypeAlias = Callable[[Draft, Node], Sequence[Node] | None]


@dataclass(frozen=True)
class Rewrite:
    """An exact other form of an operator: a pass, and the places where it applies.

    says: what it does, in a line for reports. at_int8: whether rounding is no worse there.
    """

    name: str
    says: str
    local: Local
    at_int8: bool = True

    def sites(self, graph: Graph) -> tuple[str, ...]:
        """Return what it could rewrite: the names of the nodes' outputs."""
        draft = Draft(graph)
        return tuple(n.output for n in graph.nodes if self.local(draft, n) is not None)

    def at(self, sites: Collection[str]) -> Pass:
        """Return the pass that rewrites those sites, under the rewrite's name."""

        def rewrite(graph: Graph) -> Graph:
            return self(graph, sites)

        rewrite.__name__, rewrite.__doc__ = self.name, self.says.capitalize() + "."
        return rewrite

    def __call__(self, graph: Graph, only: Collection[str] | None = None) -> Graph:
        """Return the graph rewritten wherever it applies, or at those sites `only`."""
        draft = Draft(graph)
        for node in graph.nodes:
            wanted = only is None or node.output in only
            made = self.local(draft, node) if wanted else None
            draft.nodes += [node] if made is None else made
        return draft.finish()
