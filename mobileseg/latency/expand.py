"""Published names of blocks and networks -> the graphs that were measured.

The tables of latencies give a key ("inverted bottleneck, 5x5, expansion 4") or a network's name.
The fit prices graphs, so each is built here operator by operator, without weights: a constant is
a zero seen at every index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from mobileseg.errors import MobilesegError, unknown
from mobileseg.graph.ir import DType, Graph, Node, Tensor, assemble
from mobileseg.graph.ops import (
    NO_PAD,
    Activation,
    Add,
    Concat,
    Conv2d,
    Fused,
    GlobalMean,
    Mul,
    Op,
    Pads,
    Pool,
    Shape,
    Softmax,
)

Act: TypeAlias = Literal["none", "relu", "relu6", "hard_swish"]


@dataclass
class Sketch:
    """A graph in the making: each method appends operators and returns the new tensor's name.

    Strides pad as TensorFlow's SAME does: output = ceil(input / stride).
    """

    dtype: DType = "float32"
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def input(self, channels: int, height: int, width: int) -> str:
        """The network's input."""
        self.tensors["x"] = Tensor("x", (1, channels, height, width), self.dtype)
        return "x"

    def conv(self, x: str, out: int, kernel: int, stride: int = 1, act: Act = "none") -> str:
        """A dense or pointwise convolution with bias."""
        shape = (out, self.channels(x), kernel, kernel)
        return self._conv(x, shape, stride, 1, act)

    def depthwise(self, x: str, kernel: int, stride: int, act: Act) -> str:
        """A depthwise convolution with bias."""
        channels = self.channels(x)
        return self._conv(x, (channels, 1, kernel, kernel), stride, channels, act)

    def pool(self, x: str, function: Literal["max", "mean"], kernel: int, stride: int) -> str:
        """Pooling as SAME pads it."""
        pad = _same(self.tensors[x].shape, kernel, stride)
        return self.node(Pool(function, (kernel, kernel), (stride, stride), pad), x)

    def squeeze(self, x: str, width: int) -> str:
        """Squeeze-and-excitation with a hard sigmoid."""
        mean = self.node(GlobalMean(), x)
        wide = self.conv(self.conv(mean, width, 1, act="relu"), self.channels(x), 1)
        return self.node(Mul(), x, self.node(Activation("hard_sigmoid"), wide))

    def node(self, op: Op, *inputs: str) -> str:
        """Append one operator."""
        output = f"t{len(self.nodes)}"
        shape = op.shape([self.tensors[name].shape for name in inputs])
        self.tensors[output] = Tensor(output, shape, self.dtype)
        self.nodes.append(Node(op, inputs, output, output))
        return output

    def channels(self, x: str) -> int:
        """The channels of a tensor."""
        return self.tensors[x].shape[1]

    def graph(self, output: str) -> Graph:
        """The finished graph."""
        return assemble([self.tensors["x"]], self.nodes, [output], self.tensors)

    def _conv(self, x: str, weight: Shape, stride: int, groups: int, act: Act) -> str:
        pad = _same(self.tensors[x].shape, weight[2], stride)
        fused: Fused = "none" if act == "hard_swish" else act
        constants = (self._constant(weight), self._constant((weight[0],), bias=True))
        y = self.node(Conv2d((stride, stride), pad, (1, 1), groups, fused), x, *constants)
        return self.node(Activation("hard_swish"), y) if act == "hard_swish" else y

    def _constant(self, shape: Shape, bias: bool = False) -> str:
        name = f"c{len(self.tensors)}"
        dtype: DType = "int32" if bias and self.dtype == "int8" else self.dtype
        data = np.broadcast_to(np.zeros((), dtype), shape)
        self.tensors[name] = Tensor(name, shape, dtype, data=data)
        return name


def _same(shape: Shape, kernel: int, stride: int) -> Pads:
    pads = [max(0, (-(-size // stride) - 1) * stride + kernel - size) for size in shape[2:]]
    if not any(pads):
        return NO_PAD
    top, left = pads[0] // 2, pads[1] // 2
    return (top, left, pads[0] - top, pads[1] - left)


@dataclass(frozen=True)
class Block:
    """One block of the nn-Meter look-up tables, by the columns of `blocks.csv.gz`."""

    op: str
    size: int
    cin: int
    cout: int
    kernel: int
    stride: int
    expand: int
    se: bool

    @property
    def family(self) -> str:
        """What cross-validation leaves out together."""
        if self.op == "mbconv":
            return f"mbconv k{self.kernel}{' se' if self.se else ''}"
        return self.op


def block_graph(block: Block) -> Graph:
    """Return the block as a graph. Raises MobilesegError for an unknown `op`."""
    build = BLOCKS.get(block.op)
    if build is None:
        raise unknown("blocks", "block", block.op, BLOCKS)
    sketch = Sketch()
    x = sketch.input(block.cin, block.size, block.size)
    return sketch.graph(build(sketch, x, block))


def _first_conv(s: Sketch, x: str, block: Block) -> str:
    return s.conv(x, block.cout, block.kernel, block.stride, "hard_swish")


def _bottleneck(s: Sketch, x: str, block: Block) -> str:
    """Expand, depthwise, squeeze, project; a shortcut always: pooled and projected if it must."""
    y = s.conv(x, block.cin * block.expand, 1, act="hard_swish") if block.expand > 1 else x
    y = s.depthwise(y, block.kernel, block.stride, "hard_swish")
    if block.se:
        y = s.squeeze(y, block.cin * block.expand // 4)
    y = s.conv(y, block.cout, 1)
    short = x
    if block.stride > 1:
        short = s.pool(short, "mean", 2, block.stride)
    if block.cin != block.cout:
        short = s.conv(short, block.cout, 1)
    return s.node(Add(), y, short)


def _head(s: Sketch, x: str, block: Block) -> str:
    y = s.conv(x, block.cin * block.expand, 1, act="hard_swish")
    y = s.conv(s.node(GlobalMean(), y), block.cout, 1, act="hard_swish")
    return s.conv(y, 1000, 1)


def _feed_forward(s: Sketch, x: str, block: Block) -> str:
    y = s.conv(x, block.cin * block.expand, 1, act="hard_swish")
    return s.node(Add(), s.conv(y, block.cout, 1), x)


def network_graph(name: str, width: float, size: int, dtype: DType) -> Graph:
    """Return a network of the published tables. Raises MobilesegError for an unknown name."""
    build = NETWORKS.get(name)
    if build is None:
        raise unknown("networks", "network", name, NETWORKS)
    if size < 32:
        raise MobilesegError(f"networks: {name} at {size} pixels is smaller than its stride, 32")
    sketch = Sketch(dtype)
    x = sketch.input(3, size, size)
    return sketch.graph(build(sketch, x, width))


def _divisible(value: float, minimum: int = 8) -> int:
    """Channels as TensorFlow's slim rounds them: to a multiple of 8, never 10 % below."""
    rounded = max(minimum, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def _classifier(s: Sketch, x: str) -> str:
    """Mean, 1001 classes, softmax."""
    return s.node(Softmax(), s.conv(s.node(GlobalMean(), x), 1001, 1))


def _mobilenet_v1(s: Sketch, x: str, width: float) -> str:
    """Source: Howard et al. 2017, table 1."""
    x = s.conv(x, max(8, int(32 * width)), 3, 2, "relu6")
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
    for out, stride in (*plan, (1024, 2), (1024, 1)):
        x = s.depthwise(x, 3, stride, "relu6")
        x = s.conv(x, max(8, int(out * width)), 1, act="relu6")
    return _classifier(s, x)


def _inverted(s: Sketch, x: str, out: int, hidden: int, kernel: int, stride: int, act: Act) -> str:
    y = s.conv(x, hidden, 1, act=act) if hidden != s.channels(x) else x
    y = s.conv(s.depthwise(y, kernel, stride, act), out, 1)
    return s.node(Add(), y, x) if stride == 1 and s.channels(x) == out else y


# expansion, channels, repeats, stride. Source: Sandler et al. 2018, table 2.
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# expansion, channels, repeats, stride, kernel. Source: Tan et al. 2019, figure 7 (B1 variant:
# without squeeze-and-excitation).
_MNAS = (
    (1, 16, 1, 1, 3),
    (3, 24, 3, 2, 3),
    (3, 40, 3, 2, 5),
    (6, 80, 3, 2, 5),
    (6, 96, 2, 1, 3),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


def _mobilenet_v2(s: Sketch, x: str, width: float) -> str:
    x = s.conv(x, _divisible(32 * width), 3, 2, "relu6")
    for expand, out, repeats, first in _V2:
        for i in range(repeats):
            hidden = s.channels(x) * expand
            stride = first if i == 0 else 1
            x = _inverted(s, x, _divisible(out * width), hidden, 3, stride, "relu6")
    return _classifier(s, s.conv(x, _divisible(1280 * max(1.0, width)), 1, act="relu6"))


def _mnasnet(s: Sketch, x: str, width: float) -> str:
    x = s.conv(x, _divisible(32 * width), 3, 2, "relu")
    for expand, out, repeats, first, kernel in _MNAS:
        for i in range(repeats):
            hidden = s.channels(x) * expand
            stride = first if i == 0 else 1
            x = _inverted(s, x, _divisible(out * width), hidden, kernel, stride, "relu")
    return _classifier(s, s.conv(x, 1280, 1, act="relu"))


# kernel, hidden, channels, squeeze, hard swish, stride. Source: Howard et al. 2019, tables 1, 2.
_V3_LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
_V3_SMALL = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
_V3Plan: TypeAlias = tuple[tuple[int, int, int, bool, bool, int], ...]


def _mobilenet_v3(plan: _V3Plan, last: int, minimal: bool = False) -> Builder:
    """Minimalistic: 3x3 only, ReLU only, no squeeze-and-excitation."""

    def build(s: Sketch, x: str, width: float) -> str:
        swish: Act = "relu" if minimal else "hard_swish"
        x = s.conv(x, _divisible(16 * width), 3, 2, swish)
        for kernel, hidden, out, squeeze, hard, stride in plan:
            block = Bneck(
                3 if minimal else kernel,
                _divisible(hidden * width),
                _divisible(out * width),
                squeeze and not minimal,
                swish if hard else "relu",
                stride,
            )
            x = _bneck(s, x, block)
        x = s.conv(x, _divisible(plan[-1][1] * width), 1, act=swish)
        x = s.conv(s.node(GlobalMean(), x), _divisible(last * max(1.0, width)), 1, act=swish)
        return s.node(Softmax(), s.conv(x, 1001, 1))

    return build


@dataclass(frozen=True)
class Bneck:
    """One row of MobileNetV3's tables."""

    kernel: int
    hidden: int
    out: int
    squeeze: bool
    act: Act
    stride: int


def _bneck(s: Sketch, x: str, b: Bneck) -> str:
    y = s.conv(x, b.hidden, 1, act=b.act) if b.hidden != s.channels(x) else x
    y = s.depthwise(y, b.kernel, b.stride, b.act)
    if b.squeeze:
        y = s.squeeze(y, _divisible(b.hidden / 4))
    y = s.conv(y, b.out, 1)
    return s.node(Add(), y, x) if b.stride == 1 and s.channels(x) == b.out else y


def _resnet50(s: Sketch, x: str, _width: float) -> str:
    """Source: He et al. 2015, table 1; the stride sits on the 3x3 convolution."""
    x = s.pool(s.conv(x, 64, 7, 2, "relu"), "max", 3, 2)
    for hidden, repeats, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(repeats):
            stride = first if i == 0 else 1
            y = s.conv(s.conv(x, hidden, 1, act="relu"), hidden, 3, stride, "relu")
            y = s.conv(y, 4 * hidden, 1)
            short = s.conv(x, 4 * hidden, 1, stride) if i == 0 else x
            x = s.node(Add("relu"), y, short)
    return _classifier(s, x)


def _squeezenet(s: Sketch, x: str, _width: float) -> str:
    """Source: Iandola et al. 2016, table 1 (version 1.0)."""
    x = s.pool(s.conv(x, 96, 7, 2, "relu"), "max", 3, 2)
    plan: Sequence[tuple[int, int, bool]] = (
        (16, 64, False),
        (16, 64, False),
        (32, 128, True),
        (32, 128, False),
        (48, 192, False),
        (48, 192, False),
        (64, 256, True),
        (64, 256, False),
    )
    for squeeze, expand, pool in plan:
        y = s.conv(x, squeeze, 1, act="relu")
        x = s.node(Concat(), s.conv(y, expand, 1, act="relu"), s.conv(y, expand, 3, act="relu"))
        x = s.pool(x, "max", 3, 2) if pool else x
    return s.node(Softmax(), s.node(GlobalMean(), s.conv(x, 1001, 1, act="relu")))


Builder: TypeAlias = Callable[[Sketch, str, float], str]

BLOCKS: dict[str, Callable[[Sketch, str, Block], str]] = {
    "firstconv": _first_conv,
    "mbconv": _bottleneck,
    "mbconv_ds": _bottleneck,
    "mbpool_head": _head,
    "transformer_ffn": _feed_forward,
}

NETWORKS: dict[str, Builder] = {
    "mobilenet_v1": _mobilenet_v1,
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3_large": _mobilenet_v3(_V3_LARGE, 1280),
    "mobilenet_v3_small": _mobilenet_v3(_V3_SMALL, 1024),
    "mobilenet_v3_large_minimal": _mobilenet_v3(_V3_LARGE, 1280, minimal=True),
    "mobilenet_v3_small_minimal": _mobilenet_v3(_V3_SMALL, 1024, minimal=True),
    "mnasnet_b1": _mnasnet,
    "resnet50": _resnet50,
    "squeezenet": _squeezenet,
}
