"""Post-training quantization from a float graph and pictures, as [quantize] says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mobileseg.graph.ir import Array, Graph
from mobileseg.quantize.bias import corrected_bias
from mobileseg.quantize.calibrate import Ranges, mean_range, observe
from mobileseg.quantize.config import QuantizeConfig
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface, with_interface
from mobileseg.quantize.equalise import equalise, relu_for_relu6
from mobileseg.quantize.lockstep import lockstep

# Means settle within a few pictures, and all that these hold in memory at once is seen.
_REFINED_IMAGES = 32


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
    MobilesegError without images.
    """
    seen = observe(graph, batches)
    if "relu6" in config.repair:
        graph = relu_for_relu6(graph, seen)
    if "equalise" in config.repair:
        graph, seen = equalise(graph, seen)
    ranges = {name: mean_range(extremes) for name, extremes in seen.items()}
    body = quantize(graph, ranges, "int8")
    if "bias" in config.repair:
        body = lockstep(graph, body, _first(batches, _REFINED_IMAGES), corrected_bias)
    return Quantized(with_interface(body, interface), graph, ranges, bool(config.repair))


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
