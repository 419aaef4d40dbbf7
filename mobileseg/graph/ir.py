"""The network as a machine runs it: typed operators and named tensors.

A graph is immutable. Its nodes stand in an order in which they can run; edges are tensor names;
a constant is a tensor with data. Every activation is 4-D in torch's layout; a writer permutes.
Quantization is a property of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.graph.ops import ArgMax, Op, Shape

DType: TypeAlias = Literal["float32", "float16", "int8", "uint8", "int16", "int32", "int64"]
Array: TypeAlias = NDArray[Any]


def hollow(shape: Shape, dtype: DType = "float32") -> Array:
    """Return zeros that take no memory: weights of a graph that is only counted and priced."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def is_hollow(data: Array) -> bool:
    """Whether `hollow` made the array, so that any multiple or rearrangement of it is hollow."""
    return data.ndim > 1 and not any(data.strides) and not data.flat[0]


@dataclass(frozen=True, eq=False)
class QuantParams:
    """`real = scale * (integer - zero_point)`; one scale, or one per index of `axis`.

    scale is float64 `(1,)` or `(channels,)`; zero_point is one integer for all (0 where there is
    a scale per channel). Source: TFLite 8-bit quantization specification.
    """

    scale: NDArray[np.float64]
    zero_point: int = 0
    axis: int | None = None

    def same_as(self, other: QuantParams) -> bool:
        """Whether both map integers to the same reals."""
        return (
            self.zero_point == other.zero_point
            and self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
        )


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named value: an activation, or a constant where `data` is set."""

    name: str
    shape: Shape
    dtype: DType = "float32"
    quant: QuantParams | None = None
    data: Array | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the dense value."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Node:
    """One operator at work. `layer` is the module path that reports and recipes speak."""

    op: Op
    inputs: tuple[str, ...]
    output: str
    layer: str


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in running order; tensors by name. Make one with `assemble`."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        """Nothing in a graph changes: a copy is the graph itself."""
        return self

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each activation."""
        return MappingProxyType({node.output: node for node in self.nodes})

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor, in running order."""
        readers: dict[str, list[Node]] = {name: [] for name in self.tensors}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return MappingProxyType({name: tuple(nodes) for name, nodes in readers.items()})

    def activations(self, node: Node) -> tuple[Tensor, ...]:
        """The node's inputs that are not constants."""
        return tuple(self[name] for name in node.inputs if self[name].data is None)

    def constants(self, node: Node) -> tuple[Tensor, ...]:
        """The node's constant inputs."""
        return tuple(self[name] for name in node.inputs if self[name].data is not None)

    def shapes(self, node: Node) -> tuple[Shape, ...]:
        """The shapes of all the node's inputs, constants included."""
        return tuple(self[name].shape for name in node.inputs)

    def macs(self, node: Node) -> int:
        """Multiply-adds of one node."""
        return node.op.macs(self.shapes(node), self[node.output].shape)

    def params(self, node: Node) -> int:
        """Numbers in the node's constants."""
        return sum(prod(tensor.shape) for tensor in self.constants(node))

    @property
    def total_macs(self) -> int:
        """Multiply-adds of one inference."""
        return sum(self.macs(node) for node in self.nodes)

    def only_consumer(self, name: str) -> Node | None:
        """The node that reads `name`, if it is the only one and `name` is not an output."""
        readers = self.consumers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def edit(
        self,
        nodes: Sequence[Node],
        constants: Iterable[Tensor] = (),
        outputs: tuple[str, ...] | None = None,
        inputs: Iterable[Tensor] | None = None,
    ) -> Graph:
        """Return the graph with these nodes instead; unused tensors go, shapes are inferred anew.

        Activations keep the type and quantization that they have here under the same name.
        """
        known = dict(self.tensors) | {tensor.name: tensor for tensor in constants}
        given = tuple(inputs) if inputs is not None else tuple(self[n] for n in self.inputs)
        return assemble(given, nodes, outputs or self.outputs, known)

    def with_tensors(self, tensors: Iterable[Tensor]) -> Graph:
        """Return the graph with these tensors in the place of those of the same name."""
        changed = dict(self.tensors) | {tensor.name: tensor for tensor in tensors}
        return assemble([changed[n] for n in self.inputs], self.nodes, self.outputs, changed)

    def __str__(self) -> str:
        lines = [f"inputs {', '.join(_typed(self[name]) for name in self.inputs)}"]
        for node in self.nodes:
            values = ", ".join(_operand(self[name]) for name in node.inputs)
            lines.append(f"{_typed(self[node.output])} = {node.op} {values}")
        lines.append(f"outputs {', '.join(self.outputs)}")
        return "\n".join(lines)


def assemble(
    inputs: Sequence[Tensor],
    nodes: Sequence[Node],
    outputs: Sequence[str],
    known: Mapping[str, Tensor],
) -> Graph:
    """Return a verified graph of the live part of `nodes`, activation shapes inferred.

    Raises MobilesegError for a tensor read before it is made, made twice, or of a wrong shape.
    """
    live = _live(nodes, outputs)
    tensors = {tensor.name: tensor for tensor in inputs}
    for node in live:
        for name in node.inputs:
            if name in tensors:
                continue
            constant = known.get(name)
            if constant is None or constant.data is None:
                raise MobilesegError(f"{node.layer}: reads {name!r} before any node makes it")
            if constant.data.shape != constant.shape:
                raise MobilesegError(
                    f"{node.layer}: {name!r} says {constant.shape} and holds {constant.data.shape}"
                )
            tensors[name] = constant
        if node.output in tensors:
            raise MobilesegError(f"{node.layer}: {node.output!r} is made twice")
        shape = node.op.shape([tensors[name].shape for name in node.inputs])
        _check_rank(node, shape, tensors)
        before = known.get(node.output) or _fresh(node, shape)
        tensors[node.output] = before if before.shape == shape else replace(before, shape=shape)
    for name in outputs:
        if name not in tensors:
            raise MobilesegError(f"graph: output {name!r} is made by no node")
    return Graph(
        tuple(tensor.name for tensor in inputs),
        tuple(outputs),
        tuple(live),
        MappingProxyType(tensors),
    )


def _live(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    wanted = set(outputs)
    live = []
    for node in reversed(nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            live.append(node)
    return live[::-1]


def _fresh(node: Node, shape: Shape) -> Tensor:
    return Tensor(node.output, shape, "int32" if isinstance(node.op, ArgMax) else "float32")


def _check_rank(node: Node, shape: Shape, tensors: Mapping[str, Tensor]) -> None:
    if len(shape) == 4 or isinstance(node.op, ArgMax):
        return
    if any(tensors[name].data is None for name in node.inputs):
        raise MobilesegError(f"{node.layer}: {node.output!r} has {len(shape)} axes; all have 4")


_SHORT = {"float32": "f32", "float16": "f16", "uint8": "u8"} | {
    f"int{bits}": f"i{bits}" for bits in (8, 16, 32, 64)
}


def _typed(tensor: Tensor) -> str:
    return f"%{tensor.name}: {_SHORT[tensor.dtype]}{list(tensor.shape)}"


def _operand(tensor: Tensor) -> str:
    if tensor.data is None:
        return f"%{tensor.name}"
    return f"{tensor.name}{list(tensor.shape)}"
