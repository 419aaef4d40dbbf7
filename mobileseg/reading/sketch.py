"""A graph in the making, out of somebody else's file: names, unknown operators, remarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Array, DType, Graph, Node, QuantParams, Tensor, assemble
from mobileseg.graph.ops import Activation, Op, Shape

# A phone's network has hundreds of operators; some passes take time in the square of them.
MOST_OPERATORS = 5_000
# Beyond it a damaged number is likelier than a wish; products stay far from any allocation.
LARGEST_SIDE = 2**24


@dataclass(frozen=True)
class Reading:
    """A file as a graph. `notes` say what costs the same and computes something else."""

    graph: Graph
    notes: tuple[str, ...] = ()
    # Whether the file gives its maps channels last, which is its own affair: the graph does not.
    channels_last: bool = False


class RefusedError(Exception):
    """An operator in a form that the graph has no word for."""


class UnknownOperatorsError(MobilesegError):
    """Operators without a price, all of them listed."""


@dataclass(frozen=True)
class Act:
    """A value that the network computes: the graph's tensor, and the shape that the file gives it.

    `(N, C)` in the file is `(N, C, 1, 1)` in the graph, and a flattened map stays a map. order: of
    a transposed map, which of the graph's axes each of the file's is; empty where none is moved.
    """

    name: str
    shape: Shape
    order: Shape = ()


@dataclass(frozen=True, eq=False)
class Const:
    """A value that stands in the file, in the file's own layout."""

    name: str
    data: Array
    quant: QuantParams | None = None


@dataclass(frozen=True)
class Lost:
    """What an unknown operator makes: nothing is known of it."""


Value: TypeAlias = Act | Const | Lost
LOST = Lost()
Fused: TypeAlias = Literal["none", "relu", "relu6"]


@dataclass
class Sketch:
    """Nodes and tensors as the reader meets them."""

    where: str
    known: str
    inputs: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    # Where in `nodes` each computed tensor is made.
    makers: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, tuple[int, str]] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    def fail(self, what: str) -> MobilesegError:
        """Return the error for this file."""
        return MobilesegError(f"{self.where}: {what}")

    def shape(self, name: str) -> Shape:
        """The shape of a tensor met before, the graph's."""
        return self.tensors[name].shape

    def add_input(self, tensor: Tensor) -> str:
        """Add an input of the network."""
        tensor = replace(tensor, name=self.fresh(tensor.name))
        self._require_size(tensor.name, tensor.shape)
        self.inputs.append(tensor)
        self.tensors[tensor.name] = tensor
        return tensor.name

    def constant(self, name: str, data: Array, quant: QuantParams | None = None) -> str:
        """Add a constant in the graph's layout."""
        name = self.fresh(name)
        types = {np.dtype(kind).name: kind for kind in _TYPES}
        if data.dtype.name not in types:
            raise RefusedError(f"a constant of {data.dtype.name}")
        self.tensors[name] = Tensor(name, data.shape, types[data.dtype.name], quant, data)
        return name

    def emit(
        self,
        op: Op,
        inputs: Sequence[str],
        name: str,
        layer: str,
        dtype: DType = "float32",
        quant: QuantParams | None = None,
    ) -> str:
        """Append a node; return its output's name."""
        name = self.fresh(name)
        layer = printable(layer)
        try:
            shape = op.shape([self.shape(each) for each in inputs])
        except MobilesegError as error:
            raise self.fail(f"{layer}: {error}; the file contradicts itself") from None
        self._require_size(layer, shape)
        self.tensors[name] = Tensor(name, shape, dtype, quant)
        self.makers[name] = len(self.nodes)
        self.nodes.append(Node(op, tuple(inputs), name, layer))
        return name

    def emit_fused(
        self,
        op: Op,
        inputs: Sequence[str],
        name: str,
        layer: str,
        function: Fused,
        dtype: DType = "float32",
        quant: QuantParams | None = None,
    ) -> str:
        """Append a node and its activation: a part of it where the graph knows such a form."""
        if function == "none":
            return self.emit(op, inputs, name, layer, dtype, quant)
        if hasattr(op, "activation"):
            return self.emit(_with_activation(op, function), inputs, name, layer, dtype, quant)
        plain = self.emit(op, inputs, f"{name}.linear", layer, dtype, quant)
        return self.emit(Activation(function), [plain], name, layer, dtype, quant)

    def refuse(self, kind: str, layer: str) -> None:
        """Count an operator without a price."""
        count, first = self.unknown.get(kind, (0, printable(layer)))
        self.unknown[kind] = (count + 1, first)

    def note(self, text: str) -> None:
        """Remember that an operator of the graph costs what the file's costs and is another."""
        self.notes[text] = self.notes.get(text, 0) + 1

    def fresh(self, wish: str) -> str:
        """Return a name that no tensor has yet."""
        wish = printable(wish) or "unnamed"
        name, number = wish, 1
        while name in self.tensors:
            number += 1
            name = f"{wish}_{number}"
        return name

    def require_known(self) -> None:
        """Raise MobilesegError listing every operator without a price."""
        if not self.unknown:
            return
        parts = [
            f"{kind} ({count} time{'s' if count > 1 else ''}, first at {first!r})"
            for kind, (count, first) in self.unknown.items()
        ]
        raise UnknownOperatorsError(
            f"{self.where}: no price is known for {'; '.join(parts)}; "
            f"export the network without them; known are: {self.known}"
        )

    def finish(self, outputs: Sequence[str]) -> Reading:
        """Return the graph. Raises MobilesegError listing every operator without a price."""
        self.require_known()
        if not self.inputs or not outputs:
            raise self.fail("has no input or no output; nothing can be run")
        try:
            graph = assemble(self.inputs, self.nodes, list(dict.fromkeys(outputs)), self.tensors)
        except MobilesegError as error:
            raise self.fail(f"{error}; the file contradicts itself") from None
        notes = [f"{text} ({count} times)" for text, count in self.notes.items()]
        return Reading(graph, tuple(notes))

    def _require_size(self, layer: str, shape: Shape) -> None:
        if any(n < 1 for n in shape) or prod(shape) > LARGEST_SIDE**2 or max(shape) > LARGEST_SIDE:
            raise self.fail(
                f"{layer}: makes a tensor of {list(shape)}; every side is 1 to {LARGEST_SIDE}"
            )


def _with_activation(op: Any, function: Fused) -> Op:
    fused: Op = replace(op, activation=function)
    return fused


_TYPES: tuple[DType, ...] = ("float32", "float16", "int8", "uint8", "int32")


def printable(text: str | bytes) -> str:
    """Return a name of the file without anything that a terminal would obey.

    Bytes are what protobuf makes of a text that is no UTF-8.
    """
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    return "".join(c if c.isprintable() else "?" for c in text[:500])
