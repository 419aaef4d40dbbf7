"""What slows an operator down, in words: where its time goes and which fast path it falls off.

Asks nothing but the graph and the price. What a cut would save is asked of the network's spec, in
`workflow.advise`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.ops import Activation, Conv2d, ConvTranspose2d, Pool, Resize
from mobileseg.latency.price import precision_of
from mobileseg.latency.profile import Coefficients, DeviceProfile, Kernel
from mobileseg.latency.table import Row

# XNNPACK takes a concatenation of at most this many tensors.
MOST_CONCATENATED = 5
# A filled-up step that costs less than this share of the layer's work is not worth a word.
_WASTE = 0.05


def flags(graph: Graph, row: Row, profile: DeviceProfile, half: bool = False) -> list[str]:
    """Return what is to be said of one operator; nothing where all is well. half: as `price`."""
    node = graph.nodes[row.index]
    if row.bound == "folded":
        return []
    table = profile.coefficients(precision_of(graph, node, half))
    kernel = table.kernels[row.kernel]
    said = [*_bound(row, table, kernel), *_channels(row, node, kernel.channel_tile)]
    return [*said, *_off_the_fast_path(graph, node, profile)]


def _bound(row: Row, table: Coefficients, kernel: Kernel) -> list[str]:
    """By the roofline: bytes over the bandwidth of where they fit, work over the best rate."""
    if row.bound == "overhead":
        return ["takes longer to start than to run"]
    cached = row.bytes_moved <= table.cache_kb * 1024
    bandwidth = table.bandwidth_gb_per_s if cached else table.dram_gb_per_s
    moved, computed = row.bytes_moved / bandwidth, row.macs / kernel.giga_per_s
    if not row.kernel.startswith("depthwise") or moved < computed:
        return []
    where = "the caches" if cached else "memory, for more than the caches hold"
    return [
        f"bound by memory: {row.bytes_moved / 1e6:.1f} MB from {where}, take longer than the "
        "multiply-adds; fewer of those save nothing, fewer channels or pixels do"
    ]


def _channels(row: Row, node: Node, step: int) -> list[str]:
    channels = row.output_shape[1]
    filled = -(-channels // step) * step
    worth = filled / channels - 1.0 >= _WASTE
    if not isinstance(node.op, Conv2d | ConvTranspose2d) or not worth or row.bound != "arithmetic":
        return []
    return [f"{channels} channels cost as much as {filled}: the kernel takes them by {step}"]


def _off_the_fast_path(graph: Graph, node: Node, profile: DeviceProfile) -> list[str]:
    if profile.accelerator != "cpu":
        return []
    int8 = graph[node.output].dtype in ("int8", "uint8", "int32")
    slow = SLOW.get(node.op.kind)
    if slow is None:
        return []
    why = slow(graph, node, int8)
    return [f"not run by XNNPACK{' at int8' if int8 else ''}: {why}"] if why else []


# Why an operator is not taken, or nothing: (graph, node, whether it is int8) -> words.
Slow: TypeAlias = Callable[[Graph, Node, bool], str]


def _always(why: str) -> Slow:
    return lambda _graph, _node, _int8: why


def _at_int8(why: str) -> Slow:
    return lambda _graph, _node, int8: why if int8 else ""


def _concat(graph: Graph, node: Node, _int8: bool) -> str:
    count = len(graph.activations(node))
    return f"{count} tensors at once; join at most {MOST_CONCATENATED}" * (
        count > MOST_CONCATENATED
    )


def _activation(_graph: Graph, node: Node, int8: bool) -> str:
    function = node.op.function if isinstance(node.op, Activation) else ""
    alone = {
        "relu": "a ReLU by itself; let it follow a convolution or an add, which take it in",
        "relu6": "a ReLU6 by itself; let it follow a convolution or an add, which take it in",
        "hard_swish": "hard swish; as a sum and products it is (--rewrite hard_swish_to_mul)",
    }
    return alone.get(function, "") if int8 else ""


def _pool(_graph: Graph, node: Node, int8: bool) -> str:
    mean = isinstance(node.op, Pool) and node.op.function == "mean"
    return "average pooling; the mean over the whole picture is" if mean and int8 else ""


def _resize(_graph: Graph, node: Node, _int8: bool) -> str:
    nearest = isinstance(node.op, Resize) and node.op.mode == "nearest"
    return "nearest resize; the bilinear one is" if nearest else ""


# Operators that leave the fast path, by kind. Measured in ai-edge-litert 2.3.0: the operators that
# the interpreter left outside the delegate.
SLOW: dict[str, Slow] = {
    "Activation": _activation,
    "ArgMax": _always("argmax; on the phone's side a loop over the logits may be faster"),
    "Concat": _concat,
    "Neg": _at_int8("a minus by itself"),
    "Pool": _pool,
    "PRelu": _at_int8("a slope per channel; one for all channels, a leaky ReLU, is"),
    "Resize": _resize,
    "Softmax": _at_int8("softmax; the order of the logits is that of the probabilities"),
}
