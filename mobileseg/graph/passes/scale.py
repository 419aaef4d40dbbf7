"""Batch norms and other factors and sums per channel, as parts of the convolution beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobileseg.graph.ir import Array, Graph, Node, is_hollow
from mobileseg.graph.ops import NO_PAD, Add, BatchNorm, Conv2d, ConvTranspose2d, Fused, Mul
from mobileseg.graph.passes.draft import CONVS, Draft, absorb

Floats = NDArray[np.float64]


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold batch norm into the convolution before it, in float64.

    Before: `y = Conv2d x w; z = BatchNorm y`. After: `z = Conv2d x w' b'`.
    """

    def into(draft: Draft, before: Node, node: Node) -> Node | None:
        if not isinstance(node.op, BatchNorm) or not isinstance(before.op, CONVS):
            return None
        return _behind(draft, before, _batch_norm(draft, node))

    return absorb(graph, into)


def fold_scale(graph: Graph) -> Graph:
    """Fold a product or a sum with constants, or a batch norm, into the convolution before it.

    Before: `y = Conv2d x w b; z = Mul y c`, c being `(1, C, 1, 1)`. After: `z = Conv2d x w' b'`.
    """

    def into(draft: Draft, before: Node, node: Node) -> Node | None:
        after = _affine(draft, node) if isinstance(before.op, CONVS) else None
        return None if after is None else _behind(draft, before, after)

    return absorb(graph, into)


def fold_scale_in_front(graph: Graph) -> Graph:
    """Fold a product or a sum with constants, or a batch norm, into the convolution behind it.

    Before: `y = Mul x c; z = Conv2d y w`. After: `z = Conv2d x w' b'`.

    In front of a padded convolution no sum folds: the padding's zeros would become the sum's.
    """

    def into(draft: Draft, before: Node, node: Node) -> Node | None:
        first = _affine(draft, before) if isinstance(node.op, CONVS) else None
        return None if first is None else _in_front(draft, first, before.inputs[0], node)

    folded = absorb(graph, into)
    # A chain folds from its end.
    return graph if len(folded.nodes) == len(graph.nodes) else fold_scale_in_front(folded)


def batch_norm_as_conv(graph: Graph) -> Graph:
    """Make a batch norm that stands alone a depthwise 1x1 convolution: one operator, int8 too.

    Before: `y = BatchNorm x gamma beta mean variance`. After: `y = Conv2d(groups=C) x w b`.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if not isinstance(node.op, BatchNorm):
            draft.nodes.append(node)
            continue
        found = _batch_norm(draft, node)
        channels = graph[node.output].shape[1]
        conv = replace(node, op=Conv2d(groups=channels))
        weight = _float32(found.factor.reshape(-1, 1, 1, 1))
        draft.nodes.append(_with_weights(draft, conv, weight, found.shift))
    return draft.finish()


def batch_norm_as_products(graph: Graph) -> Graph:
    """Say batch norm by products and sums, as a file that folds nothing would.

    Before: `y = BatchNorm x gamma beta mean variance`. After: `s = Mul x c; y = Add s d`.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if not isinstance(node.op, BatchNorm):
            draft.nodes.append(node)
            continue
        found, scaled = _batch_norm(draft, node), f"{node.output}.scaled"
        factor, shift = (
            draft.constant(f"{node.output}.{name}", _float32(values).reshape(1, -1, 1, 1))
            for name, values in (("factor", found.factor), ("shift", found.shift))
        )
        draft.nodes.append(Node(Mul(), (node.inputs[0], factor), scaled, node.layer))
        draft.nodes.append(replace(node, op=Add(), inputs=(scaled, shift)))
    return draft.finish()


@dataclass(frozen=True)
class _Affine:
    """`activation(factor * x + shift)`, both `(C,)` or `(1,)`. shifts: whether there is a shift."""

    factor: Floats
    shift: Floats
    shifts: bool = True
    activation: Fused = "none"


def _batch_norm(draft: Draft, node: Node) -> _Affine:
    assert isinstance(node.op, BatchNorm)
    gamma, beta, mean, variance = (_float64(draft.data(name)) for name in node.inputs[1:])
    factor = gamma / np.sqrt(variance + node.op.eps)
    return _Affine(factor, beta - mean * factor)


def _affine(draft: Draft, node: Node) -> _Affine | None:
    """Return what the node does to each channel; None where it is no such operator."""
    if isinstance(node.op, BatchNorm):
        return _batch_norm(draft, node)
    if not isinstance(node.op, Add | Mul) or not _is_per_channel(draft, node):
        return None
    values = _float64(draft.data(node.inputs[1])).reshape(-1)
    if isinstance(node.op, Mul):
        return _Affine(values, np.zeros(1), False, node.op.activation)
    return _Affine(np.ones(1), values, True, node.op.activation)


def _is_per_channel(draft: Draft, node: Node) -> bool:
    """Whether the second input is constants that spread over x."""
    x, second = (draft.graph[name] for name in node.inputs)
    if x.data is not None or second.data is None or second.dtype != "float32":
        return False
    return second.shape in {(1, x.shape[1], 1, 1), (1, 1, 1, 1)}


def _behind(draft: Draft, conv: Node, after: _Affine) -> Node | None:
    """Return the convolution with the affine that follows it."""
    op = conv.op
    assert isinstance(op, Conv2d | ConvTranspose2d)
    if op.activation != "none" or not _has_constants(draft, conv):
        return None
    axis = 1 if isinstance(op, ConvTranspose2d) else 0
    weight = draft.data(conv.inputs[1])
    channels = weight.shape[axis]
    factor = np.broadcast_to(after.factor, channels)
    bias = _bias(draft, conv, channels) * factor + after.shift
    along = [1] * 4
    along[axis] = -1
    fused = replace(conv, op=replace(op, activation=after.activation))
    return _with_weights(draft, fused, _scaled(weight, factor.reshape(along)), bias)


def _in_front(draft: Draft, first: _Affine, x: str, conv: Node) -> Node | None:
    """Return the convolution with the affine that comes before it, reading x."""
    op = conv.op
    assert isinstance(op, Conv2d | ConvTranspose2d)
    padded = isinstance(op, ConvTranspose2d) or op.pad != NO_PAD
    if first.activation != "none" or (first.shifts and padded) or not _has_constants(draft, conv):
        return None
    weight = draft.data(conv.inputs[1])
    conv = replace(conv, inputs=(x, *conv.inputs[1:]))
    if isinstance(op, ConvTranspose2d):
        factor = np.broadcast_to(first.factor, weight.shape[0]).reshape(-1, 1, 1, 1)
        bias = _bias(draft, conv, weight.shape[1])
        return _with_weights(draft, conv, _scaled(weight, factor), bias)
    factor, shift = (
        _per_filter(values, weight.shape, op.groups) for values in (first.factor, first.shift)
    )
    bias = _bias(draft, conv, weight.shape[0]) + (_float64(weight) * shift).sum(axis=(1, 2, 3))
    return _with_weights(draft, conv, _scaled(weight, factor), bias)


def _has_constants(draft: Draft, conv: Node) -> bool:
    """Whether the weights stand there as numbers, and are not made of something stored smaller."""
    known = (draft.constants.get(name) or draft.graph[name] for name in conv.inputs[1:])
    return all(tensor.data is not None and tensor.dtype == "float32" for tensor in known)


def _per_filter(values: Floats, shape: tuple[int, ...], groups: int) -> Floats:
    """Return `(O, I / groups, 1, 1)`: the values of the channels that each filter reads."""
    out, each = shape[:2]
    grouped = np.broadcast_to(values, groups * each).reshape(groups, 1, each)
    return grouped.repeat(out // groups, axis=1).reshape(out, each, 1, 1)


def _with_weights(draft: Draft, conv: Node, weight: Array, bias: Floats) -> Node:
    # Named by the output: two convolutions may share a layer, and its weights.
    names = (
        draft.constant(f"{conv.output}.weight", weight),
        draft.constant(f"{conv.output}.bias", _float32(bias)),
    )
    return replace(conv, inputs=(conv.inputs[0], *names))


def _bias(draft: Draft, conv: Node, channels: int) -> Floats:
    return _float64(draft.data(conv.inputs[2])) if len(conv.inputs) > 2 else np.zeros(channels)


def _scaled(weight: Array, factor: Floats) -> Array:
    return weight if is_hollow(weight) else _float32(weight * factor)


def _float64(data: Array) -> Floats:
    return data.astype(np.float64)


def _float32(data: Floats) -> Array:
    return data.astype(np.float32)
