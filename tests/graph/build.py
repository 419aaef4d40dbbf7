"""Graphs assembled by hand, in one line per node."""

from __future__ import annotations

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node, Tensor, assemble

Line = tuple[str, ops.Op, str] | tuple[str, ops.Op, str, dict[str, tuple[int, ...]]]


def graph(image: tuple[int, ...], *lines: Line, output: str = "") -> Graph:
    """Return the graph of `(output, op, "input names", {constant: shape})`; values are seeded.

    The last line makes the output unless `output` names it. Every node is its own layer.
    """
    random = np.random.default_rng(5)
    known: dict[str, Tensor] = {}
    nodes = []
    for name, op, inputs, *rest in lines:
        constants = rest[0] if rest else {}
        for constant, shape in constants.items():
            data = random.uniform(0.5, 1.5, shape) * random.choice([-1, 1], shape)
            known[constant] = Tensor(constant, shape, data=data.astype(np.float32))
        nodes.append(Node(op, (*inputs.split(), *constants), name, name))
    return assemble([Tensor("image", image)], nodes, (output or lines[-1][0],), known)


def text(body: str) -> str:
    """Return an indented block as `str(graph)` writes it."""
    return "\n".join(line.strip() for line in body.strip().splitlines())
