"""A float graph and its ranges to an int8 graph, by TFLite's 8-bit specification."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.execute_int8 import LIMITS
from mobileseg.graph.ir import Array, DType, Graph, Node, QuantParams, Tensor, hollow, is_hollow
from mobileseg.graph.ops import Add, Conv2d, ConvTranspose2d, PRelu, Quantize
from mobileseg.quantize.calibrate import Ranges
from mobileseg.quantize.config import Activations
from mobileseg.quantize.edges import (
    Interface,
    is_real,
    with_borders,
    with_interface,
    with_own_scales,
)
from mobileseg.quantize.rules import require_int16, rule

_ONE = np.ones(1)
# Pixels enter as (x - 128) / 128: with these an int8 step is the pixel minus 128, exactly, and an
# int16 one 256 times that.
_IMAGE = {"int8": QuantParams(_ONE / 2**7), "int16": QuantParams(_ONE / 2**15)}
_UNIT = {"int8": QuantParams(_ONE / 256, -128), "int16": QuantParams(_ONE / 2**15)}
# XNNPACK refuses a convolution whose input * weight / output scale is below 2 ** -32; a channel
# of almost nothing is given a coarser scale instead, far below one step of the output.
LEAST_RATIO = 2.0**-24
# XNNPACK refuses ratios of 256 and more.
LARGEST_RATIO = 128.0
# int32 holds the bias with room for the sum that it is added to; so does int64, beside int16
# activations, of which TFLite's kernels take 48 bits.
BIAS_LIMITS: dict[DType, float] = {"int32": 2.0**30, "int64": 2.0**46}
# A layer of no more values keeps them apart on one scale for all of its channels.
_MOST_VALUES = 64


def quantize(
    graph: Graph,
    ranges: Ranges,
    interface: Interface = "uint8",
    keep_float: Collection[str] = (),
    activations: Activations = "int8",
) -> Graph:
    """Return the int8 graph: weights symmetric per output channel in [-127, 127], activations
    asymmetric per tensor, bias int32 at input scale * weight scale. With activations of int16
    these are symmetric, and the bias is int64.

    The input keeps its name: as uint8 its byte is the pixel. A uint8 or float32 interface puts
    Quantize or Dequantize nodes at the edges, `keep_float`, the layers that stay in float, others
    around these. Raises MobilesegError naming a tensor without range, and an operator that has
    no int16 kernel.
    """
    if keep_float:
        graph, ranges = with_borders(graph, ranges, keep_float, interface)
    reals = {node.output for node in graph.nodes if is_real(node, keep_float)}
    integers = [node for node in graph.nodes if node.output not in reals]
    if activations == "int16":
        for node in integers:
            require_int16(node)
    graph, ranges = with_own_scales(graph, ranges, joined(graph, integers), reals)
    body = _body(graph, _activation_quants(graph, ranges, reals, activations), reals, activations)
    return with_interface(body, interface)


def scale_of(low: float, high: float, dtype: Activations = "int8") -> QuantParams:
    """Return the scale and zero point that span [low, high] and hold zero exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    if dtype == "int16":
        return QuantParams(_ONE * float(np.float32(max(-low, high, 1e-8) / LIMITS[dtype][1])))
    # The file stores float32: what we compute with is what the runtime reads.
    scale = float(np.float32(max(high - low, 1e-8) / 255))
    zero_point = int(np.clip(np.round(-128 - low / scale), -128, 127))
    return QuantParams(np.array([scale]), zero_point)


def _activation_quants(
    graph: Graph, ranges: Ranges, reals: Collection[str], dtype: Activations
) -> dict[str, QuantParams]:
    """Return every activation's scale; tensors that must share one get that of their union."""
    integers = [node for node in graph.nodes if node.output not in reals]
    groups = shared(graph, integers)
    fixed = fixed_quants(graph, integers, dtype)
    indices = {node.output for node in integers if rule(node) == "index"}
    quants: dict[str, QuantParams] = {}
    for members in groups:
        if indices.intersection(members):
            continue
        given = [fixed[name] for name in members if name in fixed]
        for name in members:
            if name not in ranges and not given:
                raise MobilesegError(f"{name}: has no range; calibrate the graph it belongs to")
        spans = [ranges[name] for name in members if name in ranges]
        low, high = min((s[0] for s in spans), default=0.0), max((s[1] for s in spans), default=0.0)
        quants |= dict.fromkeys(members, given[0] if given else scale_of(low, high, dtype))
    _widen(graph, integers, [group for group in groups if not fixed.keys() & set(group)], quants)
    return quants


def _widen(
    graph: Graph,
    integers: Sequence[Node],
    groups: list[list[str]],
    quants: dict[str, QuantParams],
) -> None:
    """Coarsen outputs that are next to nothing beside what they are made of (a dead ReLU).

    TFLite's kernels end the process at a ratio of scales they cannot represent.
    """
    group_of = {name: group for group in groups for name in group}
    for node in integers:
        if isinstance(node.op, Quantize) or rule(node) != "own" or node.output not in group_of:
            continue
        least = _unit(graph, node, quants) / LARGEST_RATIO
        quant = quants[node.output]
        if quant.scale[0] < least:
            wider = QuantParams(np.array([float(np.float32(least))]), quant.zero_point)
            quants |= dict.fromkeys(group_of[node.output], wider)


def _unit(graph: Graph, node: Node, quants: dict[str, QuantParams]) -> float:
    """Return what one step of the inputs is worth in the output, at most."""
    steps = []
    for name in node.inputs[:2]:
        data = graph[name].data
        if data is None:
            steps.append(float(quants[name].scale[0]))
        else:
            # Beside int16 a constant is finer than this, and the unit it says too large: harmless.
            steps.append(float(np.abs(data).max(initial=0)) / 127)
    # A positive value goes through a PReLU as it is.
    return max(steps) if isinstance(node.op, Add | PRelu) else float(np.prod(steps))


def fixed_quants(
    graph: Graph, integers: Sequence[Node], dtype: Activations = "int8"
) -> dict[str, QuantParams]:
    """Return the scales that do not depend on ranges: of the image and of what lies in [0, 1]."""
    units = {node.output: _UNIT[dtype] for node in integers if rule(node) == "unit"}
    return {graph.inputs[0]: _IMAGE[dtype], **units}


def joined(graph: Graph, integers: Sequence[Node]) -> set[str]:
    """Return the tensors of fixed scale that would have to share it with tensors of another."""
    fixed = fixed_quants(graph, integers)
    rules = {node.output: rule(node) for node in integers}
    found: set[str] = set()
    for members in shared(graph, integers):
        given = [name for name in members if name in fixed]
        alike = all(fixed[name].same_as(fixed[given[0]]) for name in given)
        if not alike or (given and any(rules.get(name) == "own" for name in members)):
            found.update(given)
    return found


def shared(graph: Graph, integers: Sequence[Node]) -> list[list[str]]:
    """Return the activations in groups that share a scale."""
    group = {graph.inputs[0]: [graph.inputs[0]]}
    for node in integers:
        mine = [node.output]
        if rule(node) == "shared":
            for tensor in graph.activations(node):
                other = group[tensor.name]
                if other is not mine:
                    mine = other + mine
                    group |= dict.fromkeys(mine, mine)
        group |= dict.fromkeys(mine, mine)
    return list({id(members): members for members in group.values()}.values())


def _body(
    graph: Graph, quants: dict[str, QuantParams], reals: Collection[str], steps: Activations
) -> Graph:
    """Return the graph with integer activations and constants but for `reals`, no edges yet."""
    activations = []
    for name, tensor in graph.tensors.items():
        if tensor.data is None and name not in reals:
            dtype: DType = steps if name in quants else "int32"
            activations.append(replace(tensor, dtype=dtype, quant=quants.get(name)))
    nodes, constants = [], []
    for node in graph.nodes:
        if node.output in reals:
            nodes.append(node)
            continue
        if isinstance(node.op, Conv2d | ConvTranspose2d):
            made = _conv_constants(graph, node, quants, steps)
            inputs = (node.inputs[0], *(tensor.name for tensor in made))
        else:
            made = [stored_constant(tensor, steps) for tensor in graph.constants(node)]
            names = {tensor.name.removesuffix("_int8"): tensor.name for tensor in made}
            inputs = tuple(names.get(name, name) for name in node.inputs)
        nodes.append(replace(node, inputs=inputs))
        constants += made
    image = next(tensor for tensor in activations if tensor.name == graph.inputs[0])
    return graph.edit(nodes, [*activations, *constants], inputs=[image])


def stored_constant(tensor: Tensor, dtype: Activations = "int8") -> Tensor:
    """Return the constant of an element-wise op as integers with a scale of its own."""
    assert tensor.data is not None
    quant = scale_of(float(tensor.data.min()), float(tensor.data.max()), dtype)
    steps = np.round(tensor.data / quant.scale[0]) + quant.zero_point
    data = np.clip(steps, *LIMITS[dtype]).astype(dtype)
    return Tensor(f"{tensor.name}_int8", tensor.shape, dtype, quant, data)


def has_few_values(weight: Array) -> bool:
    """Whether a layer is clustered: then all of its channels share one scale.

    With a scale for each, 32 values would be other bytes in every channel, and compress badly.
    """
    some: Array = weight[weight != 0]
    if len(np.unique(some[: 4 * _MOST_VALUES])) > _MOST_VALUES:  # most layers are told by these
        return False
    return 1 <= len(np.unique(some)) <= min(_MOST_VALUES, some.size // 2)


def _conv_constants(
    graph: Graph, node: Node, quants: dict[str, QuantParams], activations: Activations
) -> list[Tensor]:
    """Return a convolution's weight as int8 and its bias (zeros where it had none)."""
    dtype: DType = "int64" if activations == "int16" else "int32"
    weight = _data(graph, node.inputs[1])
    axis = 1 if isinstance(node.op, ConvTranspose2d) else 0
    channels = weight.shape[axis]
    bias = _data(graph, node.inputs[2]) if len(node.inputs) > 2 else np.zeros(channels)
    into = float(quants[node.inputs[0]].scale[0])
    out = float(quants[node.output].scale[0])
    largest = np.zeros(channels)
    if not is_hollow(weight):
        largest = np.abs(weight).max(axis=tuple(i for i in range(4) if i != axis))
        if has_few_values(weight):
            largest[:] = largest.max()
    least = np.maximum(out / into * LEAST_RATIO, np.abs(bias) / (into * BIAS_LIMITS[dtype]))
    scale = np.maximum(largest / 127, least).astype(np.float32).astype(np.float64)
    along = [1] * 4
    along[axis] = -1
    steps = hollow(weight.shape, "int8")
    if not is_hollow(weight):
        # Divided in float64: a weight halfway between two steps goes to the even one.
        steps = np.clip(np.round(weight / scale.reshape(along)), -127, 127).astype(np.int8)
    sums = np.round(bias / (into * scale)).astype(dtype)
    name, layer = node.inputs[1], node.layer
    return [
        Tensor(f"{name}_int8", steps.shape, "int8", QuantParams(scale, 0, axis), steps),
        Tensor(
            f"{layer}.bias_{dtype}" if len(node.inputs) < 3 else f"{node.inputs[2]}_{dtype}",
            sums.shape,
            dtype,
            QuantParams((into * scale).astype(np.float32).astype(np.float64), 0, 0),
            sums,
        ),
    ]


def _data(graph: Graph, name: str) -> Array:
    data = graph[name].data
    assert data is not None
    return data
