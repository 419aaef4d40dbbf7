"""Blocks without weights: sums, joins, pools, resizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Annotated, ClassVar, Literal, TypeAlias

from annotated_types import Gt, Le

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks.base import Act, Block, Reach, Side, Size

Factor: TypeAlias = Annotated[float, Gt(0), Le(64)]


@dataclass(frozen=True)
class Sum(Block):
    """Addition of blocks of one size, then activation."""

    kind: ClassVar[str] = "sum"
    activation: Act = "none"

    def shape(self, inputs: Sequence[Size]) -> Size:
        if len(inputs) < 2 or len(set(inputs)) != 1:
            raise MobilesegError(
                f"{self.name}: adds two blocks of one size or more, not {list(inputs)}"
            )
        return inputs[0]


@dataclass(frozen=True)
class Product(Block):
    """Product of two blocks of one size; the second may be one pixel, a factor per channel."""

    kind: ClassVar[str] = "product"

    def shape(self, inputs: Sequence[Size]) -> Size:
        fits = len(inputs) == 2 and inputs[1] in {inputs[0], (inputs[0][0], 1, 1)}
        if not fits:
            raise MobilesegError(
                f"{self.name}: multiplies a block by one of its size or by one pixel of as many "
                f"channels, not {list(inputs)}"
            )
        return inputs[0]


@dataclass(frozen=True)
class Join(Block):
    """Concatenation of blocks along the channels."""

    kind: ClassVar[str] = "join"

    def shape(self, inputs: Sequence[Size]) -> Size:
        if len(inputs) < 2 or len({size[1:] for size in inputs}) != 1:
            raise MobilesegError(
                f"{self.name}: joins two or more blocks of one height and width, not {list(inputs)}"
            )
        return (sum(size[0] for size in inputs), *inputs[0][1:])


@dataclass(frozen=True)
class Activate(Block):
    """An activation by itself, where more than its reader sees the block before it."""

    kind: ClassVar[str] = "activate"
    activation: Act = "relu"

    def shape(self, inputs: Sequence[Size]) -> Size:
        return self._one(inputs)


@dataclass(frozen=True)
class Pool(Block):
    """Maximum or mean over windows, padded as SAME; padding is never the maximum, nor counted."""

    kind: ClassVar[str] = "pool"
    function: Literal["max", "mean"] = "max"
    kernel: Reach = 2
    stride: Reach = 2

    def shape(self, inputs: Sequence[Size]) -> Size:
        into, h, w = self._one(inputs)
        return (into, -(-h // self.stride), -(-w // self.stride))


@dataclass(frozen=True)
class Unpool(Block):
    """The way back through a 2x2 maximum pooling: reads x, what was pooled, and the pooled.

    Every pixel of x goes to the places of its window that held the maximum, and to those beside
    it the less the further their value was below: weight max(0, 1 - sharpness * (maximum - value)).
    SegNet keeps the index of the maximum instead, which no phone runtime can read back; this is
    its replacement, trained as it runs: sums and products that every runtime has in int8.
    """

    kind: ClassVar[str] = "unpool"
    # Below the maximum by more than 1/8 of a batch norm's unit: nothing.
    sharpness: Annotated[float, Gt(0), Le(1000)] = 8.0

    def shape(self, inputs: Sequence[Size]) -> Size:
        ok = len(inputs) == 3 and inputs[0] == inputs[2] and inputs[1][0] == inputs[0][0]
        if not ok or inputs[1][1:] != (2 * inputs[0][1], 2 * inputs[0][2]):
            raise MobilesegError(
                f"{self.name}: reads a block, what a 2x2 pooling read, twice as high and wide, and "
                f"what it made of it, not {list(inputs)}; take an image_size that every stride "
                "divides"
            )
        return inputs[1]


@dataclass(frozen=True)
class Bins(Block):
    """Means over `bins` x `bins` windows that cover the picture; 1 is the mean over all of it.

    Where `bins` does not divide a side, windows reach over their neighbours a little: the stride
    is side // bins, and the kernel what then covers the whole side.
    """

    kind: ClassVar[str] = "bins"
    bins: Reach = 1

    def windows(self, size: Size) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return kernel and stride, (height, width) each."""
        strides = (size[1] // self.bins, size[2] // self.bins)
        kernels = tuple(n - (self.bins - 1) * s for n, s in zip(size[1:], strides, strict=True))
        return (kernels[0], kernels[1]), strides

    def shape(self, inputs: Sequence[Size]) -> Size:
        into, h, w = self._one(inputs)
        if min(h, w) < self.bins:
            raise MobilesegError(
                f"{self.name}: {self.bins} bins over {h}x{w} pixels; take a larger image_size"
            )
        return (into, self.bins, self.bins)


@dataclass(frozen=True)
class Upsample(Block):
    """Bilinear resize, corners not aligned: to `size` (height, width), by `factor` (rounded up),
    or to the size of the second input, of which nothing else is read.
    """

    kind: ClassVar[str] = "upsample"
    size: tuple[Side, Side] | None = None
    factor: Factor | None = None

    def shape(self, inputs: Sequence[Size]) -> Size:
        ways = (self.size is not None) + (self.factor is not None) + (len(inputs) == 2)
        if ways != 1 or len(inputs) not in {1, 2}:
            raise MobilesegError(
                f"{self.name}: resizes one block to a size, by a factor or to the size of a second "
                f"block: give one of the three, not {ways}"
            )
        into, h, w = inputs[0]
        if self.size is not None:
            return (into, *self.size)
        if self.factor is not None:
            return (into, ceil(h * self.factor), ceil(w * self.factor))
        return (into, *inputs[1][1:])

    def carriers(self) -> tuple[str, ...]:
        return self.inputs[:1]
