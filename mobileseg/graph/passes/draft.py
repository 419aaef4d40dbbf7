"""What passes are written with: a graph in the making, and the walk that merges neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
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
        self.nodes.remove(node)

    def finish(self) -> Graph:
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
