"""What pays everywhere once operators were rewritten: constants into weights, fewer operators.

Exact but for float32's rounding of a weight. None of it adds a node or a multiply-add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from mobileseg.graph.ir import Array, Graph, Node, hollow, is_hollow
from mobileseg.graph.ops import (
    Activation,
    Add,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Crop,
    DepthToSpace,
    Fused,
    GlobalMean,
    Mul,
    Pad,
    Pool,
    Resize,
)
from mobileseg.graph.passes.draft import CONVS, Draft, Pass, absorb
from mobileseg.graph.passes.lower import hard_sigmoid_of_relu6
from mobileseg.graph.passes.scale import fold_scale

# Operators that a ReLU fuses into.
FUSING = (Conv2d, ConvTranspose2d, Add, Mul)


def merge_products(graph: Graph) -> Graph:
    """Make a 1x1 convolution behind a linear one part of it, where that costs no multiply-add.

    Before: `y = Conv2d x w b; z = Conv2d y m c`. After: `z = Conv2d x mw mb+c`.
    """

    def into(draft: Draft, before: Node, node: Node) -> Node | None:
        if not _is_product(draft, node) or not _is_linear(before):
            return None
        weight, matrix = draft.data(before.inputs[1]), draft.data(node.inputs[1])[:, :, 0, 0]
        transposed = isinstance(before.op, ConvTranspose2d)
        out = weight.shape[1 if transposed else 0]
        if matrix.shape[0] > out:
            return None
        bias = _bias(draft, before, out)
        inputs = (
            before.inputs[0],
            draft.constant(f"{node.output}.weight_merged", _merged(weight, matrix, transposed)),
            draft.constant(
                f"{node.output}.bias_merged",
                (matrix.astype(np.float64) @ bias + _bias(draft, node, len(matrix))).astype(
                    np.float32
                ),
            ),
        )
        assert isinstance(node.op, Conv2d) and isinstance(before.op, Conv2d | ConvTranspose2d)
        return replace(before, op=replace(before.op, activation=node.op.activation), inputs=inputs)

    return absorb(graph, into)


def _is_product(draft: Draft, node: Node) -> bool:
    op = node.op
    if not isinstance(op, Conv2d) or op != Conv2d(activation=op.activation):
        return False
    return draft.data(node.inputs[1]).shape[2:] == (1, 1)


def _is_linear(node: Node) -> bool:
    op = node.op
    ungrouped = isinstance(op, ConvTranspose2d) or (isinstance(op, Conv2d) and op.groups == 1)
    return ungrouped and getattr(op, "activation", "none") == "none"


def _bias(draft: Draft, node: Node, channels: int) -> Array:
    return draft.data(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(channels, np.float32)


def _merged(weight: Array, matrix: Array, transposed: bool) -> Array:
    shape = list(weight.shape)
    shape[1 if transposed else 0] = len(matrix)
    if is_hollow(weight) or is_hollow(matrix):
        return hollow(tuple(shape))
    words = "om,imhw->iohw" if transposed else "om,mihw->oihw"
    merged: Array = np.einsum(words, matrix.astype(np.float64), weight)
    return merged.astype(np.float32)


def product_before_resize(graph: Graph) -> Graph:
    """Take a linear 1x1 convolution that does not widen before the resize that enlarges.

    Before: `r = Resize x; y = Conv2d r w b`. After: `s = Conv2d x w b; y = Resize s`.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        before = graph.producers.get(node.inputs[0])
        if before is None or not _may_swap(graph, before, node):
            draft.nodes.append(node)
            continue
        small = f"{node.output}.small"
        draft.nodes.append(replace(node, inputs=(before.inputs[0], *node.inputs[1:]), output=small))
        draft.nodes.append(replace(before, inputs=(small,), output=node.output))
    return draft.finish()


def _may_swap(graph: Graph, resize: Node, node: Node) -> bool:
    if not isinstance(resize.op, Resize) or node.op != Conv2d():
        return False
    out, into, *kernel = graph[node.inputs[1]].shape
    larger = prod(graph[resize.output].shape[2:]) >= prod(graph[resize.inputs[0]].shape[2:])
    alone = graph.only_consumer(resize.output) is node
    return alone and larger and out <= into and kernel == [1, 1]


def broadcast_pixel(graph: Graph) -> Graph:
    """Leave out a resize from one pixel where sums and products take the pixel as it is.

    Before: `r = Resize x[1, 5, 1, 1]; y = Add a r`. After: `y = Add a x`.
    """
    draft = Draft(graph)
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node.op, Resize) and _only_broadcast(graph, node):
            renamed[node.output] = node.inputs[0]
        else:
            inputs = tuple(renamed.get(name, name) for name in node.inputs)
            draft.nodes.append(replace(node, inputs=inputs) if inputs != node.inputs else node)
    return draft.finish()


def _only_broadcast(graph: Graph, node: Node) -> bool:
    readers = graph.consumers[node.output]
    shape = graph[node.output].shape
    if graph[node.inputs[0]].shape[2:] != (1, 1) or node.output in graph.outputs:
        return False

    def other_is_whole(reader: Node) -> bool:
        others = [graph[name].shape for name in reader.inputs if name != node.output]
        return any(other[2:] == shape[2:] for other in others)

    return bool(readers) and all(
        isinstance(reader.op, Add | Mul) and other_is_whole(reader) for reader in readers
    )


def activation_before_copy(graph: Graph) -> Graph:
    """Take a ReLU before the operators that only choose or place values, to where it is fused.

    Before: `y = Conv2d a w; c = Concat y y; z = Activation(relu) c`.
    After:  `y = Conv2d(activation=relu) a w; z = Concat y y`.
    """
    fused: dict[str, Fused] = {}
    read: dict[str, str] = {}
    for node in graph.nodes:
        op = node.op
        if not isinstance(op, Activation) or op.function not in {"relu", "relu6"}:
            continue
        makers = _makers(graph, node.inputs[0])
        if makers is None or fused.keys() & set(makers):
            continue
        fused |= dict.fromkeys(makers, "relu" if op.function == "relu" else "relu6")
        read[node.inputs[0]] = node.output
    if not read:
        return graph
    draft = Draft(graph)
    for node in graph.nodes:
        if node.output in read.values():
            continue
        op = node.op
        if node.output in fused:
            assert isinstance(op, FUSING)
            op = replace(op, activation=fused[node.output])
        # What the ReLU read is made under the name of what it made.
        output = read.get(node.output, node.output)
        draft.nodes.append(replace(node, op=op, output=output))
    return draft.finish()


def _makers(graph: Graph, name: str) -> list[str] | None:
    """Return what computes a tensor's values, behind copies; None where a ReLU cannot go there."""
    maker = graph.producers.get(name)
    if maker is None or graph.only_consumer(name) is None:
        return None
    if isinstance(maker.op, FUSING):
        return [maker.output] if maker.op.activation == "none" else None
    largest = isinstance(maker.op, Pool) and maker.op.function == "max"
    if not largest and not isinstance(maker.op, Concat | Crop | DepthToSpace | Pad):
        return None
    found: list[str] = []
    for source in dict.fromkeys(maker.inputs):
        behind = _makers(graph, source)
        if behind is None:
            return None
        found += behind
    return found


def carry_factor(graph: Graph) -> Graph:
    """Multiply by a number in the weights of the convolutions that read the product.

    Before: `g = Mul x s; y = Mul g 1/6; z = Conv2d y w b`.
    After:  `g = Mul x s; z = Conv2d g w/6 b`.

    On the way there stand operators for which a factor may come later: pooling, resizing, the
    product with something else. What they make is named anew, for it is another value.
    """
    ways = _ways(graph)
    return carry_factor(_taken(graph, ways)) if ways else graph


def _ways(graph: Graph) -> list[_Way]:
    """Return factors that can be carried at once: none meets what another one changes."""
    found: list[_Way] = []
    changed: set[str] = set()
    for node in graph.nodes:
        factor = _factor(graph, node)
        if factor is None:
            continue
        way = _Way(graph, node, factor)
        if way.ends_in_weights(node.output) and changed.isdisjoint(way.changes()):
            found.append(way)
            changed |= way.changes()
    return found


def _factor(graph: Graph, node: Node) -> float | None:
    if node.op != Mul():
        return None
    data = graph[node.inputs[1]].data
    if data is None or data.size != 1 or graph[node.inputs[0]].data is not None:
        return None
    factor = float(data.reshape(()))
    return factor if factor > 0 else None


@dataclass
class _Way:
    """From a product with a number to all the convolutions that can take it into their weights."""

    graph: Graph
    product: Node
    factor: float
    passed: set[str] = field(default_factory=set)
    ends: set[str] = field(default_factory=set)

    def ends_in_weights(self, name: str) -> bool:
        if name in self.graph.outputs or not self.graph.consumers[name]:
            return False
        return all(self._takes(reader, name) for reader in self.graph.consumers[name])

    def _takes(self, reader: Node, name: str) -> bool:
        if isinstance(reader.op, CONVS):
            self.ends.add(reader.output)
            return reader.inputs[0] == name
        if reader.output in self.passed or not self._lets_through(reader):
            return False
        self.passed.add(reader.output)
        return self.ends_in_weights(reader.output)

    def _lets_through(self, reader: Node) -> bool:
        if isinstance(reader.op, Mul):
            return reader.op.activation != "relu6" and reader.inputs[0] != reader.inputs[1]
        if isinstance(reader.op, Activation):
            return reader.op.function == "relu"
        return isinstance(reader.op, GlobalMean | Resize | Pad | Crop | DepthToSpace | Pool)

    def changes(self) -> set[str]:
        return {self.product.output, *self.passed, *self.ends}


def _taken(graph: Graph, ways: Sequence[_Way]) -> Graph:
    draft = Draft(graph)
    renamed = {name: f"{name}.unscaled" for way in ways for name in way.passed}
    renamed |= {way.product.output: way.product.inputs[0] for way in ways}
    factors = {name: way.factor for way in ways for name in way.ends}
    products = {way.product.output for way in ways}
    for node in graph.nodes:
        if node.output in products:
            continue
        inputs = [renamed.get(name, name) for name in node.inputs]
        if node.output in factors:
            weight = draft.data(node.inputs[1])
            factor = np.float64(factors[node.output])
            name = f"{node.output}.weight_scaled"
            inputs[1] = draft.constant(
                name, _as_float32(weight if is_hollow(weight) else weight * factor)
            )
        output = renamed.get(node.output, node.output)
        draft.nodes.append(replace(node, inputs=tuple(inputs), output=output))
    return draft.finish()


def _as_float32(data: Array) -> Array:
    return data if data.dtype == np.float32 else data.astype(np.float32)


SETTLE: tuple[Pass, ...] = (
    hard_sigmoid_of_relu6,
    activation_before_copy,
    broadcast_pixel,
    product_before_resize,
    merge_products,
    fold_scale,
    carry_factor,
)
