"""Graph -> how long every operator takes on a device.

Row i of the answer is operator i of the TFLite file. The precision of an operator comes from the
types of its tensors. An operator that the profile has no coefficients for is an error with a name,
never a zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Graph, Node
from mobileseg.latency.cost import (
    Features,
    Floats,
    Memory,
    arithmetic_ms,
    filled,
    filled_pixels,
    first_tile,
    operator_ms,
)
from mobileseg.latency.kernels import features, folded, touched
from mobileseg.latency.profile import Coefficients, DeviceProfile, Kernel, Precision
from mobileseg.latency.table import Bound, Pricing, Row


def price(graph: Graph, profile: DeviceProfile, half: bool = False) -> Pricing:
    """Return a row per node and the sums.

    half: floats are computed and kept at 16 bits, as runtimes do on request.
    Raises MobilesegError for an operator, a type or a precision without a price.
    """
    work = _workload(graph, profile.fuses, half)
    factors = [profile.coefficients(each).error.factor for each in work.precisions]
    tables = [profile.coefficients(use.precision) for use in work.uses]
    kernels = [_kernel(profile, table, use) for use, table in zip(work.uses, tables, strict=True)]
    ms, bounds = _estimates(work, kernels, tables)
    doubts = [table.doubt(kernel) for table, kernel in zip(tables, kernels, strict=True)]
    rows = _rows_of(work, kernels, doubts, ms, bounds)
    return Pricing(rows, profile, max(factors, default=1.0))


@dataclass(frozen=True)
class _Use:
    """A kernel at one precision, and the first node that it runs."""

    kernel: str
    precision: Precision
    node: Node


@dataclass(frozen=True)
class _Workload:
    """A graph's operators in columns: of their price all that is the same on every device.

    same: the part of each node's row that no device changes. idle: why a node takes no time, or
    nothing. All other columns are of the nodes that take some; `use`: places in `uses`.
    """

    same: tuple[dict[str, Any], ...]
    idle: tuple[str, ...]
    precisions: tuple[Precision, ...]
    uses: tuple[_Use, ...]
    use: NDArray[np.intp]
    work: Floats
    reduction: Floats
    pixels: Floats
    channels: Floats
    nbytes: Floats
    weights: Floats
    between: Floats


_COLUMNS = ("work", "reduction", "pixels", "channels", "nbytes", "weights", "between")
# Of each graph that is alive: one is priced for many devices.
_WORKLOADS: WeakKeyDictionary[Graph, dict[tuple[object, ...], _Workload]] = WeakKeyDictionary()


def _workload(graph: Graph, fuses: Sequence[str], half: bool) -> _Workload:
    known = _WORKLOADS.setdefault(graph, {})
    key = (*fuses, half)
    if key not in known:
        known[key] = _gathered(graph, fuses, half)
    return known[key]


def _gathered(graph: Graph, fuses: Sequence[str], half: bool) -> _Workload:
    between = touched(graph)
    precisions = [precision_of(graph, node, half) for node in graph.nodes]
    shapes = [
        _at(precision, features(graph, node, between, fuses))
        for node, precision in zip(graph.nodes, precisions, strict=True)
    ]
    idle = tuple(folded(graph, node, fuses) for node in graph.nodes)
    working = [i for i, why in enumerate(idle) if not why]
    uses: dict[tuple[str, Precision], _Use] = {}
    for i in working:
        kernel, precision = shapes[i].kernel, precisions[i]
        uses.setdefault((kernel, precision), _Use(kernel, precision, graph.nodes[i]))
    places = {key: place for place, key in enumerate(uses)}
    numbers = [[getattr(shapes[i], name) for name in _COLUMNS] for i in working]
    return _Workload(
        tuple(_same(graph, i, shape) for i, shape in enumerate(shapes)),
        idle,
        tuple(sorted(set(precisions))),
        tuple(uses.values()),
        np.array([places[shapes[i].kernel, precisions[i]] for i in working], np.intp),
        *np.array(numbers, np.float64).reshape(-1, len(_COLUMNS)).T,
    )


def _at(precision: Precision, shape: Features) -> Features:
    return shape.halved() if precision == "float16" else shape


def _same(graph: Graph, index: int, shape: Features) -> dict[str, Any]:
    node = graph.nodes[index]
    return {
        "index": index,
        "layer": node.layer,
        "kind": node.op.kind,
        "kernel": shape.kernel,
        "input_shapes": tuple(tensor.shape for tensor in graph.activations(node)),
        "output_shape": graph[node.output].shape,
        "macs": graph.macs(node),
        "params": graph.params(node),
        "bytes_moved": int(shape.nbytes + shape.weights),
    }


def _rows_of(
    work: _Workload,
    kernels: Sequence[Kernel],
    doubts: Sequence[float],
    ms: Floats,
    bounds: Sequence[Bound],
) -> tuple[Row, ...]:
    """Return the rows: of nodes that take time in the order of the columns, of the others zeros."""
    total = float(ms.sum())
    used = [(kernels[place], doubts[place]) for place in work.use]
    costs = zip(ms.tolist(), bounds, used, strict=True)
    return tuple(
        Row(**same, **_NO_TIME, note=why) if why else Row(**same, **_cost(*next(costs), total))
        for same, why in zip(work.same, work.idle, strict=True)
    )


def _cost(ms: float, bound: Bound, used: tuple[Kernel, float], total: float) -> dict[str, Any]:
    kernel, doubt = used
    return {
        "ms": ms,
        "low_ms": ms / kernel.error_factor,
        "high_ms": ms * kernel.error_factor,
        "doubt": doubt,
        "share": ms / total,
        "bound": bound,
        "basis": kernel.basis,
        "note": kernel.note,
    }


_NO_TIME: dict[str, Any] = {
    **dict.fromkeys(("ms", "low_ms", "high_ms", "share"), 0.0),
    "doubt": 1.0,
    "bound": "folded",
    "basis": "fitted",
}


def precision_of(graph: Graph, node: Node, half: bool = False) -> Precision:
    """Return the precision that a node is priced at, by the types of its tensors.

    Raises MobilesegError for a type without a price.
    """
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


def _kernel(profile: DeviceProfile, table: Coefficients, use: _Use) -> Kernel:
    found = table.kernels.get(use.kernel)
    if found is None:
        raise MobilesegError(
            f"{use.node.layer}: {use.node.op.kind} runs as kernel {use.kernel!r}, which device "
            f"{profile.name} does not price at {use.precision}; "
            f"add [{use.precision}.kernels.{use.kernel}] to the profile"
        )
    return found


def _estimates(
    work: _Workload, kernels: Sequence[Kernel], tables: Sequence[Coefficients]
) -> tuple[Floats, list[Bound]]:
    """Return milliseconds and the largest part of each."""

    def column(name: str, of: Sequence[Kernel] | Sequence[Coefficients]) -> Floats:
        return np.array([getattr(each, name) for each in of], np.float64)[work.use]

    tile = column("pixel_tile", kernels)
    pixels = filled_pixels(work.pixels, tile)
    channels = filled(work.channels, column("channel_tile", kernels))
    arithmetic = arithmetic_ms(
        work.work * (pixels / work.pixels) * (channels / work.channels),
        work.reduction,
        pixels,
        column("giga_per_s", kernels),
        column("reduction_half", kernels),
        column("pixels_half", kernels),
    )
    memory = Memory(*(column(field.name, tables) for field in fields(Memory)))
    near = memory.near_ms(work.nbytes, work.weights)
    cold = memory.cold_ms(work.weights, work.between)
    overlap, overhead_us = column("overlap", tables), column("overhead_us", tables)
    first = first_tile(pixels, tile)
    ms = operator_ms(arithmetic, near, cold, first, overlap, overhead_us)
    parts = np.stack([arithmetic, near + cold, overhead_us * 1e-3])
    return ms, [_PARTS[i] for i in parts.argmax(axis=0)]


_PARTS: tuple[Bound, ...] = ("arithmetic", "memory", "overhead")
