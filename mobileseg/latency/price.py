"""Graph -> how long every operator takes on a device.

Row i of the answer is operator i of the TFLite file. The precision of an operator comes from the
types of its tensors. An operator that the profile has no coefficients for is an error with a name,
never a zero.
"""

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
from mobileseg.latency.cost import (
    Features,
    Memory,
    arithmetic_ms,
    filled,
    filled_pixels,
    first_tile,
    operator_ms,
)
from mobileseg.latency.lookup import LOOKUP, ends_lookup, in_lookup
from mobileseg.latency.profile import Basis, Coefficients, DeviceProfile, Kernel, Precision
from mobileseg.latency.table import Bound, Pricing, Row


def price(graph: Graph, profile: DeviceProfile, half: bool = False) -> Pricing:
    """Return a row per node and the sums.

    half: floats are computed and kept at 16 bits, as runtimes do on request.
    Raises MobilesegError for an operator, a type or a precision without a price.
    """
    between = touched(graph)
    precisions = [_precision(graph, node, half) for node in graph.nodes]
    costs = [
        _cost(graph, profile, node, precision, between)
        for node, precision in zip(graph.nodes, precisions, strict=True)
    ]
    total = sum(cost.ms for cost in costs)
    rows = (_row(graph, i, node, costs[i], total) for i, node in enumerate(graph.nodes))
    factors = [profile.coefficients(each).error.factor for each in sorted(set(precisions))]
    return Pricing(tuple(rows), profile, max(factors, default=1.0))


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
        work=float(macs or work.elements),
        reduction=max(1.0, work.reduction),
        pixels=float(max(1, work.pixels)),
        channels=float(work.channels),
        nbytes=float(bytes_moved(graph, node) - weights),
        weights=float(weights),
        between=between,
        macs=macs > 0,
    )


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


@dataclass(frozen=True)
class _Cost:
    """What a node takes, and why; factor: of its band."""

    shape: Features
    ms: float
    factor: float
    bound: Bound
    basis: Basis
    note: str


def _cost(
    graph: Graph, profile: DeviceProfile, node: Node, precision: Precision, between: float
) -> _Cost:
    shape = features(graph, node, between, profile.fuses)
    if precision == "float16":
        shape = shape.halved()
    why = folded(graph, node, profile.fuses)
    if why:
        return _Cost(shape, 0.0, 1.0, "folded", "fitted", why)
    table = profile.coefficients(precision)
    kernel = _kernel(profile, table, node, shape.kernel, precision)
    ms, bound = _estimate(shape, kernel, table)
    return _Cost(shape, ms, kernel.error_factor, bound, kernel.basis, kernel.note)


def _row(graph: Graph, index: int, node: Node, cost: _Cost, total: float) -> Row:
    return Row(
        index=index,
        layer=node.layer,
        kind=node.op.kind,
        kernel=cost.shape.kernel,
        input_shapes=tuple(tensor.shape for tensor in graph.activations(node)),
        output_shape=graph[node.output].shape,
        macs=graph.macs(node),
        params=graph.params(node),
        bytes_moved=int(cost.shape.nbytes + cost.shape.weights),
        ms=cost.ms,
        low_ms=cost.ms / cost.factor,
        high_ms=cost.ms * cost.factor,
        share=cost.ms / total if total else 0.0,
        bound=cost.bound,
        basis=cost.basis,
        note=cost.note,
    )


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


def _precision(graph: Graph, node: Node, half: bool) -> Precision:
    tensors = (*graph.activations(node), graph[node.output])
    types = {tensor.dtype for tensor in tensors} - {"int32"}
    if types <= {"float32"}:
        return "float16" if half else "float32"
    if types <= {"int8", "uint8", "float32"}:
        return "int8"
    raise MobilesegError(
        f"{node.layer}: {node.op.kind} on {', '.join(sorted(types))} has no price; "
        "price a float32 or an int8 graph"
    )


def _kernel(
    profile: DeviceProfile, table: Coefficients, node: Node, name: str, precision: Precision
) -> Kernel:
    found = table.kernels.get(name)
    if found is None:
        raise MobilesegError(
            f"{node.layer}: {node.op.kind} runs as kernel {name!r}, which device {profile.name} "
            f"does not price at {precision}; add [{precision}.kernels.{name}] to the profile"
        )
    return found


def _estimate(shape: Features, kernel: Kernel, table: Coefficients) -> tuple[float, Bound]:
    pixels = filled_pixels(shape.pixels, float(kernel.pixel_tile))
    channels = filled(shape.channels, float(kernel.channel_tile))
    arithmetic = arithmetic_ms(
        shape.work * (pixels / shape.pixels) * (channels / shape.channels),
        shape.reduction,
        pixels,
        kernel.giga_per_s,
        kernel.reduction_half,
        kernel.pixels_half,
    )
    memory = Memory(
        table.bandwidth_gb_per_s, table.dram_gb_per_s, table.cache_kb, table.weights_cache_kb
    )
    near = memory.near_ms(shape.nbytes, shape.weights)
    cold = memory.cold_ms(shape.weights, shape.between)
    first = first_tile(pixels, float(kernel.pixel_tile))
    ms = float(operator_ms(arithmetic, near, cold, first, table.overlap, table.overhead_us))
    parts: dict[Bound, float] = {
        "arithmetic": arithmetic,
        "memory": near + cold,
        "overhead": table.overhead_us * 1e-3,
    }
    return ms, max(parts, key=lambda part: parts[part])


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
    inner = kh * kw if per_group == 1 else per_group
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
    return _elements("relu" if function == "relu6" else function, output)


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
