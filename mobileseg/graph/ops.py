"""What a node can be: one frozen dataclass per operator, and what is true of it everywhere.

Shapes are torch's, `(N, C, H, W)`. Weights are `(O, I, H, W)`; those of a transposed convolution
`(I, O, H, W)`. `pad` is `(top, left, bottom, right)`. A MAC is one multiply-add; only
convolutions have any (the convention of the published tables), so an activation, an addition or a
resize counts none; their time is priced by the bytes they move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import prod
from typing import Literal, TypeAlias

from mobileseg.errors import MobilesegError

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
Pads: TypeAlias = tuple[int, int, int, int]
Fused: TypeAlias = Literal["none", "relu", "relu6"]

NO_PAD: Pads = (0, 0, 0, 0)


@dataclass(frozen=True)
class Op:
    """An operator without its tensors. `shape` raises MobilesegError on inputs that do not fit."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Return the output's shape. The default is an element-wise op on the first input."""
        return inputs[0]

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:  # noqa: ARG002
        """Return the multiply-adds of one execution."""
        return 0

    @property
    def kind(self) -> str:
        """The operator's name in tables and text dumps."""
        return type(self).__name__

    def __str__(self) -> str:
        words = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            text = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"{field.name}={text}")
        return f"{self.kind}({' '.join(words)})"


def _need(condition: bool, op: Op, inputs: Sequence[Shape], rule: str) -> None:
    if not condition:
        raise MobilesegError(f"{op}: inputs {list(inputs)} do not fit; {rule}")


def _windows(size: int, kernel: int, stride: int, pad: int) -> int:
    return (size + pad - kernel) // stride + 1


@dataclass(frozen=True)
class Conv2d(Op):
    """Convolution. Inputs: x, weight `(O, I / groups, kh, kw)`, bias `(O,)` if it has one."""

    stride: Pair = (1, 1)
    pad: Pads = NO_PAD
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: Fused = "none"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (n, c, h, w), (out, per_group, kh, kw) = inputs[0], inputs[1]
        _need(c == per_group * self.groups, self, inputs, "channels = weight's input * groups")
        _need(out % self.groups == 0, self, inputs, "groups divide the output channels")
        top, left, bottom, right = self.pad
        reach_h, reach_w = (kh - 1) * self.dilation[0] + 1, (kw - 1) * self.dilation[1] + 1
        height = _windows(h, reach_h, self.stride[0], top + bottom)
        width = _windows(w, reach_w, self.stride[1], left + right)
        _need(height > 0 and width > 0, self, inputs, "the kernel fits into the padded input")
        return (n, out, height, width)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:
        return prod(output) * prod(inputs[1][1:])

    def is_depthwise(self, inputs: Sequence[Shape]) -> bool:
        """Whether every input channel has filters of its own."""
        return self.groups == inputs[0][1] and self.groups > 1


@dataclass(frozen=True)
class ConvTranspose2d(Op):
    """Transposed convolution. Inputs: x, weight `(I, O, kh, kw)`, bias `(O,)` if it has one.

    `pad` is cut from the output, as torch's symmetric padding is; `extra` rows and columns are
    added at the end (torch's output_padding).
    """

    stride: Pair = (2, 2)
    pad: Pads = NO_PAD
    extra: Pair = (0, 0)
    activation: Fused = "none"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        (n, c, h, w), (into, out, kh, kw) = inputs[0], inputs[1]
        _need(c == into, self, inputs, "channels = weight's first axis")
        top, left, bottom, right = self.pad
        height = (h - 1) * self.stride[0] + kh - top - bottom + self.extra[0]
        width = (w - 1) * self.stride[1] + kw - left - right + self.extra[1]
        return (n, out, height, width)

    def macs(self, inputs: Sequence[Shape], output: Shape) -> int:  # noqa: ARG002
        """Input positions times kernel: no multiplication is spent on the zeros between them."""
        (n, _, h, w), weight = inputs[0], inputs[1]
        return n * h * w * prod(weight)


@dataclass(frozen=True)
class BatchNorm(Op):
    """Batch normalisation at inference. Inputs: x, gamma, beta, mean, variance, each `(C,)`."""

    eps: float = 1e-5


@dataclass(frozen=True)
class Activation(Op):
    """A point-wise function that stands alone, because no operator before it could take it."""

    # rsqrt: 1 / square root, of what is never negative.
    function: Literal["relu", "relu6", "sigmoid", "hard_sigmoid", "hard_swish", "rsqrt"]


@dataclass(frozen=True)
class LeakyRelu(Op):
    """x where it is positive, slope * x elsewhere."""

    slope: float = 0.01


@dataclass(frozen=True)
class PRelu(Op):
    """The same with a slope per channel. Inputs: x, slopes `(1, C, 1, 1)`."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        x, slopes = inputs
        _need(slopes == (1, x[1], 1, 1), self, inputs, "a slope per channel, (1, C, 1, 1)")
        return x


@dataclass(frozen=True)
class Neg(Op):
    """Minus x."""


@dataclass(frozen=True)
class Add(Op):
    """Sum of two tensors; one may be `(N, C, 1, 1)`."""

    activation: Fused = "none"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return _broadcast(self, inputs)


@dataclass(frozen=True)
class Mul(Op):
    """Product of two tensors; one may be `(N, C, 1, 1)`."""

    activation: Fused = "none"

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return _broadcast(self, inputs)


def _broadcast(op: Op, inputs: Sequence[Shape]) -> Shape:
    a, b = inputs
    ok = all(x == y or 1 in (x, y) for x, y in zip(a, b, strict=True))
    _need(ok, op, inputs, "equal shapes, or 1 where they differ")
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


@dataclass(frozen=True)
class Concat(Op):
    """Inputs side by side along the channels."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        n, _, h, w = inputs[0]
        ok = all((i[0], *i[2:]) == (n, h, w) for i in inputs)
        _need(ok, self, inputs, "all agree but for their channels")
        return (n, sum(i[1] for i in inputs), h, w)


@dataclass(frozen=True)
class Pad(Op):
    """Zeros around the picture."""

    pad: Pads

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        n, c, h, w = inputs[0]
        top, left, bottom, right = self.pad
        return (n, c, h + top + bottom, w + left + right)


@dataclass(frozen=True)
class Crop(Op):
    """The window of `size` (height, width) that starts at `start` (top, left)."""

    start: Pair
    size: Pair

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        n, c, h, w = inputs[0]
        ok = self.start[0] + self.size[0] <= h and self.start[1] + self.size[1] <= w
        _need(ok, self, inputs, "the window lies inside the input")
        return (n, c, *self.size)


@dataclass(frozen=True)
class DepthToSpace(Op):
    """Channels `(i * block + j) * C + c` go to row i, column j of a block (TFLite's order)."""

    block: int = 2

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        n, c, h, w = inputs[0]
        _need(c % self.block**2 == 0, self, inputs, "block * block divides the channels")
        return (n, c // self.block**2, h * self.block, w * self.block)


@dataclass(frozen=True)
class Pool(Op):
    """Maximum or mean over windows; the mean leaves padding out of its count."""

    function: Literal["max", "mean"]
    kernel: Pair
    stride: Pair
    pad: Pads = NO_PAD

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        n, c, h, w = inputs[0]
        top, left, bottom, right = self.pad
        height = _windows(h, self.kernel[0], self.stride[0], top + bottom)
        width = _windows(w, self.kernel[1], self.stride[1], left + right)
        _need(height > 0 and width > 0, self, inputs, "the window fits into the padded input")
        return (n, c, height, width)


@dataclass(frozen=True)
class GlobalMean(Op):
    """Mean over height and width, both kept as 1."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        n, c, _, _ = inputs[0]
        return (n, c, 1, 1)


@dataclass(frozen=True)
class Resize(Op):
    """Resize to `size` (height, width); `align_corners` as torch means it (bilinear only)."""

    size: Pair
    mode: Literal["bilinear", "nearest"] = "bilinear"
    align_corners: bool = False

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        n, c, _, _ = inputs[0]
        return (n, c, *self.size)


@dataclass(frozen=True)
class Softmax(Op):
    """Softmax over the channels."""


@dataclass(frozen=True)
class ArgMax(Op):
    """Index of the largest channel, int32 `(N, H, W)`. Only ever the last node."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        n, _, h, w = inputs[0]
        return (n, h, w)


@dataclass(frozen=True)
class Quantize(Op):
    """Write x with the output tensor's scale and type: from float, or from another scale."""


@dataclass(frozen=True)
class Dequantize(Op):
    """Write x as float32: from an integer type with its scale, or from float16."""


OPS: tuple[type[Op], ...] = (
    Conv2d,
    ConvTranspose2d,
    BatchNorm,
    Activation,
    LeakyRelu,
    PRelu,
    Neg,
    Add,
    Mul,
    Concat,
    Pad,
    Crop,
    DepthToSpace,
    Pool,
    GlobalMean,
    Resize,
    Softmax,
    ArgMax,
    Quantize,
    Dequantize,
)

# Training leaves these behind; `passes.normalise` has no graph leave with one of them, so no
# target needs a rule for them.
TRAINING_OPS: frozenset[type[Op]] = frozenset({BatchNorm})
