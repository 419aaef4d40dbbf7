"""Post-training quantization from a float graph and pictures, as [quantize] says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mobileseg.graph.ir import Array, Graph
from mobileseg.quantize.calibrate import Ranges, mean_range, observe
from mobileseg.quantize.config import QuantizeConfig
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface


@dataclass(frozen=True)
class Quantized:
    """An int8 graph and what it was made of: the float graph as repaired, and its ranges."""

    graph: Graph
    source: Graph
    ranges: Ranges


def post_train(
    graph: Graph,
    batches: Iterable[Array],
    config: QuantizeConfig,  # noqa: ARG001
    interface: Interface = "uint8",
) -> Quantized:
    """Return the graph in int8.

    batches: float images `(N, 3, H, W)`, to be walked through more than once. Raises
    MobilesegError without images.
    """
    ranges = {name: mean_range(seen) for name, seen in observe(graph, batches).items()}
    return Quantized(quantize(graph, ranges, interface), graph, ranges)
