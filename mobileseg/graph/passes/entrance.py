"""Networks of others: another range of the input, weights stored in half their size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.ops import Add, Dequantize, Mul
from mobileseg.graph.passes.draft import Draft


def float32_weights(graph: Graph) -> Graph:
    """Store weights of float16 as the float32 that is computed with.

    Before: `v = Dequantize w_f16; y = Conv2d x v`. After: `y = Conv2d x v`, v being a constant.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        stored = graph[node.inputs[0]]
        if (
            isinstance(node.op, Dequantize)
            and stored.dtype == "float16"
            and stored.data is not None
        ):
            draft.constant(node.output, stored.data.astype(np.float32))
        else:
            draft.nodes.append(node)
    return draft.finish()


def scale_input(graph: Graph, shift: NDArray[np.float64], factor: NDArray[np.float64]) -> Graph:
    """Have the network take x of which it was made for `(x + shift) * factor`, per channel.

    Before: `y = Conv2d image w`. After: `a = Add image shift; b = Mul a factor; y = Conv2d b w`.
    """
    draft = Draft(graph)
    (image,) = graph.inputs
    last = image
    for op, word, values, idle in ((Add(), "shifted", shift, 0), (Mul(), "scaled", factor, 1)):
        if np.all(values == idle):
            continue
        held = np.broadcast_to(values, graph[image].shape[1]).reshape(1, -1, 1, 1)
        name = _fresh(graph, f"{image}_{word}")
        by = draft.constant(_fresh(graph, f"{name}_by"), held.astype(np.float32))
        draft.nodes.append(Node(op, (last, by), name, name))
        last = name
    for node in graph.nodes:
        inputs = tuple(last if name == image else name for name in node.inputs)
        draft.nodes.append(replace(node, inputs=inputs))
    return draft.finish()


def _fresh(graph: Graph, wish: str) -> str:
    while wish in graph.tensors:
        wish += "_"
    return wish
