"""Operators that phones' fast kernels refuse, said with ones that they take; exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.ops import Activation, Add, Concat, DepthToSpace, Mul, Resize
from mobileseg.graph.passes.draft import Draft, Pass

# XNNPACK joins up to five tensors.
_MOST_COPIES = 5


def hard_swish_as_products(graph: Graph) -> Graph:
    """Say hard-swish by its definition: XNNPACK has no int8 kernel for it, and TFLite's own rounds
    in 16 bits, three times.

    Before: `y = Activation(hard_swish) x`.
    After:  `s = Add(activation=relu6) x 3; p = Mul x s; y = Mul p 1/6`.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if node.op != Activation("hard_swish"):
            draft.nodes.append(node)
            continue
        ones = np.ones((1, 1, 1, 1), np.float32)
        three = draft.constant(f"{node.output}.three", 3 * ones)
        sixth = draft.constant(f"{node.output}.sixth", ones / 6)
        (x,), shifted, product = node.inputs, f"{node.output}.shifted", f"{node.output}.product"
        draft.nodes.append(Node(Add("relu6"), (x, three), shifted, node.layer))
        draft.nodes.append(Node(Mul(), (x, shifted), product, node.layer))
        draft.nodes.append(replace(node, op=Mul(), inputs=(product, sixth)))
    return draft.finish()


def nearest_as_depth_to_space(graph: Graph) -> Graph:
    """Say a nearest resize to twice the size as four copies moved into space.

    Before: `y = Resize(mode=nearest size=2Hx2W) x`.
    After:  `c = Concat x x x x; y = DepthToSpace c`.

    XNNPACK has no kernel for nearest resizes; factors beyond two would join more than it takes.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        factor = _nearest_factor(graph, node)
        if not 1 < factor**2 <= _MOST_COPIES:
            draft.nodes.append(node)
            continue
        copies = f"{node.output}.copies"
        draft.nodes.append(Node(Concat(), node.inputs * factor**2, copies, node.layer))
        draft.nodes.append(replace(node, op=DepthToSpace(factor), inputs=(copies,)))
    return draft.finish()


def _nearest_factor(graph: Graph, node: Node) -> int:
    """Return by how much a nearest resize multiplies both sides; 0 for all else."""
    if not isinstance(node.op, Resize) or node.op.mode != "nearest":
        return 0
    _, _, h, w = graph[node.inputs[0]].shape
    factor = node.op.size[0] // h
    return factor if node.op.size == (factor * h, factor * w) else 0


FOR_INT8: tuple[Pass, ...] = (hard_swish_as_products,)
