"""The torch module that a spec describes. Layer paths are `block.layer`, as reports name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileseg.nets.blocks import (
    IMAGE,
    Act,
    Block,
    Conv,
    Deconv,
    Join,
    Separable,
    Size,
    Sum,
    Upsample,
    same_pads,
)
from mobileseg.nets.spec import NetSpec

B = TypeVar("B", bound=Block)


class Net(nn.Module):
    """A spec at work: float images `(N, 3, H, W)`, (pixel - 128) / 128, to logits `(N, C, h, w)`.

    h and w are the last block's; a network of ours ends at the image's own size.
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        sizes = spec.shapes()
        for block in spec.concrete():
            inputs = [sizes[name] for name in block.inputs]
            self.add_module(block.name, BUILDERS[type(block)](block, inputs))

    def forward(self, image: Tensor) -> Tensor:
        values = {IMAGE: image}
        for block in self.spec.blocks:
            layer = self.get_submodule(block.name)
            values[block.name] = layer(*(values[name] for name in block.inputs))
        return values[self.spec.blocks[-1].name]


def build(spec: NetSpec, seed: int = 0, device: str = "cpu") -> Net:
    """Return a freshly initialised module; on the "meta" device it holds no weights at all."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(seed)
        net = Net(spec)
        for layer in net.modules() if device != "meta" else ():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                _initialise(layer)
    return net.eval()


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
    }
    return kinds[name]()


def _same_conv(
    into: int, out: int, size: Sequence[int], block: Conv | Separable, groups: int = 1
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


class SumLayer(nn.Module):
    """See `blocks.Sum`."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class JoinLayer(nn.Module):
    """See `blocks.Join`."""

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, dim=1)


class UpsampleLayer(nn.Module):
    """See `blocks.Upsample`."""

    def __init__(self, block: Upsample) -> None:
        super().__init__()
        self.size = block.size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


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
    Sum: lambda *_: SumLayer(),
    Join: lambda *_: JoinLayer(),
    Upsample: _takes(Upsample, lambda block, _: UpsampleLayer(block)),
}
