"""`mobileseg latency --frame`: what a camera frame costs around the network, priced as it is.

Resize in, the network, resize of the logits to the frame, argmax; of a network that ends in argmax
its map is resized. No public table measures these kernels on a phone: their prices are assumed from
ratios measured on x86-64, and say so by a wide band. How the frame reaches memory and how the mask
is drawn is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import DType, Graph, Node, Tensor, assemble
from mobileseg.graph.ops import ArgMax, Dequantize, Op, Resize, Shape
from mobileseg.latency.price import price
from mobileseg.latency.table import Pricing

_LARGEST = 8192


def parse_frame(text: str) -> tuple[int, int]:
    """Return (height, width) of "480,640". Raises MobilesegError for anything else."""
    parts = text.replace("x", ",").split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise MobilesegError(f"--frame: {text!r}; give height,width as in 480,640")
    height, width = (int(part) for part in parts)
    if not (1 <= height <= _LARGEST and 1 <= width <= _LARGEST):
        raise MobilesegError(f"--frame: {text!r}; each side is 1 to {_LARGEST}")
    return height, width


def whole_frame(
    graph: Graph, pricing: Pricing, frame: tuple[int, int], half: bool = False
) -> dict[str, Any]:
    """Return the rows around the network, the network's time, and the sum with its band.

    Raises MobilesegError where several inputs or outputs leave open which is the picture.
    """
    for what, names in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        if len(names) != 1:
            raise MobilesegError(
                f"--frame: the network has {len(names)} {what} ({', '.join(names)}), and which one "
                "is of the frame is not known; leave it out"
            )
    profile = pricing.profile
    # A profile that knows no integers prices the picture as floats: slower, and no guess.
    pixel: DType = "float32" if profile.int8 is None else "uint8"
    parts = [*_before(graph, frame, pixel), *_after(graph, frame)]
    rows = [price(part, profile, half) for part in parts]
    around = tuple(row for each in rows for row in each.rows)
    together = Pricing((*pricing.rows, *around), profile, _factor([pricing, *rows]))
    return {
        "size": list(frame),
        "rows": [
            {
                "step": each.rows[0].layer,
                "kernel": each.rows[0].kernel,
                "ms": each.ms,
                "low_ms": each.rows[0].low_ms,
                "high_ms": each.rows[0].high_ms,
                "basis": each.rows[0].basis,
            }
            for each in rows
        ],
        "network_ms": pricing.ms,
        "network_low_ms": pricing.low_ms,
        "network_high_ms": pricing.high_ms,
        "ms": together.ms,
        "low_ms": together.low_ms,
        "high_ms": together.high_ms,
        "coverage": together.coverage(),
    }


def _factor(parts: Sequence[Pricing]) -> float:
    """Return the band's factor of a sum: each part's, by its share of the time."""
    total = sum(part.ms for part in parts)
    return exp(sum(part.ms / total * log(part.factor) for part in parts))


def _before(graph: Graph, frame: tuple[int, int], pixel: DType) -> list[Graph]:
    """The picture is resized as bytes; a float network's pixels become floats afterwards."""
    given = graph[graph.inputs[0]]
    size = (given.shape[2], given.shape[3])
    steps = []
    if size != frame:
        steps.append(_one("resize in", Resize(size), (1, 3, *frame), pixel))
    if given.dtype == "float32" and pixel == "uint8":
        steps.append(_one("bytes to floats", Dequantize(), (1, 3, *size), pixel))
    return steps


def _after(graph: Graph, frame: tuple[int, int]) -> list[Graph]:
    out = graph[graph.outputs[0]]
    if len(out.shape) == 3:  # class numbers, of four bytes
        return _after_classes(out.shape, frame)
    channels = out.shape[1]
    steps = []
    if out.shape[2:] != frame:
        steps.append(_one("resize out", Resize(frame), out.shape, out.dtype))
    if channels > 1:
        steps.append(_one("argmax out", ArgMax(), (1, channels, *frame), out.dtype))
    return steps


def _after_classes(shape: Shape, frame: tuple[int, int]) -> list[Graph]:
    """Numbers of classes are not mixed: the nearest one is taken, as large as a float."""
    n, height, width = shape
    if (height, width) == frame:
        return []
    return [_one("resize out", Resize(frame, "nearest"), (n, 1, height, width), "float32")]


def _one(layer: str, op: Op, shape: tuple[int, ...], dtype: DType) -> Graph:
    """A graph of a single operator, as the price wants it."""
    given = Tensor("x", shape, dtype)
    kept: DType = "float32" if isinstance(op, Dequantize) else dtype
    out = Tensor("y", (), "int32" if isinstance(op, ArgMax) else kept)
    return assemble([given], [Node(op, ("x",), "y", layer)], ["y"], {"y": out})
