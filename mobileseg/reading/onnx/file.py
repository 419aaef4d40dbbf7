"""An ONNX file as a graph: batch norm folded, ReLU fused, QDQ pairs as integer operators.

Every size is known once those of the inputs are, so what a file computes of shapes comes out as
constants here. Data in other files, functions and subgraphs are not followed: the first is an
error, the others are unknown operators.
Source: onnx.ai, operator schemas of opsets 9 to 24.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Array, DType, Tensor
from mobileseg.graph.passes import (
    fold_scale,
    fuse_activation,
    merge_twins,
    remove_idle,
    run_passes,
)
from mobileseg.reading.onnx.call import Call
from mobileseg.reading.onnx.fold import fold
from mobileseg.reading.onnx.handlers import HANDLERS
from mobileseg.reading.onnx.order import CHANNELS_LAST, is_channels_last
from mobileseg.reading.onnx.qdq import integer_operators
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

_OLDEST, _NEWEST = 9, 24
_INPUTS: Mapping[int, DType] = {
    TensorProto.FLOAT: "float32",
    TensorProto.UINT8: "uint8",
    TensorProto.INT8: "int8",
}
# Per type: numpy's, and the field that holds it where there are no raw bytes.
_DATA: Mapping[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("float32", "float_data"),
    TensorProto.FLOAT16: ("float16", "int32_data"),
    TensorProto.DOUBLE: ("float64", "double_data"),
    TensorProto.INT8: ("int8", "int32_data"),
    TensorProto.UINT8: ("uint8", "int32_data"),
    TensorProto.INT32: ("int32", "int32_data"),
    TensorProto.INT64: ("int64", "int64_data"),
    TensorProto.BOOL: ("bool", "int32_data"),
}


def parse_onnx(data: bytes, where: str) -> Any:
    """Return the model. Raises MobilesegError for a file that is none or an unknown version."""
    try:
        model = onnx.ModelProto.FromString(data)
    except (DecodeError, RecursionError) as error:
        raise _damaged(where, str(error) or "it ends too early") from None
    if not model.graph.node:
        raise _damaged(where, "it holds no network")
    versions = [each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}]
    if len(versions) != 1 or not _OLDEST <= versions[0] <= _NEWEST:
        said = ", ".join(map(str, versions)) or "none"
        raise MobilesegError(
            f"{where}: has operator set {said}; {_OLDEST} to {_NEWEST} are read; export it with 17"
        )
    return model


def read_onnx(model: Any, where: str, size: tuple[int, int] | None = None) -> Reading:
    """Return the network; `size` is the (height, width) of inputs that leave it open.

    Raises MobilesegError for damage, or UnknownOperatorsError listing all unknown operators.
    """
    file = File(model.graph, where)
    file.opset = next(each.version for each in model.opset_import if each.domain in {"", "ai.onnx"})
    reading = file.read(size)
    # As ONNX Runtime does before it runs the file.
    passes = (fold_scale, fuse_activation, remove_idle, merge_twins, integer_operators)
    try:
        return replace(reading, graph=run_passes(reading.graph, passes))
    except MobilesegError as error:
        raise MobilesegError(f"{where}: {error}; the file contradicts itself") from None


def open_shapes(model: Any, where: str, size: tuple[int, int] | None) -> dict[str, list[int]]:
    """Return every input's shape with the batch as 1 and `size` where it is open."""
    stored = {each.name for each in model.graph.initializer}
    given = [each for each in model.graph.input if each.name not in stored]
    return {each.name: _shape(each, where, size) for each in given}


def _damaged(where: str, what: str) -> MobilesegError:
    return MobilesegError(
        f"{where}: is damaged or no ONNX file ({printable(what)}); fetch or export it again"
    )


def _shape(info: Any, where: str, size: tuple[int, int] | None) -> list[int]:
    name = printable(info.name)
    dims = [each.dim_value or None for each in info.type.tensor_type.shape.dim]
    if len(dims) not in {2, 4} or (dims[0] or 1) != 1:
        raise MobilesegError(
            f"{where}: input {name!r}: takes {dims}; a network for one picture (1, channels, "
            "height, width) can be priced; export it so"
        )
    found = [1, *dims[1:]]
    axes = (1, 2) if is_channels_last(dims) else (2, 3)
    for axis, side in zip(axes, size or (), strict=False):
        if len(found) == 4 and found[axis] not in {None, side}:
            raise MobilesegError(
                f"{where}: input {name!r}: is fixed to {found[axes[0]]}x{found[axes[1]]} pixels; "
                "leave out --input-size or export it for another size"
            )
        if len(found) == 4:
            found[axis] = side
    if found[1] is None and axes[0] != 1:
        raise MobilesegError(f"{where}: input {name!r}: says no channels; export it with them")
    if None in found:
        raise MobilesegError(
            f"{where}: input {name!r}: leaves height and width open; say them with "
            "--input-size HEIGHT,WIDTH"
        )
    return [int(n or 1) for n in found]


@dataclass
class File:
    """The body of a model, being read."""

    body: Any
    where: str
    opset: int = 17
    values: dict[str, Value] = field(default_factory=dict)
    sketch: Sketch = field(init=False)
    # How often each value is read: what only one operator reads may be folded into it.
    uses: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        self.sketch = Sketch(self.where, ", ".join(sorted(HANDLERS)))
        self.uses = Counter(each.name for each in self.body.output)
        self.uses.update(name for node in self.body.node for name in node.input)

    def read(self, size: tuple[int, int] | None) -> Reading:
        if len(self.body.node) > MOST_OPERATORS:
            raise _damaged(self.where, f"{len(self.body.node)} operators; at most {MOST_OPERATORS}")
        if self.body.sparse_initializer:
            raise self.sketch.fail("has sparse weights; export it with dense ones")
        stored = {each.name: each for each in self.body.initializer}
        for each in self.body.input:
            if each.name not in stored:
                self._input(each, size)
        for name, tensor in stored.items():
            self.values[name] = Const(printable(name), self.data(tensor))
        for node in self.body.node:
            self._visit(node)
        self.sketch.require_known()
        reading = self.sketch.finish([self._output(each.name) for each in self.body.output])
        given = [self.values.get(each.name) for each in self.body.output]
        last = any(isinstance(each, Act) and each.order for each in given)
        return replace(reading, channels_last=last)

    def _input(self, info: Any, size: tuple[int, int] | None) -> None:
        shape = _shape(info, self.where, size)
        kind = info.type.tensor_type.elem_type
        if kind not in _INPUTS:
            raise self.sketch.fail(
                f"input {printable(info.name)!r}: is of type {kind}; there is a price for "
                f"{', '.join(_INPUTS.values())}"
            )
        whole = (*shape, 1, 1)[:4]
        last = is_channels_last(shape)
        if last:
            whole = (shape[0], shape[3], *shape[1:3])
        name = self.sketch.add_input(Tensor(info.name, whole, _INPUTS[kind]))
        self.values[info.name] = Act(name, tuple(shape), CHANNELS_LAST if last else ())

    def _output(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, Act):
            raise _damaged(self.where, f"output {name!r} is made by no operator")
        if value.order not in {(), CHANNELS_LAST}:
            raise self.sketch.fail(f"output {name!r}: has its axes in the order {value.order}")
        return value.name

    def data(self, tensor: Any) -> Array:
        """Return a tensor's numbers, uncopied where they are raw bytes."""
        name = printable(tensor.name)
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise self.sketch.fail(
                f"weight {name!r}: is kept in another file, which is not read; save the model as "
                "one file (onnx.save_model with save_as_external_data=False)"
            )
        shape = tuple(int(n) for n in tensor.dims)
        if tensor.data_type not in _DATA:
            raise self.sketch.fail(
                f"weight {name!r}: is of type {tensor.data_type}, which no "
                "operator that is known takes; export it as float32 or int8"
            )
        kind, place = _DATA[tensor.data_type]
        dtype = np.dtype(kind)
        count = prod(shape)
        raw = tensor.raw_data
        held = len(raw) // dtype.itemsize if raw else len(getattr(tensor, place))
        if min(shape, default=1) < 0 or held != count:
            raise _damaged(self.where, f"weight {name!r} holds {held} numbers for {list(shape)}")
        if raw:
            little = np.frombuffer(raw, dtype.newbyteorder("<"), count)
            return little.astype(dtype, copy=False).reshape(shape)
        listed = np.array(getattr(tensor, place), np.int64 if place == "int32_data" else None)
        if kind == "float16":
            return listed.astype(np.uint16).view(np.float16).reshape(shape)
        return listed.astype(dtype).reshape(shape)

    def _visit(self, node: Any) -> None:
        """Read one operator: a node, a constant, or one more of the unknown."""
        layer = printable(node.name or next(iter(node.output), node.op_type))
        outputs = [name for name in node.output if name]
        for name in outputs:
            if name in self.values:
                raise _damaged(self.where, f"{name!r} is made twice")
        given = [self._value(name, layer) for name in node.input]
        domain = "" if node.domain in {"", "ai.onnx"} else f"{printable(node.domain)}::"
        kind = f"{domain}{printable(node.op_type)}"
        call = Call(self, node, kind, layer, given)
        handler = HANDLERS.get(kind)
        try:
            data = fold(call)
            if data is not None and outputs:
                self.values[outputs[0]] = Const(printable(outputs[0]), data)
                return
            if handler is None:
                raise RefusedError("")
            if any(isinstance(each, Lost) for each in given):
                self.values |= dict.fromkeys(outputs, LOST)
                return
            made = handler(call)
            each = made if isinstance(made, Sequence) else [made]
            self.values |= {
                name: value for name, value in zip(node.output, each, strict=False) if name
            }
        except RefusedError as reason:
            form = f" with {reason}" if str(reason) else ""
            self.sketch.refuse(f"{kind}{form}", layer)
            self.values |= dict.fromkeys(outputs, LOST)

    def _value(self, name: str, layer: str) -> Value | None:
        if not name:
            return None
        if name not in self.values:
            raise _damaged(self.where, f"{layer}: reads {name!r} before anything makes it")
        return self.values[name]
