"""Operators that move, join or pool pixels, by others that do the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from mobileseg.graph.ir import Array, Graph, Node, hollow, is_hollow
from mobileseg.graph.ops import (
    NO_PAD,
    Add,
    Concat,
    Conv2d,
    DepthToSpace,
    GlobalMean,
    Mul,
    Op,
    Pool,
    Resize,
    Shape,
)
from mobileseg.graph.passes.draft import Draft, Rewrite

# XNNPACK takes a concatenation of at most this many tensors.
MOST_JOINED = 5
# And has depthwise kernels of at most this many pixels; of more it multiplies channel by channel.
MOST_TAPS = 25


def _nearest(draft: Draft, node: Node) -> Sequence[Node] | None:
    op = node.op
    if not isinstance(op, Resize) or op.mode != "nearest":
        return None
    _, _, h, w = draft.graph[node.inputs[0]].shape
    factor = op.size[0] // h
    power_of_two = factor >= 2 and factor & (factor - 1) == 0
    if not power_of_two or op.size != (factor * h, factor * w):
        return None
    nodes, source = [], node.inputs[0]
    for step in range(1, factor.bit_length()):
        last = step == factor.bit_length() - 1
        copies, made = f"{node.output}.copies{step}", f"{node.output}.doubled{step}"
        nodes.append(Node(Concat(), (source,) * 4, copies, node.layer))
        source = node.output if last else made
        nodes.append(Node(DepthToSpace(2), (copies,), source, node.layer))
    return nodes


nearest_to_copies = Rewrite(
    "nearest_to_copies",
    "a nearest resize by 2, 4, ... as four copies and depth to space",
    _nearest,
)
"""Before: `y = Resize(size=20x28 mode=nearest) x[1, 5, 10, 14]`.
After:  `c = Concat x x x x; y = DepthToSpace c`.
"""


def _wide_concat(draft: Draft, node: Node) -> Sequence[Node] | None:
    count = len(node.inputs)
    if not isinstance(node.op, Concat) or count <= MOST_JOINED:
        return None
    # What is joined first is copied twice: the neighbours of the fewest channels.
    surplus = min(count - MOST_JOINED + 1, MOST_JOINED)
    channels = [draft.graph[name].shape[1] for name in node.inputs]
    at = min(range(count - surplus + 1), key=lambda i: sum(channels[i : i + surplus]))
    part = f"{node.output}.part{count}"
    first = Node(Concat(), node.inputs[at : at + surplus], part, node.layer)
    rest = replace(node, inputs=(*node.inputs[:at], part, *node.inputs[at + surplus :]))
    return [first, rest]


split_concat = Rewrite(
    "split_concat",
    "a concatenation of more than five tensors as two",
    _wide_concat,
)
"""Before: `y = Concat a b c d e f`. After: `p = Concat a b; y = Concat p c d e f`."""


def _mean_pool(draft: Draft, node: Node) -> Sequence[Node] | None:
    op = node.op
    if not isinstance(op, Pool) or op.function != "mean":
        return None
    _, channels, h, w = draft.graph[node.inputs[0]].shape
    if op.kernel == (h, w) and op.pad == NO_PAD:
        return [replace(node, op=GlobalMean())]
    nodes = [
        Node(conv, (source, *_averaging(draft, channels, kernel, made)), made, node.layer)
        for conv, kernel, source, made in _windows(node, op, channels)
    ]
    if op.pad == NO_PAD:
        return nodes
    # The mean leaves padding out of its count: near the edges it is of fewer pixels.
    filled = f"{node.output}.filled"
    nodes[-1] = replace(nodes[-1], output=filled)
    more = draft.constant(f"{node.output}.edges", _edges(draft.graph, node, op))
    return [*nodes, replace(node, op=Mul(), inputs=(filled, more))]


def _windows(node: Node, op: Pool, channels: int) -> list[tuple[Conv2d, tuple[int, int], str, str]]:
    """Return the convolutions, each with its kernel, what it reads and what it makes: one, or
    where the window is too large for that, one along the columns and one along the rows."""
    (rows, columns), (down, right), (top, left, bottom, after) = op.kernel, op.stride, op.pad
    if rows * columns <= MOST_TAPS or 1 in op.kernel:
        conv = Conv2d(op.stride, op.pad, groups=channels)
        return [(conv, op.kernel, node.inputs[0], node.output)]
    along = Conv2d((1, right), (0, left, 0, after), groups=channels)
    across = Conv2d((down, 1), (top, 0, bottom, 0), groups=channels)
    between = f"{node.output}.columns"
    return [
        (along, (1, columns), node.inputs[0], between),
        (across, (rows, 1), between, node.output),
    ]


def _averaging(draft: Draft, channels: int, kernel: tuple[int, int], made: str) -> tuple[str, str]:
    each = np.full((channels, 1, *kernel), 1 / prod(kernel), np.float32)
    none = np.zeros(channels, np.float32)
    return draft.constant(f"{made}.mean", each), draft.constant(f"{made}.none", none)


def _edges(graph: Graph, node: Node, op: Pool) -> Array:
    """Return the window's size over the count of its pixels inside, `(1, 1, height, width)`."""
    counts = []
    sizes = zip(graph[node.inputs[0]].shape[2:], graph[node.output].shape[2:], strict=True)
    for axis, (size, wanted) in enumerate(sizes):
        begin = np.arange(wanted) * op.stride[axis] - op.pad[axis]
        end = np.minimum(begin + op.kernel[axis], size)
        counts.append(end - np.maximum(begin, 0))
    inside = np.outer(*counts)
    return (prod(op.kernel) / inside).astype(np.float32)[None, None]


mean_pool_to_depthwise = Rewrite(
    "mean_pool_to_depthwise",
    "average pooling as a depthwise convolution, or as the mean where one window is all",
    _mean_pool,
)
"""Before: `y = Pool(function=mean kernel=2x2 stride=2x2) x`.
After:  `y = Conv2d(stride=2x2 groups=5) x w[5, 1, 2, 2]`, all weights 1/4.

A window of more than 25 pixels is the mean along its columns, then along its rows.
"""


def _of_pixel(draft: Draft, node: Node) -> Sequence[Node] | None:
    """See `pixel_after_product`."""
    return _parted(draft, node, lambda shape: shape[2:] == (1, 1))


def _of_enlarged(draft: Draft, node: Node) -> Sequence[Node] | None:
    """See `product_before_sum`."""
    return _parted(draft, node, lambda _: True)


def _parted(draft: Draft, node: Node, wanted: Callable[[Shape], bool]) -> Sequence[Node] | None:
    graph, op = draft.graph, node.op
    if not isinstance(op, Conv2d) or not _is_plain_product(graph, node):
        return None
    joined = graph.producers.get(node.inputs[0])
    if joined is None or not isinstance(joined.op, Concat):
        return None
    if graph.only_consumer(joined.output) is not node:
        return None
    small = [
        name
        for name in joined.inputs
        if _is_enlarged(graph, name) and wanted(graph[graph.producers[name].inputs[0]].shape)
    ]
    # Something has to be as large as the result.
    return (
        _split(draft, node, joined.inputs, small) if 0 < len(small) < len(joined.inputs) else None
    )


def _split(draft: Draft, node: Node, names: Sequence[str], small: Sequence[str]) -> list[Node]:
    graph, stem = draft.graph, node.output
    weight, starts, start = draft.data(node.inputs[1]), {}, 0
    for position, name in enumerate(names):
        starts[position] = start
        start += graph[name].shape[1]

    def columns(chosen: Sequence[int], label: str) -> str:
        parts = [slice(starts[i], starts[i] + graph[names[i]].shape[1]) for i in chosen]
        if is_hollow(weight):
            count = sum(part.stop - part.start for part in parts)
            return draft.constant(f"{stem}.{label}", hollow((weight.shape[0], count, 1, 1)))
        return draft.constant(
            f"{stem}.{label}", np.concatenate([weight[:, part] for part in parts], axis=1)
        )

    large = [i for i, name in enumerate(names) if name not in small]
    nodes: list[Node] = []
    source = names[large[0]]
    if len(large) > 1:
        source = f"{stem}.large"
        nodes.append(Node(Concat(), tuple(names[i] for i in large), source, node.layer))
    inputs = (source, columns(large, "weight_large"), *node.inputs[2:])
    nodes.append(Node(Conv2d(), inputs, f"{stem}.of_large", node.layer))
    sums = [f"{stem}.of_large"]
    for i in (i for i, name in enumerate(names) if name in small):
        resize = graph.producers[names[i]]
        inputs = (resize.inputs[0], columns([i], f"weight_small{i}"))
        made = f"{stem}.of_small{i}"
        nodes.append(Node(Conv2d(), inputs, made, node.layer))
        if graph[resize.inputs[0]].shape[2:] != (1, 1):
            nodes.append(Node(resize.op, (made,), f"{made}.resized", node.layer))
            made = f"{made}.resized"
        sums.append(made)
    return [*nodes, *_summed(node, sums)]


def _summed(node: Node, sums: Sequence[str]) -> list[Node]:
    assert isinstance(node.op, Conv2d)
    nodes, total = [], sums[0]
    for number, part in enumerate(sums[1:], 1):
        last = number == len(sums) - 1
        op: Op = Add(node.op.activation) if last else Add()
        made = node.output if last else f"{node.output}.sum{number}"
        nodes.append(Node(op, (total, part), made, node.layer))
        total = made
    return nodes


def _is_plain_product(graph: Graph, node: Node) -> bool:
    op = node.op
    assert isinstance(op, Conv2d)
    plain = op == Conv2d(activation=op.activation)
    return plain and graph[node.inputs[1]].shape[2:] == (1, 1)


def _is_enlarged(graph: Graph, name: str) -> bool:
    """Whether a resize, read by nobody else, makes it of a smaller picture."""
    maker = graph.producers.get(name)
    if maker is None or not isinstance(maker.op, Resize) or graph.only_consumer(name) is None:
        return False
    before = graph[maker.inputs[0]].shape
    return prod(before[2:]) < prod(graph[name].shape[2:])


pixel_after_product = Rewrite(
    "pixel_after_product",
    "a 1x1 convolution of a concatenation with one enlarged pixel: the pixel's part is added",
    _of_pixel,
)
"""Before: `r = Resize x[1, 4, 1, 1]; c = Concat a r; y = Conv2d(activation=relu) c w b`.
After:  `l = Conv2d a w_a b; s = Conv2d x w_x; y = Add(activation=relu) l s`.
"""

product_before_sum = Rewrite(
    "product_before_sum",
    "a 1x1 convolution of a concatenation with something enlarged: of each before it is enlarged",
    _of_enlarged,
    # Every sum rounds once more: 1 to 2 dB.
    at_int8=False,
)
"""Before: `r = Resize x; c = Concat a r; y = Conv2d(activation=relu) c w b`.
After:  `l = Conv2d a w_a b; s = Conv2d x w_x; r = Resize s; y = Add(activation=relu) l r`.

A weighted mean of pixels and a weighted sum of channels may change places.
"""
