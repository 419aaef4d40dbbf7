"""Post-training quantization from a float graph and pictures, as [quantize] says."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mobileseg.errors import MobilesegError, unknown
from mobileseg.graph.ir import Array, Graph, Tensor
from mobileseg.quantize.bias import corrected_bias
from mobileseg.quantize.calibrate import Ranges, observe
from mobileseg.quantize.config import Activations, QuantizeConfig, RangeBy, Repair
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface, with_interface
from mobileseg.quantize.equalise import Seen, equalise, relu_for_relu6
from mobileseg.quantize.lockstep import Visit, lockstep
from mobileseg.quantize.ranges import Histogram, histograms, ranges_by
from mobileseg.quantize.rounding import learned_rounding, worst_rounded

# Those that change the float graph, in the order in which they are applied.
_FLOAT_REPAIRS: tuple[Repair, ...] = ("relu6", "equalise")
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
    activations: Activations = "int8"


class Observed:
    """What calibration sees in a float graph, and in it as repaired: looked at once for all trials.

    batches: float images `(N, 3, H, W)`, to be walked through more than once.
    """

    def __init__(self, graph: Graph, batches: Iterable[Array]) -> None:
        self.graph, self.batches = graph, batches
        self._sources: dict[tuple[Repair, ...], tuple[Graph, Seen]] = {}
        self._histograms: dict[tuple[Repair, ...], Mapping[str, Histogram]] = {}

    def source(self, repair: Collection[Repair]) -> tuple[Graph, Seen]:
        """Return the graph with those of the repairs that are of a float graph, and its extremes.

        Raises MobilesegError without images.
        """
        wanted = _of_floats(repair)
        if wanted not in self._sources:
            self._sources[wanted] = self._source(wanted)
        return self._sources[wanted]

    def _source(self, wanted: tuple[Repair, ...]) -> tuple[Graph, Seen]:
        if not wanted:
            return self.graph, observe(self.graph, self.batches)
        graph, seen = self.source(wanted[:-1])
        if wanted[-1] == "relu6":
            return relu_for_relu6(graph, seen), seen
        return equalise(graph, seen)

    def ranges(self, method: RangeBy, repair: Collection[Repair]) -> Ranges:
        """Return the range of every activation of `source`."""
        graph, seen = self.source(repair)
        wanted = _of_floats(repair)

        def count() -> Mapping[str, Histogram]:
            if wanted not in self._histograms:
                self._histograms[wanted] = histograms(graph, self.batches, seen)
            return self._histograms[wanted]

        return ranges_by(method, seen, count)


def _of_floats(repair: Collection[Repair]) -> tuple[Repair, ...]:
    return tuple(each for each in _FLOAT_REPAIRS if each in repair)


def post_train(
    graph: Graph,
    batches: Iterable[Array],
    config: QuantizeConfig,
    interface: Interface = "uint8",
    observed: Observed | None = None,
) -> Quantized:
    """Return the graph in int8.

    batches: float images `(N, 3, H, W)`, to be walked through more than once. observed: what was
    seen in this graph on them, where it was looked at before. Raises MobilesegError without images,
    for a layer to keep that there is not, and for an `auto` that nobody has settled.
    """
    if config.repair == "auto" or config.keep_float == "auto":
        raise MobilesegError("quantize: repair and keep_float are to be chosen before; not auto")
    kept = kept_layers(graph, config.keep_float)
    observed = observed or Observed(graph, batches)
    graph, _ = observed.source(config.repair)
    ranges = observed.ranges(config.ranges, config.repair)
    fine = config.activations == "int16"
    body = quantize(graph, ranges, "int8", kept, config.activations)
    body = with_interface(_refined(graph, body, batches, config), interface)
    repaired = bool(config.repair or kept or fine)
    return Quantized(body, graph, ranges, repaired, config.activations)


def kept_layers(graph: Graph, patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the layers that stay in float. Raises MobilesegError for a glob that matches none."""
    every = list(dict.fromkeys(node.layer for node in graph.nodes))
    for pattern in patterns:
        if not fnmatch.filter(every, pattern):
            raise unknown("quantize: keep_float", "layer", pattern, every)
    matched = {name for pattern in patterns for name in fnmatch.filter(every, pattern)}
    return tuple(name for name in every if name in matched)


def with_kept(made: Quantized, layers: Iterable[str], interface: Interface = "uint8") -> Graph:
    """Return the int8 graph with other layers in float; the rest keeps its repaired constants."""
    graph = quantize(made.source, made.ranges, interface, tuple(layers), made.activations)
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
