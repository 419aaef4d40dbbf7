"""One ONNX operator with its inputs and attributes, and the means to answer with nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Array, DType
from mobileseg.reading.shapes import SMALL, same_pads
from mobileseg.reading.sketch import Act, Const, RefusedError, Value, printable

if TYPE_CHECKING:
    from mobileseg.reading.onnx.file import File


@dataclass(frozen=True)
class Call:
    """One operator of the file, its inputs' values (None: left out), and the means to answer."""

    file: File
    node: Any
    kind: str
    layer: str
    given: Sequence[Value | None]

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The operator's attributes by name."""
        return {each.name: each for each in self.node.attribute}

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self.attributes[name].i) if name in self.attributes else default

    def real(self, name: str, default: float) -> float:
        """Return a float attribute."""
        return float(self.attributes[name].f) if name in self.attributes else default

    def text(self, name: str, default: str) -> str:
        """Return a text attribute."""
        found = self.attributes.get(name)
        return default if found is None else found.s.decode(errors="replace")

    def integers(self, name: str) -> list[int]:
        """Return a list attribute, empty where it is absent."""
        return [int(n) for n in self.attributes[name].ints] if name in self.attributes else []

    def pair(self, name: str, default: int = 1) -> ops.Pair:
        """Return a height and a width. Raises MobilesegError below 1."""
        found = self.integers(name) or [default, default]
        if len(found) != 2:
            raise RefusedError(f"{name} {found}")
        if min(found) < 1:
            raise self.damaged(f"{name} {found}")
        return found[0], found[1]

    def damaged(self, what: str) -> Exception:
        """Return the error for an operator that contradicts itself."""
        return self.file.sketch.fail(
            f"{self.layer}: {self.kind}: {what}; the file is damaged, export it again"
        )

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.given) and self.given[position] is not None

    def value(self, position: int) -> Value:
        """Return an input. Raises MobilesegError where the operator has too few."""
        found = self.given[position] if position < len(self.given) else None
        if found is None:
            raise self.damaged(f"input {position} is missing")
        return found

    def act(self, position: int = 0) -> Act:
        """Return an input that the network computes."""
        found = self.value(position)
        if not isinstance(found, Act):
            raise RefusedError(f"a constant as input {position}")
        if found.order:
            raise RefusedError(f"axes {list(found.order)}")
        return found

    def map(self, position: int = 0) -> str:
        """Return the graph's name of a picture `(N, C, H, W)`, or of a vector `(N, C)`."""
        found = self.act(position)
        shape = self.file.sketch.shape(found.name)
        if found.shape != shape and (found.shape != shape[:2] or shape[2:] != (1, 1)):
            raise RefusedError(f"tensors of {list(found.shape)}")
        return found.name

    def constant(self, position: int) -> Const:
        """Return an input that stands in the file."""
        found = self.value(position)
        if not isinstance(found, Const):
            raise RefusedError(f"input {position} not constant")
        return found

    def numbers(self, position: int, name: str) -> list[int] | None:
        """Return a few integers: an input, in older files the attribute `name`, or None."""
        if not self.has(position):
            return self.integers(name) if name in self.attributes else None
        data = self.constant(position).data
        if data.size > SMALL or data.dtype.kind not in "iu":
            raise self.damaged(f"{data.size} {data.dtype} numbers where a few integers are due")
        return [int(n) for n in data.reshape(-1)]

    def emit(self, op: ops.Op, inputs: Sequence[str], suffix: str = "") -> Act:
        """Append a node; return what it makes, shaped as in the graph."""
        sketch = self.file.sketch
        dtype: DType = "int32" if isinstance(op, ops.ArgMax) else "float32"
        name = sketch.emit(op, inputs, f"{self.node.output[0]}{suffix}", self.layer, dtype)
        return Act(name, sketch.shape(name))

    def like(self, made: Act, position: int = 0) -> Act:
        """Return the value with as many axes as an input has."""
        rank = len(self.act(position).shape)
        return Act(made.name, made.shape[:2]) if rank == 2 else made

    def stored(self, given: Const, data: Array, axis: int | None = None) -> str:
        """Return the name of a constant in the graph's layout: its real value, if it has steps."""
        sketch = self.file.sketch
        if given.quant is not None:
            quant = replace(given.quant, axis=axis) if given.quant.axis is not None else given.quant
            steps = sketch.constant(given.name, data, quant)
            return sketch.emit(ops.Dequantize(), [steps], f"{given.name}_real", self.layer)
        if data.dtype == np.float16:
            half = sketch.constant(given.name, data)
            return sketch.emit(ops.Dequantize(), [half], f"{given.name}_real", self.layer)
        if data.dtype != np.float32:
            raise RefusedError(f"constants of {data.dtype}")
        return sketch.constant(given.name, data)

    def operand(self, position: int) -> str:
        """Return an input of an element-wise operator, constants broadcast as ONNX does."""
        found = self.value(position)
        if isinstance(found, Const):
            return self.stored(found, self.broadcast(found.data))
        return self.map(position)

    def broadcast(self, data: Array) -> Array:
        """Return a constant with four axes, as it stands beside the other operand."""
        ranks = [len(each.shape) for each in self.given if isinstance(each, Act)]
        if not ranks:
            raise RefusedError("constants alone")
        rank = max(ranks)
        if data.ndim > 4 or (data.ndim > 2 and rank == 2):
            raise RefusedError(f"a constant of {list(data.shape)}")
        whole = data.reshape((1,) * (rank - data.ndim) + data.shape)
        return whole.reshape(*whole.shape, 1, 1) if rank == 2 else whole

    def sole_maker(self, position: int = 0) -> int | None:
        """Return which node makes an input that nothing else reads."""
        if self.file.uses[self.node.input[position]] != 1:
            return None
        return self.file.sketch.makers.get(self.act(position).name)

    def pads(
        self,
        size: Sequence[int],
        kernel: Sequence[int],
        stride: ops.Pair,
        dilation: ops.Pair = (1, 1),
    ) -> ops.Pads:
        """Return what is padded around a picture of this size."""
        auto = self.text("auto_pad", "NOTSET")
        if auto in {"SAME_UPPER", "SAME_LOWER"}:
            top, left, bottom, right = same_pads(size, kernel, stride, dilation)
            return (
                (top, left, bottom, right) if auto == "SAME_UPPER" else (bottom, right, top, left)
            )
        if auto not in {"NOTSET", "VALID"}:
            raise RefusedError(f"auto_pad {printable(auto)}")
        pads = self.integers("pads") if auto == "NOTSET" else []
        found = pads or [0, 0, 0, 0]
        if len(found) != 4:
            raise RefusedError(f"pads {found}")
        if min(found) < 0:
            raise self.damaged(f"pads {found}")
        return (found[0], found[1], found[2], found[3])

    @property
    def outputs(self) -> list[str]:
        """The names of what the operator makes, those left out aside."""
        return [name for name in self.node.output if name]


# Of several outputs the values in order.
Handler: TypeAlias = Callable[[Call], Value | Sequence[Value]]
