"""A TFLite file as a graph: channels first, SAME as numbers, one node per operator.

Only the first subgraph is read: what calls another one (IF, WHILE) is an unknown operator.
Source: tensorflow/lite/schema/schema.fbs (v3a); field positions are those of its tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import cast

import ai_edge_litert.schema_py_generated as fb
import numpy as np

from mobileseg.graph.ir import Array, DType, QuantParams, Tensor
from mobileseg.graph.ops import Shape
from mobileseg.reading.flat import Buffer, Table
from mobileseg.reading.sketch import (
    LOST,
    MOST_OPERATORS,
    Act,
    Const,
    Lost,
    Reading,
    RefusedError,
    Sketch,
    Value,
    printable,
)
from mobileseg.reading.tflite.call import Call, Made
from mobileseg.reading.tflite.convolve import WEIGHTS
from mobileseg.reading.tflite.fold import FOLDS, fold
from mobileseg.reading.tflite.handlers import HANDLERS, OPTIONS

IDENTIFIER = b"TFL3"
_CHANNELS_FIRST = (0, 3, 1, 2)
OPERATORS = {code: name for name, code in vars(fb.BuiltinOperator).items() if name.isupper()}
_UNIONS = {code: name for name, code in vars(fb.BuiltinOptions).items() if isinstance(code, int)}
TYPES = {code: name for name, code in vars(fb.TensorType).items() if name.isupper()}
# What an activation can be; and what a constant can be, which may hold shapes and axes besides.
_DTYPES: dict[str, DType] = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
}
_NUMPY = {**_DTYPES, "INT64": "int64"}
# Placeholder names of tensors that an operator leaves out.
_ABSENT = -1


def read_tflite(data: bytes, where: str) -> Reading:
    """Return the network. Raises MobilesegError for damage, or listing all unknown operators."""
    return File(Buffer(data, where)).read()


@dataclass(frozen=True)
class _Declared:
    """A tensor as the file declares it."""

    name: str
    shape: Shape
    type: str
    buffer: int
    quant: QuantParams | None


@dataclass
class File:
    buffer: Buffer
    tensors: list[_Declared] = field(default_factory=list)
    values: dict[int, Value] = field(default_factory=dict)
    constants: dict[tuple[int, str], str] = field(default_factory=dict)
    # Constants that a Dequantize makes wider, by the role that they have in the end.
    roles: dict[int, str] = field(default_factory=dict)
    stored: list[Table] = field(default_factory=list)
    sketch: Sketch = field(init=False)

    def __post_init__(self) -> None:
        self.sketch = Sketch(self.buffer.where, ", ".join(sorted(HANDLERS)))

    def read(self) -> Reading:
        model = self.buffer.root(IDENTIFIER)
        bodies = model.tables(2)
        if not bodies:
            raise self.buffer.damaged("it holds no network")
        body = bodies[0]
        self.stored = model.tables(4)
        self.tensors = [self._declared(table) for table in body.tables(0)]
        operators = body.tables(3)
        if len(operators) > MOST_OPERATORS:
            raise self.buffer.damaged(
                f"{len(operators)} operators; at most {MOST_OPERATORS} are read"
            )
        codes = [self._kind(table) for table in model.tables(1)]
        calls = [self._call(table, codes) for table in operators]
        self._find_roles(calls)
        for index in self._indices(body, 1):
            self._input(index)
        for call in calls:
            self._visit(call)
        self.sketch.require_known()
        return self.sketch.finish([self._output(index) for index in self._indices(body, 2)])

    def _indices(self, body: Table, position: int) -> list[int]:
        found = [int(i) for i in body.vector(position, "<i4")]
        if any(not 0 <= i < len(self.tensors) for i in found):
            raise self.buffer.damaged(f"tensors {found} of {len(self.tensors)}")
        return found

    def _output(self, index: int) -> str:
        value = self.values.get(index)
        if not isinstance(value, Act):
            raise self.buffer.damaged(f"output {self.tensors[index].name!r} is made by no operator")
        return value.name

    def _kind(self, code: Table) -> str:
        builtin = max(code.number(0, "b"), code.number(3, "i"))
        name = OPERATORS.get(builtin, f"operator {builtin}")
        return f"custom {printable(code.text(1))!r}" if name == "CUSTOM" else name

    def _declared(self, table: Table) -> _Declared:
        name = printable(table.text(3))
        kind = table.number(1, "b")
        if table.table(6) is not None:
            raise self.sketch.fail(f"{name}: is sparse; export the network with dense weights")
        return _Declared(
            name,
            tuple(int(n) for n in table.vector(0, "<i4")),
            TYPES.get(kind, f"type {kind}"),
            table.number(2, "I"),
            self._quant(table.table(4), name),
        )

    def _quant(self, table: Table | None, name: str) -> QuantParams | None:
        if table is None:
            return None
        scale = table.vector(2, "<f4").astype(np.float64)
        zero = table.vector(3, "<i8")
        if not scale.size:
            return None
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise self.buffer.damaged(f"{name}: a scale is not a positive number")
        if zero.size and (zero != zero[0]).any():
            raise self.sketch.fail(
                f"{name}: has zero points of its own per channel; quantize its weights "
                "symmetrically, as TFLite's specification has it"
            )
        # The axis is the file's; it becomes the graph's with the constant's layout.
        axis = table.number(6, "i") if scale.size > 1 else None
        return QuantParams(scale, int(zero[0]) if zero.size else 0, axis)

    def _call(self, table: Table, codes: list[str]) -> Call:
        number = table.number(0, "I")
        inputs = [int(i) for i in table.vector(1, "<i4")]
        outputs = [int(i) for i in table.vector(2, "<i4")]
        if number >= len(codes):
            raise self.buffer.damaged(f"operator code {number} of {len(codes)}")
        if any(not _ABSENT <= i < len(self.tensors) for i in inputs):
            raise self.buffer.damaged(f"{codes[number]} reads tensors {inputs}")
        if not all(0 <= i < len(self.tensors) for i in outputs):
            raise self.buffer.damaged(f"{codes[number]} makes tensors {outputs}")
        kind = codes[number]
        layer = self.tensors[outputs[0]].name.partition(";")[0] if outputs else kind
        options = None
        if kind in OPTIONS:
            union = _UNIONS.get(table.number(3, "B"), "")
            if union not in {OPTIONS[kind], "NONE"}:
                raise self.buffer.damaged(f"{layer}: {kind} has the options of {union}")
            options = table.table(4) if union != "NONE" else None
        return Call(self, kind, options, inputs, outputs, layer)

    def _find_roles(self, calls: list[Call]) -> None:
        """Say of each constant that a DEQUANTIZE makes wider which layout its reader wants."""
        wide = {
            call.outputs[0]: call.inputs[0]
            for call in calls
            if call.kind == "DEQUANTIZE" and call.inputs and call.outputs
        }
        for call in calls:
            for position, role in WEIGHTS.get(call.kind, {}).items():
                index = call.inputs[position] if len(call.inputs) > position else _ABSENT
                if index in wide:
                    self.roles[wide[index]] = role

    def _input(self, index: int) -> None:
        declared = self.tensors[index]
        if index in self.values:
            raise self.buffer.damaged(f"input {declared.name!r} is listed twice")
        if len(declared.shape) not in {2, 4} or declared.shape[0] != 1:
            raise self.sketch.fail(
                f"input {declared.name!r}: takes {list(declared.shape)}; a network for one picture "
                "(1, height, width, channels) can be priced; export it so"
            )
        if declared.type not in _DTYPES:
            raise self.sketch.fail(
                f"input {declared.name!r}: is {declared.type}; there is a price for "
                f"{', '.join(_DTYPES)}"
            )
        shape = graph_shape(declared.shape)
        tensor = Tensor(declared.name, shape, _DTYPES[declared.type], declared.quant)
        self.values[index] = Act(self.sketch.add_input(tensor), declared.shape)

    def _visit(self, call: Call) -> None:
        """Read one operator: a node, a constant, or one more of the unknown."""
        for index in call.outputs:
            if index in self.values:
                raise self.buffer.damaged(f"{self.tensors[index].name!r} is made twice")
        handler = HANDLERS.get(call.kind)
        try:
            if self._folded(call):
                return
            if handler is None:
                raise RefusedError("")
            if any(isinstance(self.value(i), Lost) for i in call.inputs if i != _ABSENT):
                self.values |= dict.fromkeys(call.outputs, LOST)
                return
            handler(call)
        except RefusedError as reason:
            form = f" with {reason}" if str(reason) else ""
            self.sketch.refuse(f"{call.kind}{form}", call.layer)
            self.values |= dict.fromkeys(call.outputs, LOST)

    def _folded(self, call: Call) -> bool:
        """Compute what only says a shape: a constant, since every shape is known."""
        if call.kind not in FOLDS or len(call.outputs) != 1 or _ABSENT in call.inputs:
            return False
        given = [self.value(i) for i in call.inputs]
        data = fold(call, given)
        if data is None:
            return False
        name = self.tensors[call.outputs[0]].name
        self.values[call.outputs[0]] = Const(name, data)
        return True

    def value(self, index: int) -> Value:
        """Return what a tensor of the file is. Raises MobilesegError where nothing made it."""
        if not 0 <= index < len(self.tensors):
            raise self.buffer.damaged(f"tensor {index} of {len(self.tensors)}")
        if index not in self.values:
            self.values[index] = self._stored(index)
        return self.values[index]

    def _stored(self, index: int) -> Const:
        """Return a constant, a view into the file."""
        declared = self.tensors[index]
        if declared.type not in _NUMPY:
            raise RefusedError(f"constants of {declared.type}")
        if declared.buffer >= len(self.stored):
            raise self.buffer.damaged(f"buffer {declared.buffer} of {len(self.stored)}")
        table = self.stored[declared.buffer]
        dtype = np.dtype(_NUMPY[declared.type]).newbyteorder("<")
        count = prod(declared.shape)
        size = count * dtype.itemsize
        raw = table.vector(0, "u1")
        if not raw.size and table.number(1, "Q") > 1:
            # Files of 2 GB and more keep their weights behind the flatbuffer.
            raw = self.buffer.view("u1", table.number(1, "Q"), size, table.number(2, "Q"))
        if min(declared.shape, default=1) < 0 or raw.size != size:
            raise self.buffer.damaged(
                f"{declared.name!r} is read before it is made, or holds {raw.size} bytes for "
                f"{list(declared.shape)}"
            )
        data = raw.view(dtype).astype(dtype.newbyteorder("="), copy=False).reshape(declared.shape)
        return Const(declared.name, data, declared.quant)

    def constant(
        self, index: int, layout: str, make: Callable[[Array, QuantParams | None], Made]
    ) -> str:
        """Return the graph's name of a constant in a layout; each once."""
        key = (index, layout)
        if key not in self.constants:
            given = cast(Const, self.value(index))
            data, quant = make(given.data, given.quant)
            self.constants[key] = self.sketch.constant(given.name, data, quant)
        return self.constants[key]

    def made(self, index: int, name: str) -> None:
        """Record that the file's tensor is a node's output. Raises where the shapes differ."""
        declared = self.tensors[index].shape
        if -1 not in declared and declared and not _agree(declared, self.sketch.shape(name)):
            raise self.buffer.damaged(
                f"{self.tensors[index].name!r} says {list(declared)}, its operator makes "
                f"{list(self.sketch.shape(name))} (channels first)"
            )
        shape = declared if -1 not in declared and declared else _file_shape(self, name)
        self.values[index] = Act(name, shape)

    def dtype(self, index: int) -> DType:
        """The type of a computed tensor."""
        kind = self.tensors[index].type
        if kind in _DTYPES:
            return _DTYPES[kind]
        # ARG_MAX alone makes them; our own is int32.
        if kind == "INT64":
            return "int32"
        raise RefusedError(f"activations of {kind}")


def _file_shape(file: File, name: str) -> Shape:
    shape = file.sketch.shape(name)
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


def _agree(declared: Shape, shape: Shape) -> bool:
    if len(declared) == len(shape) == 4:
        return declared == (shape[0], *shape[2:], shape[1])
    # A mean or a fully connected layer may drop the ones; an argmax drops the channels.
    return [n for n in declared if n != 1] == [n for n in shape if n != 1]


def graph_shape(shape: Shape) -> Shape:
    """Return the graph's shape of a picture `(N, H, W, C)` or of a vector `(N, C)`."""
    if len(shape) == 2:
        return (*shape, 1, 1)
    n, h, w, c = shape
    return (n, c, h, w)
