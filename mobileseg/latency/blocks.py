"""Blocks that segmenters are made of, in families, for calibrating a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from mobileseg.graph.ops import (
    Activation,
    Add,
    ArgMax,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Crop,
    DepthToSpace,
    Fused,
    GlobalMean,
    Mul,
    Pad,
    Resize,
    Softmax,
)
from mobileseg.latency.expand import Sketch

# How the edges of an int8 file are made: no operator, QUANTIZE, or QUANTIZE and DEQUANTIZE.
Ends: TypeAlias = Literal["int8", "uint8", "float32"]
MODES: tuple[Ends, ...] = ("uint8", "int8", "float32")


class Layers(Sketch):
    """A sketch with the convolutions that no published table holds."""

    def spread(
        self, x: str, out: int, kernel: int, rate: int, groups: int = 1, act: Fused = "relu"
    ) -> str:
        """A dilated or grouped convolution that keeps the map."""
        reach = (kernel - 1) * rate // 2
        weight = self._constant((out, self.channels(x) // groups, kernel, kernel))
        bias = self._constant((out,), bias=True)
        op = Conv2d((1, 1), (reach,) * 4, (rate, rate), groups, act)
        return self.node(op, x, weight, bias)

    def up(self, x: str, out: int, kernel: int = 4) -> str:
        """A transposed convolution that doubles the map."""
        weight = self._constant((self.channels(x), out, kernel, kernel))
        bias = self._constant((out,), bias=True)
        cut = (kernel - 2) // 2
        return self.node(ConvTranspose2d((2, 2), (cut,) * 4), x, weight, bias)

    def up_by_conv(self, x: str, out: int) -> str:
        """The same as a convolution and depth to space (see `passes.deconv_to_conv`)."""
        height, width = (2 * n for n in self.tensors[x].shape[2:])
        padded = self.node(Pad((1, 1, 1, 1)), x)
        weight = self._constant((4 * out, self.channels(x), 2, 2))
        phases = self.node(Conv2d(), padded, weight, self._constant((4 * out,), bias=True))
        mixed = self.node(DepthToSpace(2), phases)
        return self.node(Crop((1, 1), (height, width)), mixed)

    def resize(self, x: str, size: int) -> str:
        """Bilinear, to a square map."""
        return self.node(Resize((size, size)), x)

    def size(self, x: str) -> int:
        """Height of a tensor."""
        return self.tensors[x].shape[2]


Sizes: TypeAlias = tuple[int, ...]
Maker: TypeAlias = Callable[[Layers, Sizes], str]


def _separable(s: Layers, sizes: Sizes) -> str:
    """Three depthwise and pointwise pairs of MobileNetV1; the first halves the map."""
    size, into, out = sizes
    x = s.input(into, size, size)
    for i in range(3):
        x = s.conv(s.depthwise(x, 3, 2 if i == 0 else 1, "relu"), out, 1, act="relu")
    return x


def _stem(s: Layers, sizes: Sizes) -> str:
    """The first layers of MobileNetV1, on an image."""
    size, width = sizes
    x = s.conv(s.input(3, size, size), width, 3, 2, "relu")
    x = s.conv(s.depthwise(x, 3, 1, "relu"), 2 * width, 1, act="relu")
    return s.conv(s.depthwise(x, 3, 2, "relu"), 4 * width, 1, act="relu")


def _inverted(s: Layers, sizes: Sizes) -> str:
    """Two inverted bottlenecks of MobileNetV2 with their sum."""
    size, channels, expand, kernel = sizes
    x = s.input(channels, size, size)
    for _ in range(2):
        y = s.depthwise(s.conv(x, channels * expand, 1, act="relu6"), kernel, 1, "relu6")
        x = s.node(Add(), s.conv(y, channels, 1), x)
    return x


def _squeeze(s: Layers, sizes: Sizes) -> str:
    """Bottleneck of MobileNetV3: hard swish, squeeze and excitation."""
    size, channels, expand = sizes
    x = s.input(channels, size, size)
    y = s.conv(x, channels * expand, 1, act="hard_swish")
    y = s.squeeze(s.depthwise(y, 5, 1, "hard_swish"), max(8, channels * expand // 4))
    return s.node(Add(), s.conv(y, channels, 1), x)


def _residual(s: Layers, sizes: Sizes) -> str:
    """Two 3x3 convolutions and a sum (ResNet, HRNet)."""
    size, channels = sizes
    x = s.input(channels, size, size)
    for _ in range(2):
        y = s.conv(s.conv(x, channels, 3, act="relu"), channels, 3)
        x = s.node(Add("relu"), y, x)
    return x


def _decoder(s: Layers, sizes: Sizes) -> str:
    """Transposed convolutions up to two classes."""
    size, into, first = sizes
    x = s.input(into, size, size)
    for out in (first, max(8, first // 2), 2):
        x = s.up(x, out)
    return x


def _decoder_by_conv(s: Layers, sizes: Sizes) -> str:
    """The same decoder as convolutions and depth to space."""
    size, into, first = sizes
    x = s.input(into, size, size)
    for out in (first, max(8, first // 2), 2):
        x = s.up_by_conv(x, out)
    return x


def _skips(s: Layers, sizes: Sizes) -> str:
    """An encoder and a decoder with concatenated skips (U-Net of separable convolutions)."""
    size, width = sizes
    x = s.conv(s.input(3, size, size), width, 3, 2, "relu")
    kept = []
    for i in range(3):
        kept.append(x)
        x = s.conv(s.depthwise(x, 3, 2, "relu"), width * 2 ** (i + 1), 1, act="relu")
    for skip in reversed(kept):
        x = s.node(Concat(), s.resize(x, s.size(skip)), skip)
        x = s.conv(s.depthwise(x, 3, 1, "relu"), s.channels(skip), 1, act="relu")
    return s.conv(x, 2, 1)


def _pyramid(s: Layers, sizes: Sizes) -> str:
    """Dilated branches and a pooled one, side by side (DeepLab's ASPP)."""
    size, into, out = sizes
    x = s.input(into, size, size)
    branches = [s.conv(x, out, 1, act="relu")]
    branches += [s.spread(x, out, 3, rate) for rate in (2, 4)]
    pooled = s.conv(s.node(GlobalMean(), x), out, 1, act="relu")
    branches.append(s.resize(pooled, size))
    return s.conv(s.node(Concat(), *branches), out, 1, act="relu")


def _attention(s: Layers, sizes: Sizes) -> str:
    """A gate per channel from the pooled map (LR-ASPP, BiSeNet)."""
    size, into, out = sizes
    x = s.input(into, size, size)
    y = s.conv(x, out, 1, act="relu")
    gate = s.node(Activation("sigmoid"), s.conv(s.node(GlobalMean(), x), out, 1))
    y = s.resize(s.node(Mul(), y, gate), 2 * size)
    return s.conv(y, 8, 1)


def _head(s: Layers, sizes: Sizes) -> str:
    """Classes, enlarged to the picture's size; then softmax or the largest."""
    size, into, classes, times = sizes
    x = s.conv(s.depthwise(s.input(into, size, size), 3, 1, "relu"), classes, 1)
    x = s.resize(x, size * times)
    return s.node(Softmax() if classes < 4 else ArgMax(), x)


def _pooled(s: Layers, sizes: Sizes) -> str:
    """3x3 convolutions with maximum pooling and nearest enlarging (SegNet)."""
    size, width = sizes
    x = s.input(3, size, size)
    for i in range(2):
        x = s.pool(s.conv(x, width * (i + 1), 3, act="relu"), "max", 2, 2)
    x = s.node(Resize((size, size), "nearest"), s.conv(x, width, 3, act="relu"))
    return s.conv(x, 2, 3)


FAMILIES: dict[str, tuple[Sequence[Sizes], Maker]] = {
    "separable": (
        (
            (80, 16, 32),
            (56, 24, 56),
            (40, 64, 128),
            (28, 128, 256),
            (20, 128, 256),
            (14, 256, 512),
            (10, 256, 512),
            (5, 512, 512),
            (5, 512, 1024),
        ),
        _separable,
    ),
    "stem": (((80, 16), (160, 32), (160, 8), (224, 16), (256, 32), (320, 16)), _stem),
    "inverted": (
        (
            (56, 16, 6, 3),
            (40, 24, 6, 3),
            (28, 32, 6, 5),
            (14, 64, 6, 3),
            (10, 96, 6, 3),
            (7, 160, 6, 5),
        ),
        _inverted,
    ),
    "squeeze": (((40, 24, 4), (28, 40, 3), (14, 80, 6), (14, 112, 6), (7, 160, 6)), _squeeze),
    "residual": (
        ((80, 16), (56, 32), (40, 64), (28, 64), (14, 128), (10, 256), (7, 384)),
        _residual,
    ),
    "decoder": (
        ((5, 512, 64), (5, 1024, 32), (10, 256, 32), (10, 512, 128), (20, 128, 32), (28, 64, 16)),
        _decoder,
    ),
    "decoder_by_conv": (
        ((5, 512, 64), (5, 1024, 32), (10, 256, 32), (10, 512, 128), (20, 128, 32), (28, 64, 16)),
        _decoder_by_conv,
    ),
    "skips": (((96, 8), (128, 16), (160, 16), (192, 8), (224, 24)), _skips),
    "pyramid": (((32, 96, 64), (16, 320, 128), (20, 160, 96), (33, 64, 32)), _pyramid),
    "attention": (((32, 96, 64), (16, 320, 128), (20, 160, 96), (40, 48, 32)), _attention),
    "head": (((20, 128, 2, 8), (32, 64, 21, 8), (56, 32, 19, 4), (80, 16, 2, 2)), _head),
    "pooled": (((80, 16), (96, 24), (128, 16), (160, 8)), _pooled),
}
