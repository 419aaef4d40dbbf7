"""What an operator is to a device: the kernel that runs it, and how much that has to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias, cast

from mobileseg.errors import MobilesegError, unknown
from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.ops import (
    TRAINING_OPS,
    Activation,
    Add,
    ArgMax,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Crop,
    DepthToSpace,
    Dequantize,
    GlobalMean,
    LeakyRelu,
    Mul,
    Neg,
    Op,
    Pad,
    Pool,
    PRelu,
    Quantize,
    Resize,
    Shape,
    Softmax,
)
from mobileseg.latency.cost import Features
from mobileseg.latency.lookup import LOOKUP, ends_lookup, in_lookup


def features(graph: Graph, node: Node, between: float, fuses: Sequence[str] = ()) -> Features:
    """Return what the node's price depends on; between: `touched(graph)`.

    fuses: of the device; the last operator of a chain that becomes a table is that table.
    Raises MobilesegError for an unpriced operator.
    """
    work = _work(graph, node)
    macs = graph.macs(node)
    weights = sum(graph[name].nbytes for name in set(node.inputs) if graph[name].data is not None)
    return Features(
        kernel=LOOKUP if "lookup" in fuses and ends_lookup(graph, node) else work.kernel,
        work=macs / _fewer(graph, node, fuses) if macs else float(work.elements),
        reduction=max(1.0, work.reduction),
        pixels=float(max(1, work.pixels)),
        channels=float(work.channels),
        nbytes=float(bytes_moved(graph, node) - weights),
        weights=float(weights),
        between=between,
        macs=float(macs),
    )


def _fewer(graph: Graph, node: Node, fuses: Sequence[str]) -> float:
    """How many times fewer multiplications the runtime needs than the node has multiply-adds.

    Source: Lavin and Gray 2015, Fast Algorithms for Convolutional Neural Networks: F(2x2, 3x3)
    makes four outputs of 16 products instead of 36; larger tiles pay more for their transforms.
    """
    if "winograd" not in fuses or graph[node.output].dtype != "float32":
        return 1.0
    op = node.op
    if not isinstance(op, Conv2d) or graph[node.inputs[1]].shape[2:] != (3, 3):
        return 1.0
    return 36.0 / 16.0 if (op.stride, op.dilation, op.groups) == ((1, 1), (1, 1), 1) else 1.0


def kernel_of(graph: Graph, node: Node) -> str:
    """Return the name of the kernel that runs a node, a key of `KERNELS`.

    Raises MobilesegError for an unpriced operator.
    """
    return _work(graph, node).kernel


def _work(graph: Graph, node: Node) -> _Work:
    classify = PRICES.get(type(node.op))
    if type(node.op) in TRAINING_OPS:
        raise MobilesegError(
            f"{node.layer}: {node.op.kind} belongs to training and has no price; "
            "normalise the graph, which folds it into the convolution before it"
        )
    if classify is None:
        raise unknown(node.layer, "priced operator", node.op.kind, (op.__name__ for op in PRICES))
    return classify(node.op, graph.shapes(node), graph[node.output].shape)


def touched(graph: Graph) -> float:
    """Bytes of all that one run reads and writes: every tensor of the graph once."""
    return float(sum(tensor.nbytes for tensor in graph.tensors.values()))


def bytes_moved(graph: Graph, node: Node) -> int:
    """Bytes of the node's distinct inputs, constants included, and of its output."""
    names = (*dict.fromkeys(node.inputs), node.output)
    return sum(graph[name].nbytes for name in names)


def folded(graph: Graph, node: Node, fuses: Sequence[str]) -> str:
    """Why the node takes no time when the network runs, or nothing. fuses: of the device."""
    if node.inputs and not graph.activations(node):
        return "a constant, computed once when the file is loaded"
    last = in_lookup(graph, node) if "lookup" in fuses else None
    if last is not None:
        return f"the runtime makes one table of it and {last.layer}"
    if not isinstance(node.op, Pad) or "pad" not in fuses:
        return ""
    reader = graph.only_consumer(node.output)
    if reader is not None and isinstance(reader.op, Conv2d):
        return f"the runtime folds it into {reader.layer}"
    return ""


@dataclass(frozen=True)
class _Work:
    """A kernel's name and loop: elements visited (unless MACs count), inner length, output."""

    kernel: str
    elements: int
    reduction: float
    pixels: int
    channels: int


def _conv(op: Op, inputs: Sequence[Shape], output: Shape) -> _Work:
    conv = cast(Conv2d, op)
    _, per_group, kh, kw = inputs[1]
    name = _conv_kernel(conv, inputs)
    # The innermost loop runs over the channels of one tap: three of them, as in a network's first
    # convolution, cost far more each than three hundred. A depthwise kernel runs over its taps.
    inner = kh * kw if conv.is_depthwise(inputs) else per_group
    return _Work(name, 0, inner, prod(output) // output[1], output[1])


def _conv_kernel(conv: Conv2d, inputs: Sequence[Shape]) -> str:
    dilated = conv.dilation != (1, 1) and inputs[1][2:] != (1, 1)
    if conv.is_depthwise(inputs):
        return "depthwise_dilated" if dilated else "depthwise"
    if conv.groups > 1:
        return "grouped"
    if dilated:
        return "dilated"
    return "pointwise" if inputs[1][2:] == (1, 1) else "dense"


def _transposed(op: Op, inputs: Sequence[Shape], output: Shape) -> _Work:
    """One output position sees kernel / stride of the kernel in each direction."""
    into, _, kh, kw = inputs[1]
    stride = cast(ConvTranspose2d, op).stride
    seen = into * max(1.0, kh / stride[0]) * max(1.0, kw / stride[1])
    return _Work("transposed", 0, seen, prod(output) // output[1], output[1])


def _activation(op: Op, _inputs: Sequence[Shape], output: Shape) -> _Work:
    function = cast(Activation, op).function
    # Of a value per channel, in group norms: priced as the dearest function that is known.
    like = {"relu6": "relu", "rsqrt": "sigmoid"}.get(function, function)
    return _elements(like, output)


def _elements(kernel: str, output: Shape) -> _Work:
    return _Work(kernel, prod(output), 1, prod(output), output[1])


def _each(kernel: str) -> Classifier:
    """A kernel that visits every output element by itself."""
    return lambda _op, _inputs, output: _elements(kernel, output)


def _rows(kernel: str) -> Classifier:
    """A kernel that visits the channels of one output position together."""
    return lambda _op, _inputs, output: _Work(
        kernel, prod(output), output[1], prod(output) // output[1], output[1]
    )


def _argmax(_op: Op, inputs: Sequence[Shape], _output: Shape) -> _Work:
    channels = inputs[0][1]
    return _Work("argmax", prod(inputs[0]), channels, prod(inputs[0]) // channels, channels)


def _pool(op: Op, _inputs: Sequence[Shape], output: Shape) -> _Work:
    pool = cast(Pool, op)
    window = prod(pool.kernel)
    pixels = prod(output) // output[1]
    return _Work(f"{pool.function}_pool", prod(output) * window, window, pixels, output[1])


def _global_mean(_op: Op, inputs: Sequence[Shape], output: Shape) -> _Work:
    pixels = inputs[0][2] * inputs[0][3]
    return _Work("global_mean", prod(inputs[0]), pixels, pixels, output[1])


def _resize(op: Op, inputs: Sequence[Shape], output: Shape) -> _Work:
    return _rows(f"resize_{cast(Resize, op).mode}")(op, inputs, output)


Classifier: TypeAlias = Callable[[Op, Sequence[Shape], Shape], _Work]

PRICES: dict[type[Op], Classifier] = {
    Conv2d: _conv,
    ConvTranspose2d: _transposed,
    Activation: _activation,
    LeakyRelu: _each("relu"),
    PRelu: _each("relu"),
    Neg: _each("neg"),
    Add: _each("add"),
    Mul: _each("mul"),
    Concat: _rows("concat"),
    Pad: _rows("pad"),
    Crop: _rows("crop"),
    DepthToSpace: _rows("depth_to_space"),
    Pool: _pool,
    GlobalMean: _global_mean,
    Resize: _resize,
    Softmax: _rows("softmax"),
    ArgMax: _argmax,
    Quantize: _each("quantize"),
    Dequantize: _each("dequantize"),
}
