"""Chains of point-wise operators on one int8 tensor: the runtime makes one table of each.

A value of 8 bits has 256 cases: LiteRT's XNNPACK evaluates the chain for each of them when it loads
the file, and looks the results up. Seen in ai-edge-litert 2.3.0, whose profiler calls it "Invalid
Unary Op"; outputs are those of the operators one by one, to the bit.
"""

from __future__ import annotations

from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.ops import Activation, Add, Mul

# What a table costs is what a sigmoid costs, which XNNPACK runs as one.
LOOKUP = "sigmoid"


def ends_lookup(graph: Graph, node: Node) -> bool:
    """Whether the node is the last of a chain."""
    members = _chain(graph, node)
    return _steps(members) > 1 and not _goes_on(graph, node)


def in_lookup(graph: Graph, node: Node) -> Node | None:
    """Return the next node of a chain, where the node is in one and not its last."""
    return graph.only_consumer(node.output) if _goes_on(graph, node) else None


def _goes_on(graph: Graph, node: Node) -> bool:
    if not _is_pointwise(graph, node):
        return False
    reader = graph.only_consumer(node.output)
    return reader is not None and node in _chain(graph, reader)[1:]


def _steps(members: list[Node]) -> int:
    """A fused activation is a step of its own there."""
    return sum(1 + (getattr(node.op, "activation", "none") != "none") for node in members)


def _chain(graph: Graph, node: Node) -> list[Node]:
    """Return the node and those before it that are a function of one tensor; or nothing."""
    if not _is_pointwise(graph, node):
        return []
    members, sources = [node], set()
    for name in node.inputs:
        if graph[name].data is not None:
            continue
        maker = graph.producers.get(name)
        before = []
        if maker is not None and graph.only_consumer(name) is node:
            before = _chain(graph, maker)
        members += before
        sources.add(_source(graph, before) if before else name)
    return members if len(sources) == 1 else []


def _source(graph: Graph, members: list[Node]) -> str:
    """Return the one tensor that a chain reads and does not make."""
    made = {node.output for node in members}
    read = (name for node in members for name in node.inputs)
    return next(name for name in read if name not in made and graph[name].data is None)


def _is_pointwise(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, (Activation, Add, Mul)) or graph[node.output].dtype != "int8":
        return False
    if isinstance(node.op, Activation):
        return node.op.function == "sigmoid"
    # One number for all; a value per channel makes another table for each.
    return all(t.data.size == 1 for t in graph.constants(node) if t.data is not None)
