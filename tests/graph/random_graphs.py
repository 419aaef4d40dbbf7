"""Graphs that nobody thought of, for properties: branches, shortcuts, tensors of any size."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node, Tensor, assemble

# Each makes a picture of the same size out of pictures of that size.
_UNARY: tuple[ops.Op, ...] = (
    ops.Neg(),
    ops.Activation("sigmoid"),
    ops.Softmax(),
    ops.Pool("max", (2, 2), (1, 1), (0, 0, 1, 1)),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Return a graph of 1 to 14 nodes; every node that nobody reads is joined at the end."""
    side = draw(st.integers(2, 5))
    image = Tensor("image", (1, 3, side, side + 1))
    known: dict[str, Tensor] = {}
    nodes: list[Node] = []
    channels = {"image": 3}
    for number in range(draw(st.integers(1, 12))):
        name = f"n{number}"
        x = draw(st.sampled_from(sorted(channels)))
        kind = draw(st.sampled_from(("conv", "unary", "sum", "join")))
        same = sorted(other for other, count in channels.items() if count == channels[x])
        if kind == "conv":
            channels[name] = draw(st.integers(1, 40))
            shape = (channels[name], channels[x], 1, 1)
            data = np.random.default_rng(number).normal(size=shape).astype(np.float32)
            known[f"{name}.weight"] = Tensor(f"{name}.weight", shape, data=data)
            nodes.append(Node(ops.Conv2d(), (x, f"{name}.weight"), name, name))
        elif kind == "unary":
            channels[name] = channels[x]
            nodes.append(Node(draw(st.sampled_from(_UNARY)), (x,), name, name))
        elif kind == "sum":
            channels[name] = channels[x]
            nodes.append(Node(ops.Add(), (x, draw(st.sampled_from(same))), name, name))
        else:
            other = draw(st.sampled_from(sorted(channels)))
            channels[name] = channels[x] + channels[other]
            nodes.append(Node(ops.Concat(), (x, other), name, name))
    read = {name for node in nodes for name in node.inputs}
    loose = tuple(name for name in channels if name not in read and name != "image")
    if len(loose) > 1:
        nodes.append(Node(ops.Concat(), loose, "out", "out"))
    return assemble([image], nodes, (nodes[-1].output,), known)
