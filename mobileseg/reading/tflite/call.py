"""One TFLite operator with its inputs and options, and the means to answer with nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from mobileseg.graph import ops
from mobileseg.graph.ir import Array, QuantParams
from mobileseg.reading.flat import Table
from mobileseg.reading.shapes import SMALL, reals
from mobileseg.reading.sketch import Act, Const, Fused, RefusedError, Value

if TYPE_CHECKING:
    from mobileseg.reading.tflite.file import File


_FUSED: dict[int, Fused] = {0: "none", 1: "relu", 3: "relu6"}


Made: TypeAlias = tuple[Array, QuantParams | None]


@dataclass(frozen=True)
class Call:
    """One operator of the file, its tensors by their indices, and the means to answer."""

    file: File
    kind: str
    options: Table | None
    inputs: Sequence[int]
    outputs: Sequence[int]
    layer: str

    def option(self, field: int, code: str = "i", default: Any = 0) -> Any:
        """Return a scalar of the operator's options."""
        return default if self.options is None else self.options.number(field, code, default)

    def fused(self, field: int) -> Fused:
        """Return the activation that the operator ends with."""
        code = self.option(field, "b")
        if code not in _FUSED:
            raise RefusedError(f"fused activation {code}")
        return _FUSED[code]

    def pair(self, fields: tuple[int, int], default: int = 0) -> ops.Pair:
        """Return a height and a width from the options. Raises MobilesegError below 1."""
        high, wide = (int(self.option(field, "i", default)) for field in fields)
        if high < 1 or wide < 1:
            raise self.damaged(f"a stride, dilation or window of {high}x{wide}")
        return high, wide

    def damaged(self, what: str) -> Exception:
        """Return the error for an operator that contradicts itself."""
        return self.file.buffer.damaged(f"{self.layer}: {self.kind}: {what}")

    def value(self, position: int) -> Value:
        """Return an input. Raises MobilesegError where the operator has too few."""
        if position >= len(self.inputs) or self.inputs[position] < 0:
            raise self.damaged(f"input {position} is missing")
        return self.file.value(self.inputs[position])

    def act(self, position: int = 0) -> Act:
        """Return an input that the network computes."""
        found = self.value(position)
        if not isinstance(found, Act):
            raise RefusedError(f"a constant as input {position}")
        return found

    def map(self, position: int = 0) -> str:
        """Return the graph's name of a picture `(N, H, W, C)`, or of a vector `(N, C)`."""
        found = self.act(position)
        shape = self.file.sketch.shape(found.name)
        kept = (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else ()
        if found.shape != kept and (found.shape != kept[:1] + kept[3:] or kept[1:3] != (1, 1)):
            raise RefusedError(f"tensors of {list(found.shape)}")
        return found.name

    def integers(self, position: int) -> list[int]:
        """Return a constant of a few integers: axes, sizes, paddings."""
        found = self.value(position)
        if not isinstance(found, Const) or found.data.dtype.kind not in "iu":
            raise RefusedError(f"input {position} not constant")
        if found.data.size > SMALL:
            raise self.damaged(f"{found.data.size} numbers where a few are due")
        return [int(n) for n in found.data.reshape(-1)]

    def has(self, position: int) -> bool:
        """Whether an optional input is there."""
        return position < len(self.inputs) and self.inputs[position] >= 0

    def emit(self, op: ops.Op, inputs: Sequence[str], function: Fused = "none") -> None:
        """Answer with a node, its activation in or behind it."""
        if len(self.outputs) != 1:
            raise RefusedError(f"{len(self.outputs)} outputs")
        index = self.outputs[0]
        declared, dtype = self.file.tensors[index], self.file.dtype(index)
        made = self.file.sketch.emit_fused(
            op, inputs, declared.name, self.layer, function, dtype, declared.quant
        )
        self.file.made(index, made)

    def weight(self, position: int, layout: str, make: Callable[[Array], Array], axis: int) -> str:
        """Return a convolution's weight in the graph's layout, `axis` its output channels."""
        if isinstance(self.value(position), Act):
            return self._of_constant(position)

        def turned(data: Array, quant: QuantParams | None) -> Made:
            data = make(data)
            return data, per_channel(data, quant, axis)

        name = self.file.constant(self.inputs[position], layout, turned)
        return self._as_real(name)

    def _as_real(self, weight: str) -> str:
        """Return int8 weights of a float convolution as reals, and say so."""
        given, sketch = self.act(_DATA.get(self.kind, 0)), self.file.sketch
        tensor = sketch.tensors[weight]
        inward = sketch.tensors[given.name].dtype
        if tensor.data is None or tensor.quant is None or inward != "float32":
            return weight
        sketch.note(f"{self.kind} with {tensor.dtype} weights is priced as float32 arithmetic")
        return sketch.constant(f"{weight}.real", reals(tensor.data, tensor.quant))

    def _of_constant(self, position: int) -> str:
        """Return what a Dequantize made of a constant, which has its layout from the start."""
        name = self.act(position).name
        sketch = self.file.sketch
        made = sketch.makers.get(name)
        if made is None or sketch.tensors[sketch.nodes[made].inputs[0]].data is None:
            raise RefusedError("weights that the network computes")
        return name

    def bias(self, position: int) -> list[str]:
        """Return the name of a bias, if there is one."""
        if not self.has(position):
            return []
        if isinstance(self.value(position), Act):
            return [self._of_constant(position)]

        def flat(data: Array, quant: QuantParams | None) -> Made:
            data = data.reshape(-1)
            return data, per_channel(data, quant, 0)

        return [self.file.constant(self.inputs[position], "bias", flat)]

    def operand(self, position: int) -> str:
        """Return an input of an element-wise operator, constants broadcast as TFLite does."""
        if not isinstance(self.value(position), Const):
            return self.map(position)
        return self.file.constant(self.inputs[position], "operand", operand_of)


def per_channel(data: Array, quant: QuantParams | None, axis: int) -> QuantParams | None:
    """Return the scale of a convolution's constant, one per channel where it may be."""
    if quant is None or (quant.scale.size == 1 and data.shape[axis] > 1):
        return quant
    if quant.scale.size != data.shape[axis]:
        raise RefusedError(f"{quant.scale.size} scales for {data.shape[axis]} channels")
    return quant if quant.zero_point else QuantParams(quant.scale, 0, axis)


def operand_of(data: Array, quant: QuantParams | None) -> Made:
    if data.ndim > 4 or (quant is not None and quant.axis is not None):
        raise RefusedError("such a constant")
    whole = data.reshape((1,) * (4 - data.ndim) + data.shape)
    return whole.transpose(0, 3, 1, 2), quant


_DATA = {"TRANSPOSE_CONV": 2}


Handler: TypeAlias = Callable[[Call], None]
