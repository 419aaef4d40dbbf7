"""Every operator at work once: the one table that drives the tests of all targets.

A case is an operator on operands of its own sizes. An operand is a 1x1 convolution of the image
(its mean over height and width where `pooled`), so that every case is a whole network: it takes
pixels, runs in every runtime, and int8 meets a scale that is not the image's. In each case all
dimensions differ, so that a wrong axis cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node, assemble
from mobileseg.graph.ir import Tensor as Value

Array = NDArray[Any]
# Height and width; both even, so that stride 2 meets an even size unless a case says otherwise.
EVEN, ODD = (10, 14), (9, 13)


@dataclass(frozen=True)
class Operand:
    """`channels` made of the image; `pooled` to one pixel."""

    channels: int
    pooled: bool = False
    activation: ops.Fused = "none"


@dataclass(frozen=True)
class Case:
    """`reference` is the operator in torch's own words; `macs` are its own, counted by hand."""

    name: str
    op: ops.Op
    operands: tuple[Operand, ...]
    constants: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]
    reference: Callable[..., Tensor]
    macs: int = 0
    image: tuple[int, int] = EVEN

    def graph(self) -> Graph:
        """Return the float graph: operands, then the operator under test, named `out`."""
        random = np.random.default_rng(7)
        height, width = self.image
        image = Value("image", (1, 3, height, width))
        known: dict[str, Value] = {}
        nodes: list[Node] = []

        def constant(name: str, shape: tuple[int, ...]) -> str:
            data = random.normal(size=shape).astype(np.float32)
            known[name] = Value(name, shape, data=data)
            return name

        names = []
        for number, operand in enumerate(self.operands):
            name, c = f"x{number}", operand.channels
            weights = (constant(f"{name}.weight", (c, 3, 1, 1)), constant(f"{name}.bias", (c,)))
            nodes.append(
                Node(ops.Conv2d(activation=operand.activation), ("image", *weights), name, name)
            )
            if operand.pooled:
                nodes.append(Node(ops.GlobalMean(), (name,), f"{name}.mean", name))
                name = f"{name}.mean"
            names.append(name)
        for number, shape in enumerate(self.constants):
            names.append(constant(f"c{number}", shape))
        nodes.append(Node(self.op, tuple(names), "out", self.name))
        return assemble([image], nodes, ("out",), known)

    def images(self) -> Array:
        """Return uint8 pictures `(N, height, width, 3)`."""
        random = np.random.default_rng(8)
        return random.integers(0, 256, (4, *self.image, 3), dtype=np.uint8)


def conv(op: ops.Conv2d) -> Callable[..., Tensor]:
    """Return the convolution in torch's words."""
    top, left, bottom, right = op.pad

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = F.pad(x, (left, right, top, bottom))
        out = F.conv2d(x, weight, bias, op.stride, 0, op.dilation, op.groups)
        return {"none": lambda y: y, "relu": torch.relu, "relu6": F.relu6}[op.activation](out)

    return run


def _conv_case(
    name: str,
    op: ops.Conv2d,
    weight: tuple[int, int, int, int],
    size: tuple[int, int],
    macs: int,
    image: tuple[int, int] = EVEN,
    bias: bool = True,
) -> Case:
    out, per_group = weight[:2]
    constants: tuple[tuple[int, ...], ...] = (weight, (out,)) if bias else (weight,)
    operand = Operand(per_group * op.groups)
    shape = (1, out, *size)
    return Case(name, op, (operand,), constants, shape, conv(op), macs, image)


def _deconv_case(
    name: str,
    op: ops.ConvTranspose2d,
    kernel: int,
    size: tuple[int, int],
    pad: int,
    bias: bool = True,
) -> Case:
    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        out = F.conv_transpose2d(x, weight, bias, op.stride, pad, op.extra)
        return {"none": lambda y: y, "relu": torch.relu, "relu6": F.relu6}[op.activation](out)

    weight = (5, 6, kernel, kernel)
    constants: tuple[tuple[int, ...], ...] = (weight, (6,)) if bias else (weight,)
    macs = 10 * 14 * 5 * 6 * kernel * kernel
    return Case(name, op, (Operand(5),), constants, (1, 6, *size), run, macs)


_ALL_ONE = (1, 1, 1, 1)
_X, _Y, _GATE = Operand(5), Operand(5), Operand(5, pooled=True)

_CONVS = (
    _conv_case("dense", ops.Conv2d(pad=(1, 0, 1, 1)), (6, 5, 3, 2), (10, 14), 10 * 14 * 6 * 5 * 6),
    _conv_case("pointwise", ops.Conv2d(), (6, 5, 1, 1), (10, 14), 10 * 14 * 6 * 5),
    _conv_case("no_bias", ops.Conv2d(), (6, 5, 1, 1), (10, 14), 10 * 14 * 6 * 5, bias=False),
    _conv_case("relu", ops.Conv2d(activation="relu"), (6, 5, 1, 1), (10, 14), 10 * 14 * 6 * 5),
    _conv_case("relu6", ops.Conv2d(activation="relu6"), (6, 5, 3, 2), (8, 13), 8 * 13 * 6 * 5 * 6),
    _conv_case(
        "stride_2_same_even",
        ops.Conv2d((2, 2), (0, 0, 1, 1)),
        (6, 4, 3, 3),
        (5, 7),
        5 * 7 * 6 * 4 * 9,
    ),
    _conv_case(
        "stride_2_symmetric_even",
        ops.Conv2d((2, 2), _ALL_ONE, activation="relu"),
        (6, 4, 3, 3),
        (5, 7),
        5 * 7 * 6 * 4 * 9,
    ),
    _conv_case(
        "stride_2_same_odd",
        ops.Conv2d((2, 2), _ALL_ONE),
        (6, 4, 3, 3),
        (5, 7),
        5 * 7 * 6 * 4 * 9,
        ODD,
    ),
    _conv_case(
        "stride_2x1_dilated",
        ops.Conv2d((1, 1), (2, 3, 2, 3), (2, 3)),
        (6, 4, 3, 3),
        (10, 14),
        10 * 14 * 6 * 4 * 9,
    ),
    _conv_case("stride_2x1", ops.Conv2d((2, 1)), (6, 4, 3, 5), (4, 10), 4 * 10 * 6 * 4 * 15),
    _conv_case(
        "depthwise",
        ops.Conv2d(pad=_ALL_ONE, groups=6, activation="relu6"),
        (6, 1, 3, 3),
        (10, 14),
        10 * 14 * 6 * 9,
    ),
    _conv_case(
        "depthwise_3x2", ops.Conv2d(groups=6), (6, 1, 3, 2), (8, 13), 8 * 13 * 6 * 6, bias=False
    ),
    _conv_case(
        "depthwise_stride_2",
        ops.Conv2d((2, 2), (0, 0, 1, 1), groups=6),
        (6, 1, 3, 3),
        (5, 7),
        5 * 7 * 6 * 9,
    ),
    _conv_case(
        "depthwise_doubled",
        ops.Conv2d(pad=_ALL_ONE, groups=4),
        (8, 1, 3, 3),
        (10, 14),
        10 * 14 * 8 * 9,
    ),
    _conv_case(
        "depthwise_dilated",
        ops.Conv2d(pad=(2, 2, 2, 2), dilation=(2, 2), groups=6),
        (6, 1, 3, 3),
        (10, 14),
        10 * 14 * 6 * 9,
    ),
    _conv_case(
        "grouped",
        ops.Conv2d(pad=_ALL_ONE, groups=3, activation="relu"),
        (6, 4, 3, 3),
        (10, 14),
        10 * 14 * 6 * 4 * 9,
    ),
)

_DECONVS = (
    _deconv_case("deconv_4_2_1", ops.ConvTranspose2d((2, 2), _ALL_ONE), 4, (20, 28), 1),
    _deconv_case(
        "deconv_no_bias", ops.ConvTranspose2d((2, 2), _ALL_ONE), 4, (20, 28), 1, bias=False
    ),
    _deconv_case(
        "deconv_relu", ops.ConvTranspose2d((2, 2), _ALL_ONE, activation="relu"), 4, (20, 28), 1
    ),
    _deconv_case(
        "deconv_relu6", ops.ConvTranspose2d((2, 2), _ALL_ONE, activation="relu6"), 4, (20, 28), 1
    ),
    _deconv_case("deconv_3_2_1_1", ops.ConvTranspose2d((2, 2), _ALL_ONE, (1, 1)), 3, (20, 28), 1),
    _deconv_case("deconv_3_2_1", ops.ConvTranspose2d((2, 2), _ALL_ONE), 3, (19, 27), 1),
    _deconv_case("deconv_2_2_0", ops.ConvTranspose2d((2, 2)), 2, (20, 28), 0),
    _deconv_case("deconv_3_1_1", ops.ConvTranspose2d((1, 1), _ALL_ONE), 3, (10, 14), 1),
)

_BINARY = (
    Case("add", ops.Add(), (_X, _Y), (), (1, 5, 10, 14), torch.add),
    Case(
        "add_relu",
        ops.Add("relu"),
        (_X, _Y),
        (),
        (1, 5, 10, 14),
        lambda a, b: torch.relu(a + b),
    ),
    Case("add_relu6", ops.Add("relu6"), (_X, _Y), (), (1, 5, 10, 14), lambda a, b: F.relu6(a + b)),
    Case("add_pooled", ops.Add(), (_X, _GATE), (), (1, 5, 10, 14), torch.add),
    Case("add_constant", ops.Add(), (_X,), ((1, 5, 1, 1),), (1, 5, 10, 14), torch.add),
    Case(
        "add_one_number",
        ops.Add("relu6"),
        (_X,),
        (_ALL_ONE,),
        (1, 5, 10, 14),
        lambda a, b: F.relu6(a + b),
    ),
    Case("mul", ops.Mul(), (_X, _Y), (), (1, 5, 10, 14), torch.mul),
    Case("mul_relu", ops.Mul("relu"), (_X, _Y), (), (1, 5, 10, 14), lambda a, b: torch.relu(a * b)),
    Case("mul_pooled", ops.Mul(), (_X, _GATE), (), (1, 5, 10, 14), torch.mul),
    Case("mul_constant", ops.Mul(), (_X,), ((1, 5, 1, 1),), (1, 5, 10, 14), torch.mul),
    Case("mul_picture", ops.Mul(), (_X,), ((1, 5, 10, 14),), (1, 5, 10, 14), torch.mul),
)


def _join(*parts: Tensor) -> Tensor:
    return torch.cat(parts, dim=1)


_JOINS = tuple(
    Case(
        f"concat_{count}",
        ops.Concat(),
        tuple(Operand(channels) for channels in range(3, 3 + count)),
        (),
        (1, sum(range(3, 3 + count)), 10, 14),
        _join,
    )
    for count in (2, 3, 4, 5, 6)
)


def _depth_to_space(x: Tensor) -> Tensor:
    """TFLite's order is pixel_shuffle's with the channel groups outside."""
    n, c, h, w = x.shape
    grouped = x.reshape(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)
    return F.pixel_shuffle(grouped, 2)


def _resize(size: tuple[int, int], **words: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: F.interpolate(x, size, **words)


def _resize_case(name: str, op: ops.Resize, **words: Any) -> Case:
    shape = (1, 5, *op.size)
    return Case(name, op, (_X,), (), shape, _resize(op.size, **words))


def _pool_case(
    name: str, op: ops.Pool, size: tuple[int, int], run: Callable[[Tensor], Tensor]
) -> Case:
    return Case(name, op, (_X,), (), (1, 5, *size), run)


_LAYOUT = (
    Case("pad", ops.Pad((1, 2, 3, 4)), (_X,), (), (1, 5, 14, 20), lambda x: F.pad(x, (2, 4, 1, 3))),
    Case("crop", ops.Crop((1, 2), (7, 9)), (_X,), (), (1, 5, 7, 9), lambda x: x[:, :, 1:8, 2:11]),
    Case(
        "depth_to_space", ops.DepthToSpace(2), (Operand(12),), (), (1, 3, 20, 28), _depth_to_space
    ),
    _pool_case(
        "max_pool",
        ops.Pool("max", (2, 3), (2, 3)),
        (5, 4),
        lambda x: F.max_pool2d(x, (2, 3), (2, 3)),
    ),
    _pool_case(
        "max_pool_same",
        ops.Pool("max", (3, 3), (1, 1), _ALL_ONE),
        (10, 14),
        lambda x: F.max_pool2d(x, 3, 1, 1),
    ),
    Case(
        "max_pool_symmetric",
        ops.Pool("max", (3, 3), (2, 2), _ALL_ONE),
        (Operand(5, activation="relu"),),
        (),
        (1, 5, 5, 7),
        lambda x: F.max_pool2d(x, 3, 2, 1),
    ),
    _pool_case(
        "mean_pool",
        ops.Pool("mean", (2, 3), (2, 3)),
        (5, 4),
        lambda x: F.avg_pool2d(x, (2, 3), (2, 3)),
    ),
    _pool_case(
        "mean_pool_same",
        ops.Pool("mean", (3, 3), (1, 1), _ALL_ONE),
        (10, 14),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    Case(
        "global_mean",
        ops.GlobalMean(),
        (_X,),
        (),
        (1, 5, 1, 1),
        lambda x: F.adaptive_avg_pool2d(x, 1),
    ),
    _resize_case("resize_up", ops.Resize((20, 28)), mode="bilinear"),
    _resize_case("resize_up_uneven", ops.Resize((17, 33)), mode="bilinear"),
    _resize_case("resize_down", ops.Resize((4, 6)), mode="bilinear"),
    _resize_case(
        "resize_corners",
        ops.Resize((19, 25), "bilinear", True),
        mode="bilinear",
        align_corners=True,
    ),
    _resize_case("resize_nearest", ops.Resize((20, 42), "nearest"), mode="nearest"),
    _resize_case("resize_nearest_uneven", ops.Resize((17, 33), "nearest"), mode="nearest"),
)

_POINTWISE = (
    Case("softmax", ops.Softmax(), (_X,), (), (1, 5, 10, 14), lambda x: F.softmax(x, 1)),
    Case("argmax", ops.ArgMax(), (_X,), (), (1, 10, 14), lambda x: x.argmax(1).int()),
    Case(
        "leaky_relu",
        ops.LeakyRelu(0.25),
        (_X,),
        (),
        (1, 5, 10, 14),
        lambda x: F.leaky_relu(x, 0.25),
    ),
    Case(
        "prelu",
        ops.PRelu(),
        (_X,),
        ((1, 5, 1, 1),),
        (1, 5, 10, 14),
        lambda x, slope: torch.where(x > 0, x, x * slope),
    ),
    Case("neg", ops.Neg(), (_X,), (), (1, 5, 10, 14), torch.neg),
    *(
        Case(name, ops.Activation(name), (_X,), (), (1, 5, 10, 14), run)  # type: ignore[arg-type]
        for name, run in (
            ("relu", F.relu),
            ("relu6", F.relu6),
            ("sigmoid", torch.sigmoid),
            ("hard_sigmoid", F.hardsigmoid),
            ("hard_swish", F.hardswish),
        )
    ),
)

CASES: tuple[Case, ...] = (*_CONVS, *_DECONVS, *_BINARY, *_JOINS, *_LAYOUT, *_POINTWISE)
