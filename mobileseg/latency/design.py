"""The small networks that a machine is calibrated with: every kernel alone, then in blocks.

Single kernels come in chains of a few, so that weights and caches behave as in a network. Sizes
spread over channels, maps and reductions: heavy weights on small maps, thin layers on large ones.
Blocks are what segmenters are made of, in families; each family is foretold from the others.
The choice is drawn with a fixed seed: the same networks on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import FOR_TFLITE, run_passes
from mobileseg.latency.blocks import FAMILIES, MODES, Ends, Layers


@dataclass(frozen=True)
class Model:
    """A float network to time. family: for a block, what cross-validation leaves out together;
    single kernels are family "single". ends: how an int8 file's edges are made."""

    name: str
    family: str
    graph: Graph
    ends: Ends = "int8"


# A network of more multiply-adds or larger maps would only take long.
MOST_MACS = 120e6
MOST_ELEMENTS = 3e6


def design(quick: bool = False) -> list[Model]:
    """Return the networks; `quick` is every other one."""
    models = [*_singles(), *_blocks()]
    return [model for i, model in enumerate(models) if not quick or i % 2 == 0]


def _singles() -> Iterator[Model]:
    for kernel, (count, make) in SINGLES.items():
        random = np.random.default_rng(sum(kernel.encode()))
        for number in range(count):
            graph = _fitting(make, random, number / max(1, count - 1))
            yield Model(f"{kernel}_{number}", SINGLE, graph)


def _fitting(make: Single, random: np.random.Generator, share: float) -> Graph:
    """Draw until the network is neither trivial nor long."""
    while True:
        draw = Draw(random, share)
        graph = run_passes(make(draw), FOR_TFLITE)
        largest = max(np.prod(tensor.shape) for tensor in graph.tensors.values())
        if graph.total_macs <= MOST_MACS and largest <= MOST_ELEMENTS:
            return graph


def _blocks() -> Iterator[Model]:
    for family, (variants, make) in FAMILIES.items():
        for number, variant in enumerate(variants):
            sketch = Layers()
            graph = run_passes(sketch.graph(make(sketch, variant)), FOR_TFLITE)
            yield Model(f"{family}_{number}", family, graph, MODES[number % len(MODES)])


@dataclass
class Draw:
    """Sizes for one network; `share` in [0, 1] leads from many channels on small maps to few on
    large ones, so that every kernel sees both ends."""

    random: np.random.Generator
    share: float

    def size(self, least: int = 5, most: int = 160) -> int:
        """Height and width of a square map."""
        at = np.clip(self.share + self.random.normal(0, 0.15), 0, 1)
        return round(float(least * (most / least) ** at))

    def channels(self, least: int = 8, most: int = 1024, step: int = 8) -> int:
        """Channels: mostly whole steps, now and then a few off."""
        at = np.clip(1 - self.share + self.random.normal(0, 0.25), 0, 1)
        count = max(step, round(float(least * (most / least) ** at / step)) * step)
        return max(1, count - int(self.random.random() < 0.15) * int(self.random.integers(0, step)))

    def one_of(self, *values: int) -> int:
        """One of the values."""
        return int(self.random.choice(values))


def _pointwise(draw: Draw) -> Graph:
    s = Layers()
    size = 1 if draw.random.random() < 0.1 else draw.size()
    a, b = draw.channels(), draw.channels()
    x = s.input(a, size, size)
    for out in (b, a, b):
        x = s.conv(x, out, 1, act="relu")
    return s.graph(x)


def _dense(draw: Draw) -> Graph:
    s = Layers()
    size, kernel = draw.size(), draw.one_of(2, 3, 3, 3, 5)
    a, b = draw.channels(most=320), draw.channels(most=320)
    x = s.input(a, size, size)
    return s.graph(s.conv(s.conv(x, b, kernel, act="relu"), a, kernel, draw.one_of(1, 1, 2)))


def _first(draw: Draw) -> Graph:
    s = Layers()
    size = draw.size(64, 320)
    x = s.input(3, size, size)
    return s.graph(s.conv(x, draw.one_of(8, 16, 24, 32, 64), 3, draw.one_of(1, 2), "relu"))


def _depthwise(draw: Draw) -> Graph:
    s = Layers()
    size, kernel = draw.size(), draw.one_of(3, 3, 5)
    x = s.input(draw.channels(), size, size)
    x = s.depthwise(s.depthwise(x, kernel, 1, "relu"), kernel, 1, "relu")
    return s.graph(s.depthwise(x, kernel, draw.one_of(1, 2), "relu"))


def _dilated(draw: Draw) -> Graph:
    s = Layers()
    size, rate = draw.size(10, 64), draw.one_of(2, 4)
    x = s.input(draw.channels(16, 256), size, size)
    return s.graph(s.spread(s.spread(x, s.channels(x), 3, rate), draw.channels(16, 256), 3, rate))


def _depthwise_dilated(draw: Draw) -> Graph:
    s = Layers()
    size, rate = draw.size(10, 64), draw.one_of(2, 4)
    x = s.input(draw.channels(16, 512), size, size)
    for _ in range(3):
        x = s.spread(x, s.channels(x), 3, rate, s.channels(x))
    return s.graph(x)


def _grouped(draw: Draw) -> Graph:
    s = Layers()
    size, groups = draw.size(7, 64), draw.one_of(2, 4, 8)
    x = s.input(groups * draw.channels(8, 64), size, size)
    for _ in range(2):
        x = s.spread(x, s.channels(x), draw.one_of(1, 3), 1, groups)
    return s.graph(x)


def _narrowing(draw: Draw) -> Graph:
    """A depthwise layer that itself narrows: two inputs for each output, the slow way to group."""
    s = Layers()
    size = draw.size(5, 40)
    out = draw.channels(16, 512)
    x = s.input(2 * out, size, size)
    return s.graph(s.spread(x, out, 3, 1, out))


def _transposed(draw: Draw) -> Graph:
    s = Layers()
    size, kernel = draw.size(5, 80), draw.one_of(2, 4, 4)
    x = s.input(draw.channels(8, 256), size, size)
    return s.graph(s.up(x, draw.one_of(2, 8, 16, 21, 32, 64), kernel))


def _each(op: ops.Op, repeats: int = 3) -> Single:
    """A chain of an operator that keeps the size."""

    def make(draw: Draw) -> Graph:
        s = Layers()
        size = draw.size(6, 200)
        x = s.input(draw.channels(4, 512), size, size)
        for _ in range(repeats):
            x = s.node(op, x)
        return s.graph(x)

    return make


def _pair(op: ops.Op) -> Single:
    """A chain of sums or products, one in three with a value per channel."""

    def make(draw: Draw) -> Graph:
        s = Layers()
        size = draw.size(6, 200)
        x = s.input(draw.channels(4, 512), size, size)
        gate = s.node(ops.GlobalMean(), x) if draw.random.random() < 0.4 else x
        for _ in range(4):
            x, gate = s.node(op, x, gate), (gate if s.tensors[gate].shape[2] == 1 else x)
        return s.graph(x)

    return make


def _concat(draw: Draw) -> Graph:
    s = Layers()
    size = draw.size(6, 160)
    x = s.input(draw.channels(4, 256), size, size)
    parts = [x] * draw.one_of(2, 2, 3, 4)
    y = s.node(ops.Concat(), *parts)
    return s.graph(s.node(ops.Concat(), y, x))


def _pad(draw: Draw) -> Graph:
    s = Layers()
    size = draw.size(6, 160)
    x = s.input(draw.channels(4, 512), size, size)
    for _ in range(3):
        x = s.node(ops.Pad((1, 1, 1, 1)), x)
    return s.graph(x)


def _crop(draw: Draw) -> Graph:
    s = Layers()
    size = draw.size(10, 200)
    x = s.input(draw.channels(4, 512), size, size)
    for edge in (2, 4, 6):
        x = s.node(ops.Crop((1, 1), (size - edge, size - edge)), x)
    return s.graph(x)


def _depth_to_space(draw: Draw) -> Graph:
    s = Layers()
    size = draw.size(5, 120)
    x = s.input(4 * draw.channels(2, 128, 2), size, size)
    return s.graph(s.node(ops.DepthToSpace(2), x))


def _pool(function: Literal["max", "mean"]) -> Single:
    def make(draw: Draw) -> Graph:
        s = Layers()
        kernel = draw.one_of(2, 2, 3)
        size = 12 * draw.size(1, 16)
        x = s.input(draw.channels(8, 512), size, size)
        pool = ops.Pool(function, (kernel, kernel), (kernel, kernel))
        return s.graph(s.node(pool, x))

    return make


def _resize(mode: Literal["bilinear", "nearest"]) -> Single:
    def make(draw: Draw) -> Graph:
        s = Layers()
        size = draw.size(4, 80)
        x = s.input(draw.channels(2, 256, 1), size, size)
        target = size * draw.one_of(2, 2, 4, 8)
        return s.graph(s.node(ops.Resize((target, target), mode), x))

    return make


def _last(op: ops.Op) -> Single:
    """What stands once, over the classes, at the end."""

    def make(draw: Draw) -> Graph:
        s = Layers()
        size = draw.size(20, 256)
        x = s.input(draw.one_of(2, 2, 2, 3, 8, 19, 21, 32), size, size)
        return s.graph(s.node(op, x))

    return make


def _mean(draw: Draw) -> Graph:
    s = Layers()
    size = draw.size(4, 128)
    return s.graph(s.node(ops.GlobalMean(), s.input(draw.channels(8, 1024), size, size)))


SINGLE = "single"
Single: TypeAlias = Callable[[Draw], Graph]

# How many networks of each kernel, and what makes one.
SINGLES: dict[str, tuple[int, Single]] = {
    "pointwise": (18, _pointwise),
    "dense": (12, _dense),
    "first": (5, _first),
    "depthwise": (12, _depthwise),
    "dilated": (6, _dilated),
    "depthwise_dilated": (6, _depthwise_dilated),
    "grouped": (6, _grouped),
    "narrowing": (6, _narrowing),
    "transposed": (10, _transposed),
    "relu": (5, _each(ops.Activation("relu"))),
    "sigmoid": (5, _each(ops.Activation("sigmoid"))),
    "hard_swish": (6, _each(ops.Activation("hard_swish"))),
    "add": (7, _pair(ops.Add())),
    "mul": (7, _pair(ops.Mul())),
    "concat": (7, _concat),
    "pad": (6, _pad),
    "crop": (6, _crop),
    "depth_to_space": (6, _depth_to_space),
    "max_pool": (5, _pool("max")),
    "mean_pool": (5, _pool("mean")),
    "global_mean": (5, _mean),
    "resize_bilinear": (8, _resize("bilinear")),
    "resize_nearest": (5, _resize("nearest")),
    "softmax": (12, _last(ops.Softmax())),
    "argmax": (8, _last(ops.ArgMax())),
}
