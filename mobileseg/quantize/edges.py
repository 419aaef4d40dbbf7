"""Where reals and steps meet: at the network's ends, and around layers kept in float."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from mobileseg.graph.ir import DType, Graph, Node, QuantParams
from mobileseg.graph.ops import ArgMax, Dequantize, Op, Quantize
from mobileseg.quantize.calibrate import Ranges
from mobileseg.quantize.rules import rule

Interface: TypeAlias = Literal["uint8", "int8", "float32"]

# The int8 step of a pixel: the pixel minus 128, which stands for (pixel - 128) / 128.
_PIXEL = QuantParams(np.ones(1) / 128)


@dataclass(frozen=True)
class _Edge:
    """How an int8 tensor is shown to the outside."""

    dtype: DType
    inward: Op
    outward: Op

    def quant(self, inside: QuantParams) -> QuantParams | None:
        if self.dtype == "float32":
            return None
        return QuantParams(inside.scale, inside.zero_point + 128)


def with_interface(graph: Graph, interface: Interface) -> Graph:
    """Return the int8 graph with the type that the outside sees; int8: as it is.

    Results of int16 are shown as reals: LiteRT has no kernel from them to uint8.
    """
    if interface == "int8":
        return graph
    edge = EDGES[interface]
    image, result = graph[graph.inputs[0]], graph[graph.outputs[0]]
    shown = EDGES["float32"] if result.dtype == "int16" else edge
    inner = replace(image, name=f"{image.name}_int8")
    renamed = {image.name: inner.name}
    tail: list[Node] = []
    tensors = [inner]
    if result.quant is not None:
        body_out = replace(result, name=f"{result.name}_int8")
        renamed[result.name] = body_out.name
        outer = replace(result, dtype=shown.dtype, quant=shown.quant(result.quant))
        tail = [Node(shown.outward, (body_out.name,), result.name, result.name)]
        tensors += [body_out, outer]
    head = Node(edge.inward, (image.name,), inner.name, image.name)
    body = [
        replace(
            node,
            inputs=tuple(renamed.get(name, name) for name in node.inputs),
            output=renamed.get(node.output, node.output),
        )
        for node in graph.nodes
    ]
    given = replace(image, dtype=edge.dtype, quant=edge.quant(_PIXEL))
    return graph.edit([head, *body, *tail], tensors, inputs=[given])


def is_real(node: Node, keep_float: Collection[str]) -> bool:
    """Whether a node of a graph with borders makes reals. Classes are none."""
    if isinstance(node.op, Quantize | Dequantize):
        return isinstance(node.op, Dequantize)
    return node.layer in keep_float and not isinstance(node.op, ArgMax)


def with_borders(
    graph: Graph, ranges: Ranges, keep_float: Collection[str], interface: Interface
) -> tuple[Graph, Ranges]:
    """Return the float graph with a border around the layers to keep, and its ranges.

    Before: `y = Conv2d x w b; z = Conv2d y v c`, the second one to keep.
    After:  `r = Dequantize y; s = Conv2d r v c; z = Quantize s`. What leaves the network is steps,
    or with a float32 interface `s` itself.
    """
    reals = {node.output for node in graph.nodes if is_real(node, keep_float)}
    inside = reals.intersection(graph.outputs) if interface != "float32" else set()
    names = {name: f"{name}.real" for name in inside}
    known = dict(ranges)
    nodes: list[Node] = []
    made: set[str] = set()

    def cross(name: str, layer: str, into_float: bool) -> str:
        """Return the name under which a node reads `name`, after a border if there must be one."""
        source = names.get(name, name)
        if graph[name].data is not None or (name in reals) == into_float:
            return source
        target = f"{name}.{'reals' if into_float else 'steps'}"
        if target not in made:
            op: Op = Dequantize() if into_float else Quantize()
            nodes.append(Node(op, (source,), target, layer))
            made.add(target)
        if name in ranges:
            known[target] = ranges[name]
        return target

    for node in graph.nodes:
        kept = node.output in reals
        inputs = tuple(cross(name, node.layer, kept) for name in node.inputs)
        output = names.get(node.output, node.output)
        nodes.append(replace(node, inputs=inputs, output=output))
        if output != node.output:
            nodes.append(Node(Quantize(), (output,), node.output, node.layer))
    return graph.edit(nodes), known


def with_own_scales(
    graph: Graph, ranges: Ranges, joined: Collection[str], reals: Collection[str]
) -> tuple[Graph, Ranges]:
    """Return the float graph in which tensors of fixed scale are joined in another, and its ranges.

    Before: `y = Concat image p`, p from a softmax.
    After:  `i = Quantize image; q = Quantize p; y = Concat i q`.
    """
    if not joined:
        return graph, ranges
    known, nodes = dict(ranges), []
    made: set[str] = set()
    for node in graph.nodes:
        shares = node.output not in reals and rule(node) == "shared"
        mine = [name for name in dict.fromkeys(node.inputs) if name in joined and shares]
        names = {name: f"{name}.rescaled" for name in mine}
        for name, target in names.items():
            if target not in made:
                nodes.append(Node(Quantize(), (name,), target, node.layer))
                known |= {target: ranges[name]} if name in ranges else {}
                made.add(target)
        inputs = tuple(names.get(name, name) for name in node.inputs)
        nodes.append(replace(node, inputs=inputs))
    return graph.edit(nodes), known


EDGES: dict[Interface, _Edge] = {
    "uint8": _Edge("uint8", Quantize(), Quantize()),
    "float32": _Edge("float32", Quantize(), Dequantize()),
}
