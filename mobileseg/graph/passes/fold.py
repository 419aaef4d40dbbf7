"""Folding and fusing: fewer nodes, the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.ops import (
    Activation,
    Add,
    Concat,
    Conv2d,
    Mul,
    Neg,
    Pad,
)
from mobileseg.graph.passes.clean import fold_constants, remove_idle
from mobileseg.graph.passes.draft import CONVS, Draft, Pass, absorb, run_passes
from mobileseg.graph.passes.scale import (
    batch_norm_as_conv,
    fold_batch_norm,
    fold_scale,
    fold_scale_in_front,
)


def normalise(graph: Graph) -> Graph:
    """Return the graph with everything folded and fused that costs no exactness.

    No operator of `TRAINING_OPS` stays.
    """
    return run_passes(graph, NORMALISE)


def fuse_activation(graph: Graph) -> Graph:
    """Fuse ReLU and ReLU6 into the operator before.

    Before: `y = Add a b; z = Activation(relu) y`. After: `z = Add(activation=relu) a b`.
    """

    def into(_: Draft, before: Node, node: Node) -> Node | None:
        if not isinstance(node.op, Activation) or node.op.function not in {"relu", "relu6"}:
            return None
        op = before.op
        if not isinstance(op, (*CONVS, Add, Mul)) or op.activation != "none":
            return None
        return replace(before, op=replace(op, activation=node.op.function))

    return absorb(graph, into)


def fold_pad(graph: Graph) -> Graph:
    """Fold zero padding into the convolution behind it.

    Before: `y = Pad(pad=0x0x1x1) x; z = Conv2d(stride=2x2) y w`.
    After: `z = Conv2d(stride=2x2 pad=0x0x1x1) x w`.
    """

    def into(_: Draft, before: Node, node: Node) -> Node | None:
        if not isinstance(before.op, Pad) or not isinstance(node.op, Conv2d):
            return None
        top, left, bottom, right = (a + b for a, b in zip(before.op.pad, node.op.pad, strict=True))
        op = replace(node.op, pad=(top, left, bottom, right))
        return replace(node, op=op, inputs=(*before.inputs, *node.inputs[1:]))

    return absorb(graph, into)


def fold_crelu(graph: Graph) -> Graph:
    """Make concat(x, -x) of a convolution's output the convolution's own.

    Before: `y = Conv2d x w b; n = Neg y; z = Concat y n`. After: `z = Conv2d x [w, -w] [b, -b]`.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        conv = _crelu_source(graph, node)
        before = draft.last(conv.output) if conv is not None else None
        if before is None:
            draft.nodes.append(node)
            continue
        inputs = [before.inputs[0]]
        for name in before.inputs[1:]:
            data = draft.data(name)
            inputs.append(draft.constant(f"{name}_crelu", np.concatenate([data, -data])))
        draft.drop(before)
        draft.drop(graph.producers[node.inputs[1]])
        draft.nodes.append(replace(before, inputs=tuple(inputs), output=node.output))
    return draft.finish()


def _crelu_source(graph: Graph, node: Node) -> Node | None:
    """Return the convolution whose output and its negative `node` joins, and nobody else reads."""
    if not isinstance(node.op, Concat) or len(node.inputs) != 2:
        return None
    source, negative = (graph.producers.get(name) for name in node.inputs)
    if source is None or negative is None or not isinstance(negative.op, Neg):
        return None
    plain = isinstance(source.op, Conv2d) and source.op.activation == "none"
    same = negative.inputs == (source.output,) and graph.only_consumer(negative.output) is node
    alone = len(graph.consumers[source.output]) == 2 and source.output not in graph.outputs
    grouped = isinstance(source.op, Conv2d) and source.op.groups != 1
    return source if plain and same and alone and not grouped else None


NORMALISE: tuple[Pass, ...] = (
    fold_constants,
    fold_pad,
    fold_crelu,
    fold_batch_norm,
    fold_scale,
    fold_scale_in_front,
    batch_norm_as_conv,
    fuse_activation,
    remove_idle,
)
