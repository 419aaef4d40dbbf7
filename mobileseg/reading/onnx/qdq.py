"""Float operators between Dequantize and Quantize, as the integer operators that they stand for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mobileseg.graph.ir import Graph, Node, QuantParams, Tensor
from mobileseg.graph.ops import (
    ArgMax,
    Conv2d,
    ConvTranspose2d,
    Dequantize,
    Quantize,
)
from mobileseg.reading.shapes import reals

_STEPS = frozenset({"int8", "uint8"})
_CONVS = (Conv2d, ConvTranspose2d)


def integer_operators(graph: Graph) -> Graph:
    """Make each operator whose inputs are all dequantized and whose output is quantized integer.

    Before: `x = Dequantize a[i8]; y = Add x x; b[i8] = Quantize y`. After: `b[i8] = Add a a`.
    What is not between such a pair stays float, its Quantize and Dequantize operators with it.
    """
    work = _Work(graph)
    nodes = [work.visit(node) for node in graph.nodes]
    kept = [node for node in nodes if node is not None]
    return _real_constants(_without_copies(graph.edit(kept, work.constants)))


@dataclass
class _Work:
    graph: Graph
    constants: list[Tensor] = field(default_factory=list)
    # Outputs of Quantize nodes that integer operators make themselves now.
    made: set[str] = field(default_factory=set)

    def visit(self, node: Node) -> Node | None:
        if isinstance(node.op, Quantize):
            return self._requantize(node)
        if isinstance(node.op, Dequantize):
            return node
        if isinstance(node.op, ArgMax):
            source = self._steps(node.inputs[0])
            return node if source is None else replace(node, inputs=(source,))
        return self._integer(node) or node

    def _requantize(self, node: Node) -> Node | None:
        if node.output in self.made:
            return None
        source = self._steps(node.inputs[0])
        return node if source is None else replace(node, inputs=(source,))

    def _integer(self, node: Node) -> Node | None:
        reader = self.graph.only_consumer(node.output)
        if reader is None or not isinstance(reader.op, Quantize):
            return None
        count = 2 if isinstance(node.op, _CONVS) else len(node.inputs)
        sources = [self._steps(name) for name in node.inputs[:count]]
        given = [name for name in sources if name is not None]
        if len(given) < count:
            return None
        if len(node.inputs) > count:
            bias = self._bias(node, given)
            if bias is None:
                return None
            given.append(bias)
        self.made.add(reader.output)
        return replace(node, inputs=tuple(given), output=reader.output)

    def _steps(self, name: str) -> str | None:
        """Return the integer tensor that `name` is the real value of."""
        producer = self.graph.producers.get(name)
        if producer is None or not isinstance(producer.op, Dequantize):
            return None
        source = self.graph[producer.inputs[0]]
        return source.name if source.dtype in _STEPS else None

    def _bias(self, node: Node, given: list[str]) -> str | None:
        """Return the bias as int32 at input scale * weight scale, as stored or made so."""
        name = node.inputs[2]
        producer = self.graph.producers.get(name)
        if producer is not None:
            stored = self.graph[producer.inputs[0]]
            return stored.name if stored.dtype == "int32" and stored.data is not None else None
        data = self.graph[name].data
        quants = [self.graph[each].quant for each in given]
        if data is None or quants[0] is None or quants[1] is None:
            return None
        scale = quants[0].scale[0] * quants[1].scale * np.ones(data.shape[0])
        made = f"{node.output}.bias_int32"
        sums = np.clip(np.round(data / scale), -(2**31), 2**31 - 1).astype(np.int32)
        self.constants.append(Tensor(made, sums.shape, "int32", QuantParams(scale, 0, 0), sums))
        return made


def _without_copies(graph: Graph) -> Graph:
    """Drop each Quantize of steps that changes neither type nor scale; outputs keep theirs."""
    names: dict[str, str] = {}
    nodes = []
    for original in graph.nodes:
        inputs = tuple(names.get(name, name) for name in original.inputs)
        node = replace(original, inputs=inputs)
        source, made = graph[node.inputs[0]], graph[node.output]
        copies = isinstance(node.op, Quantize) and _same_steps(source, made)
        if copies and made.name not in graph.outputs:
            names[made.name] = source.name
        else:
            nodes.append(node)
    return graph.edit(nodes)


def _real_constants(graph: Graph) -> Graph:
    """Compute each Dequantize of a constant that stayed: its reader is a float operator."""
    made = []
    for node in graph.nodes:
        source = graph[node.inputs[0]]
        known = source.data is not None and source.quant is not None
        if isinstance(node.op, Dequantize) and known:
            made.append(_real(source, node.output))
    names = {each.name for each in made}
    return graph.edit([node for node in graph.nodes if node.output not in names], made)


def _real(source: Tensor, name: str) -> Tensor:
    assert source.data is not None and source.quant is not None
    data = reals(source.data, source.quant)
    return Tensor(name, data.shape, data=data)


def _same_steps(a: Tensor, b: Tensor) -> bool:
    known = a.dtype == b.dtype and a.quant is not None and b.quant is not None
    return known and a.quant.same_as(b.quant)  # type: ignore[union-attr,arg-type]
