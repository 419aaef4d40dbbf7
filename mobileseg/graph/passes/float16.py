"""Weights of half the size. Not exact, and only where it was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Array, Graph, Node, Tensor
from mobileseg.graph.ops import Dequantize
from mobileseg.graph.passes.draft import CONVS, Draft


def float16_weights(graph: Graph) -> Graph:
    """Store the convolutions' weights as float16; a Dequantize node makes each float32 again.

    Before: `y = Conv2d x w b`. After: `v = Dequantize w_f16; y = Conv2d x v b`.

    Not exact: a weight keeps 11 bits. Raises MobilesegError for one that float16 cannot hold.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if not isinstance(node.op, CONVS):
            draft.nodes.append(node)
            continue
        name = node.inputs[1]
        half = _halved(node, draft.data(name))
        stored = Tensor(f"{name}_f16", half.shape, "float16", data=half)
        draft.constants[stored.name] = stored
        wide = f"{name}_f32"
        draft.nodes.append(Node(Dequantize(), (stored.name,), wide, node.layer))
        draft.nodes.append(replace(node, inputs=(node.inputs[0], wide, *node.inputs[2:])))
    return draft.finish()


def _halved(node: Node, weight: Array) -> Array:
    largest = float(np.abs(weight).max())
    if largest > float(np.finfo(np.float16).max):
        raise MobilesegError(
            f"{node.layer}: a weight of {largest:g} is beyond float16's 65504; export float32"
        )
    return weight.astype(np.float16)
