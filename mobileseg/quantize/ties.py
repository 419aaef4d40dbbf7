"""Which channels of a graph must share a scale, for the float function to stay what it is.

A channel may be divided by any positive number if whatever reads it multiplies by it again. A
convolution can, in and out, channel by channel. What lies between convolutions passes the number
on: a residual sum ties the channels of both branches, a join strings them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node

Index: TypeAlias = NDArray[np.int64]
Ids: TypeAlias = Mapping[str, Index]
# Two lists of channels, tied one by one; or one list whose channels must stay as they are.
Tie: TypeAlias = tuple[Index, Index] | Index


@dataclass(frozen=True)
class Ties:
    """The class of each channel of each activation, `(C,)`; `pinned` classes keep their scale."""

    classes: Ids
    pinned: frozenset[int]

    def free(self, name: str) -> NDArray[np.bool_]:
        """Return which channels of an activation may be scaled, `(C,)`."""
        return ~np.isin(self.classes[name], list(self.pinned))


def channel_ties(graph: Graph) -> Ties:
    """Return the ties of a float graph. What enters and what leaves the network is pinned."""
    ids: dict[str, Index] = {}
    start = 0
    for name, tensor in graph.tensors.items():
        if tensor.data is None:
            channels = tensor.shape[1] if len(tensor.shape) == 4 else 1
            ids[name] = np.arange(start, start + channels)
            start += channels
    owner = list(range(start))

    def root(channel: int) -> int:
        while owner[channel] != channel:
            owner[channel] = owner[owner[channel]]
            channel = owner[channel]
        return channel

    pinned = [ids[name] for name in (*graph.inputs, *graph.outputs)]
    for node in graph.nodes:
        if type(node.op) not in TIES:
            raise MobilesegError(f"{node.layer}: no rule ties the channels of {node.op.kind}")
        for tie in TIES[type(node.op)](graph, node, ids):
            if not isinstance(tie, tuple):
                pinned.append(tie)
                continue
            for pair in zip(*(part.tolist() for part in tie), strict=True):
                low, high = sorted(root(channel) for channel in pair)
                owner[high] = low
    roots = np.array([root(channel) for channel in range(start)], np.int64)
    fixed = frozenset(roots[np.concatenate(pinned)].tolist())
    return Ties({name: roots[index] for name, index in ids.items()}, fixed)


def _same(graph: Graph, node: Node, ids: Ids) -> Iterator[Tie]:
    """Channel by channel; broadcast ones are pinned, and so is what a constant is added to."""
    for tensor in graph.activations(node):
        if len(ids[tensor.name]) != len(ids[node.output]):
            yield from _pinned(graph, node, ids)
            return
        yield ids[tensor.name], ids[node.output]
    if graph.constants(node) and not isinstance(node.op, ops.Mul):
        yield ids[node.output]


def _pinned(graph: Graph, node: Node, ids: Ids) -> Iterator[Tie]:
    yield ids[node.output]
    yield from (ids[tensor.name] for tensor in graph.activations(node))


def _activation(graph: Graph, node: Node, ids: Ids) -> Iterator[Tie]:
    plain = node.op in (ops.Activation("relu"), ops.Activation("relu6"))
    return (_same if plain else _pinned)(graph, node, ids)


def _mul(graph: Graph, node: Node, ids: Ids) -> Iterator[Tie]:
    """A product takes over the scale of its first factor; a second one is a gate, and pinned."""
    first, *gates = (ids[tensor.name] for tensor in graph.activations(node))
    if len(first) != len(ids[node.output]):
        yield from _pinned(graph, node, ids)
        return
    yield first, ids[node.output]
    yield from gates


def _concat(graph: Graph, node: Node, ids: Ids) -> Iterator[Tie]:
    if graph.constants(node):
        yield from _pinned(graph, node, ids)
        return
    yield np.concatenate([ids[name] for name in node.inputs]), ids[node.output]


def _depth_to_space(_: Graph, node: Node, ids: Ids) -> Iterator[Tie]:
    into, out = ids[node.inputs[0]], ids[node.output]
    yield into, np.tile(out, len(into) // len(out))


def _none(*_: object) -> Iterator[Tie]:
    return iter(())


TIES: dict[type[ops.Op], Callable[[Graph, Node, Ids], Iterator[Tie]]] = {
    ops.Conv2d: _none,
    ops.ConvTranspose2d: _none,
    ops.Activation: _activation,
    ops.LeakyRelu: _same,
    ops.PRelu: _same,
    ops.Neg: _same,
    ops.Add: _same,
    ops.Mul: _mul,
    ops.Concat: _concat,
    ops.Pad: _same,
    ops.Crop: _same,
    ops.DepthToSpace: _depth_to_space,
    ops.Pool: _same,
    ops.GlobalMean: _same,
    ops.Resize: _same,
    ops.Softmax: _pinned,
    ops.ArgMax: _pinned,
}
