"""The torch module that a spec describes. Layer paths are `block.layer`, as reports name them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import gcd
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks import (
    IMAGE,
    Act,
    Activate,
    Bins,
    Block,
    Conv,
    Deconv,
    Depthwise,
    Gate,
    Join,
    Pool,
    Product,
    Separable,
    Size,
    Sum,
    Unpool,
    Upsample,
    same_pads,
)
from mobileseg.nets.spec import NetSpec

B = TypeVar("B", bound=Block)


class Net(nn.Module):
    """A spec at work: float images `(N, 3, H, W)`, (pixel - 128) / 128, to logits `(N, C, h, w)`.

    h and w are the last block's; a network of ours ends at the image's own size. Auxiliary heads
    are computed in train mode only, for whoever watches them.
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.live = spec.live()
        self.unread = unread([(b.inputs, (b.name,)) for b in spec.blocks], {spec.blocks[-1].name})
        sizes = spec.shapes()
        for block in spec.concrete():
            if hasattr(self, block.name):
                raise MobilesegError(
                    f"{spec.name}: block name {block.name!r}; a torch module has that name for "
                    "something else: take another"
                )
            inputs = [sizes[name] for name in block.inputs]
            self.add_module(block.name, BUILDERS[type(block)](block, inputs))
        if spec.norm == "group":
            _group_norms(self)

    def forward(self, image: Tensor) -> Tensor:
        values = {IMAGE: image}
        for block, unread in zip(self.spec.blocks, self.unread, strict=True):
            if self.training or block.name in self.live:
                layer = self.get_submodule(block.name)
                values[block.name] = layer(*(values[name] for name in block.inputs))
            for name in unread:
                values.pop(name, None)
        return values[self.spec.blocks[-1].name]


def unread(
    steps: Sequence[tuple[Sequence[str], Sequence[str]]], wanted: Collection[str]
) -> tuple[frozenset[str], ...]:
    """Return for every step, what it reads and what it gives, the names that no later one reads.

    Who drops their values then holds no more memory than the steps themselves want. What is
    `wanted` in the end is never among them.
    """
    later, found = set(wanted), []
    for reads, gives in reversed(steps):
        names = {*reads, *gives}
        found.append(frozenset(names - later))
        later |= names
    return tuple(reversed(found))


def build(spec: NetSpec, seed: int = 0, device: str = "cpu") -> Net:
    """Return a freshly initialised module; on the "meta" device it holds no weights at all."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        net = Net(spec)
        for layer in net.modules() if device != "meta" else ():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                _initialise(layer)
    return net.eval()


def _group_norms(net: nn.Module) -> None:
    """Put a group norm in the place of every batch norm; its scale and shift have their names.

    As many groups as divide the channels, 32 at most. eps is TensorFlow's: for a silent group int8
    would else spend its steps on a factor of 300. Source: Wu and He, Group Normalization, 2018.
    """
    for parent in list(net.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2d):
                channels = layer.num_features
                setattr(parent, name, nn.GroupNorm(gcd(channels, 32), channels, eps=1e-3))


def _initialise(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    # He initialisation over the inputs that one output really sums: a transposed convolution
    # meets kernel / stride taps per axis, not all of them.
    weight = layer.weight
    taps = layer.kernel_size[0] * layer.kernel_size[1] / layer.groups
    if isinstance(layer, nn.ConvTranspose2d):
        taps /= layer.stride[0] * layer.stride[1]
    nn.init.normal_(weight, std=(2 / (layer.in_channels * taps)) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _activation(name: Act) -> nn.Module:
    kinds: dict[Act, type[nn.Module]] = {
        "none": nn.Identity,
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "hard_swish": nn.Hardswish,
        "hard_sigmoid": nn.Hardsigmoid,
        "sigmoid": nn.Sigmoid,
    }
    return kinds[name]()


def _same_conv(
    into: int, out: int, size: Sequence[int], block: Conv | Depthwise | Separable, groups: int = 1
) -> tuple[nn.Conv2d, tuple[int, int, int, int]]:
    """Return a convolution for inputs of one size, and what F.pad adds before it for SAME.

    What torch's symmetric padding can say stays in the convolution.
    """
    top, bottom = same_pads(size[0], block.kernel, block.stride, block.dilation)
    left, right = same_pads(size[1], block.kernel, block.stride, block.dilation)
    even = (top, left) == (bottom, right)
    conv = nn.Conv2d(
        into,
        out,
        block.kernel,
        block.stride,
        padding=(top, left) if even else 0,
        dilation=block.dilation,
        groups=groups,
        bias=isinstance(block, Conv) and not block.norm,
    )
    return conv, (0, 0, 0, 0) if even else (left, right, top, bottom)


def _pad(x: Tensor, outside: tuple[int, int, int, int]) -> Tensor:
    return F.pad(x, outside) if any(outside) else x


class ConvLayer(nn.Module):
    """See `blocks.Conv`."""

    def __init__(self, block: Conv, inputs: Sequence[Size]) -> None:
        super().__init__()
        into, *size = inputs[0]
        out = block.shape(inputs)[0]
        self.conv, self.outside = _same_conv(into, out, size, block)
        self.norm = nn.BatchNorm2d(out) if block.norm else nn.Identity()
        self.act = _activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(_pad(x, self.outside))))
        return out


class DepthwiseLayer(nn.Module):
    """See `blocks.Depthwise`."""

    def __init__(self, block: Depthwise, inputs: Sequence[Size]) -> None:
        super().__init__()
        into, *size = inputs[0]
        self.conv, self.outside = _same_conv(into, into, size, block, groups=into)
        self.norm = nn.BatchNorm2d(into)
        self.act = _activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(_pad(x, self.outside))))
        return out


class SeparableLayer(nn.Module):
    """See `blocks.Separable`."""

    def __init__(self, block: Separable, inputs: Sequence[Size]) -> None:
        super().__init__()
        into, *size = inputs[0]
        hidden = block.hidden(into)
        self.dw, self.outside = _same_conv(into, hidden, size, block, groups=hidden)
        self.dw_norm = nn.BatchNorm2d(hidden)
        self.dw_act = _activation(block.activation)
        self.pw = nn.Conv2d(hidden, block.channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(block.out_channels)
        self.act = _activation(block.activation)
        self.crelu = block.crelu

    def forward(self, x: Tensor) -> Tensor:
        x = self.pw(self.dw_act(self.dw_norm(self.dw(_pad(x, self.outside)))))
        if self.crelu:
            x = torch.cat([x, -x], dim=1)
        out: Tensor = self.act(self.norm(x))
        return out


class DeconvLayer(nn.Module):
    """See `blocks.Deconv`."""

    def __init__(self, block: Deconv, inputs: Sequence[Size]) -> None:
        super().__init__()
        out = block.shape(inputs)[0]
        pad = (block.kernel - block.stride) // 2
        self.deconv = nn.ConvTranspose2d(
            inputs[0][0], out, block.kernel, block.stride, pad, bias=not block.norm
        )
        self.norm = nn.BatchNorm2d(out) if block.norm else nn.Identity()
        self.act = _activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.deconv(x)))
        return out


class GateLayer(nn.Module):
    """See `blocks.Gate`."""

    def __init__(self, block: Gate, inputs: Sequence[Size]) -> None:
        super().__init__()
        into = inputs[0][0]
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(into, block.channels, 1)
        self.relu = nn.ReLU()
        self.excite = nn.Conv2d(block.channels, into, 1)
        self.act = _activation(block.activation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.act(self.excite(self.relu(self.squeeze(self.mean(x)))))
        return out


class SumLayer(nn.Module):
    """See `blocks.Sum`."""

    def __init__(self, block: Sum) -> None:
        super().__init__()
        self.act = _activation(block.activation)

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = first + other
        out: Tensor = self.act(first)
        return out


class ProductLayer(nn.Module):
    """See `blocks.Product`."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class JoinLayer(nn.Module):
    """See `blocks.Join`."""

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)


class UnpoolLayer(nn.Module):
    """See `blocks.Unpool`."""

    def __init__(self, block: Unpool) -> None:
        super().__init__()
        self.sharpness = block.sharpness

    def forward(self, x: Tensor, source: Tensor, pooled: Tensor) -> Tensor:
        below = source - F.interpolate(pooled, scale_factor=2, mode="nearest")
        return F.interpolate(x, scale_factor=2, mode="nearest") * F.relu(below * self.sharpness + 1)


class UpsampleLayer(nn.Module):
    """See `blocks.Upsample`."""

    def __init__(self, block: Upsample, inputs: Sequence[Size]) -> None:
        super().__init__()
        self.size = block.shape(inputs)[1:]

    def forward(self, x: Tensor, *_: Tensor) -> Tensor:
        return F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


def _pool(block: Pool, inputs: Sequence[Size]) -> nn.Module:
    pads = [same_pads(n, block.kernel, block.stride) for n in inputs[0][1:]]
    before = (pads[0][0], pads[1][0])
    # torch pads both sides alike; a last window over the edge is what SAME's odd row is.
    if block.function == "max":
        return nn.MaxPool2d(block.kernel, block.stride, before, ceil_mode=True)
    return nn.AvgPool2d(block.kernel, block.stride, before, ceil_mode=True, count_include_pad=False)


def _bins(block: Bins, inputs: Sequence[Size]) -> nn.Module:
    if block.bins == 1:
        return nn.AdaptiveAvgPool2d(1)
    kernel, stride = block.windows(inputs[0])
    return nn.AvgPool2d(kernel, stride)


def _takes(
    kind: type[B], make: Callable[[B, Sequence[Size]], nn.Module]
) -> Callable[[Block, Sequence[Size]], nn.Module]:
    def build_one(block: Block, inputs: Sequence[Size]) -> nn.Module:
        assert isinstance(block, kind)
        return make(block, inputs)

    return build_one


BUILDERS: dict[type[Block], Callable[[Block, Sequence[Size]], nn.Module]] = {
    Conv: _takes(Conv, ConvLayer),
    Separable: _takes(Separable, SeparableLayer),
    Deconv: _takes(Deconv, DeconvLayer),
    Depthwise: _takes(Depthwise, DepthwiseLayer),
    Gate: _takes(Gate, GateLayer),
    Sum: _takes(Sum, lambda block, _: SumLayer(block)),
    Product: lambda *_: ProductLayer(),
    Join: lambda *_: JoinLayer(),
    Activate: _takes(Activate, lambda block, _: _activation(block.activation)),
    Pool: _takes(Pool, _pool),
    Unpool: _takes(Unpool, lambda block, _: UnpoolLayer(block)),
    Bins: _takes(Bins, _bins),
    Upsample: _takes(Upsample, UpsampleLayer),
}
