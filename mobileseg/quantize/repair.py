"""Post-training quantization from a float graph and pictures, as [quantize] says."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mobileseg.errors import MobilesegError, unknown
from mobileseg.graph.ir import Array, Graph, Tensor
from mobileseg.quantize.bias import corrected_bias
from mobileseg.quantize.calibrate import Ranges, observe
from mobileseg.quantize.config import QuantizeConfig
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface, with_interface
from mobileseg.quantize.equalise import equalise, relu_for_relu6
from mobileseg.quantize.lockstep import Visit, lockstep
from mobileseg.quantize.ranges import ranges_by
from mobileseg.quantize.rounding import learned_rounding, worst_rounded

# Means settle within a few pictures, and all that these hold in memory at once is seen.
_REFINED_IMAGES = 32
# To tell bad layers from good ones needs fewer.
_RANKED_IMAGES = 4


@dataclass(frozen=True)
class Quantized:
    """An int8 graph and what it was made of: the float graph as repaired, and its ranges.

    `repaired`: it is not just what `quantize` makes of the first float graph and the ranges.
    """

    graph: Graph
    source: Graph
    ranges: Ranges
    repaired: bool


def post_train(
    graph: Graph, batches: Iterable[Array], config: QuantizeConfig, interface: Interface = "uint8"
) -> Quantized:
    """Return the graph in int8.

    batches: float images `(N, 3, H, W)`, to be walked through more than once. Raises
    MobilesegError without images, for a layer to keep that there is not, and for an `auto` that
    nobody has settled.
    """
    if "auto" in (config.repair, config.keep_float):
        raise MobilesegError("quantize: repair and keep_float are to be chosen before; not auto")
    kept = kept_layers(graph, config.keep_float)
    seen = observe(graph, batches)
    if "relu6" in config.repair:
        graph = relu_for_relu6(graph, seen)
    if "equalise" in config.repair:
        graph, seen = equalise(graph, seen)
    ranges = ranges_by(config.ranges, graph, batches, seen)
    body = quantize(graph, ranges, "int8", kept)
    body = _refined(graph, body, batches, config)
    return Quantized(with_interface(body, interface), graph, ranges, bool(config.repair or kept))


def kept_layers(graph: Graph, patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the layers that stay in float. Raises MobilesegError for a glob that matches none."""
    every = list(dict.fromkeys(node.layer for node in graph.nodes))
    for pattern in patterns:
        if not fnmatch.filter(every, pattern):
            raise unknown("quantize: keep_float", "layer", pattern, every)
    matched = {name for pattern in patterns for name in fnmatch.filter(every, pattern)}
    return tuple(name for name in every if name in matched)


def with_kept(made: Quantized, layers: Iterable[str]) -> Graph:
    """Return the int8 graph with other layers in float; the rest keeps its repaired constants."""
    graph = quantize(made.source, made.ranges, "uint8", tuple(layers))
    repaired = {
        tensor.name: tensor
        for tensor in made.graph.tensors.values()
        if tensor.data is not None and tensor.quant is not None
    }
    return graph.with_tensors(
        repaired[tensor.name]
        for tensor in graph.tensors.values()
        if tensor.name in repaired and _like(tensor, repaired[tensor.name])
    )


def _like(a: Tensor, b: Tensor) -> bool:
    return a.quant is not None and b.quant is not None and a.quant.same_as(b.quant)


def _refined(graph: Graph, body: Graph, batches: Iterable[Array], config: QuantizeConfig) -> Graph:
    """Return the int8 graph with its weights rounded anew and its biases corrected, if wished."""
    if not {"round", "bias"} & {*config.repair}:
        return body
    images = _first(batches, _REFINED_IMAGES)
    visits: list[Visit] = []
    if "round" in config.repair:
        worst = worst_rounded(graph, body, images[:_RANKED_IMAGES], config.round_layers)
        visits.append(learned_rounding(worst))
    if "bias" in config.repair:
        visits.append(corrected_bias)
    return lockstep(graph, body, images, *visits)


def _first(batches: Iterable[Array], count: int) -> Array:
    """Return the first images in one batch."""

    def each() -> Iterator[Array]:
        left = count
        for batch in batches:
            yield batch[:left]
            left -= len(batch)
            if left <= 0:
                return

    return np.concatenate(list(each()))
