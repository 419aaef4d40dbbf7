"""A graph in a file of ours: structure as JSON, constants as safetensors, never a pickle.

The file is one safetensors file whose header holds the structure. Without its constants a graph is
a few kilobytes, and still all that counting and pricing need: they come back as zeros that take no
memory.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobileseg.errors import MobilesegError, unknown
from mobileseg.files import write_atomic
from mobileseg.graph.ir import DType, Graph, Node, QuantParams, Tensor, assemble
from mobileseg.graph.ops import OPS, Op
from mobileseg.validate import Table, parse

_KEY = "mobileseg_graph"
# Of the structure's form; a file of another one is made again, not guessed at.
_VERSION = 1
_KINDS: Mapping[str, type[Op]] = {op.__name__: op for op in OPS}


@dataclass(frozen=True)
class _Quant(Table):
    """The scales stand in the file as `scale NAME`, the constants' data as `data NAME`."""

    zero_point: int
    axis: int | None


@dataclass(frozen=True)
class _Tensor(Table):
    name: str
    shape: tuple[int, ...]
    dtype: DType
    quant: _Quant | None
    constant: bool


@dataclass(frozen=True)
class _Node(Table):
    kind: str
    op: dict[str, Any]
    inputs: tuple[str, ...]
    output: str
    layer: str


@dataclass(frozen=True)
class _Graph(Table):
    version: int
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[_Node, ...]
    tensors: tuple[_Tensor, ...]


def save_graph(graph: Graph, path: Path, constants: bool = True, source: str = "") -> None:
    """Write the graph; `source` says what it was made of, for `load_graph` to compare."""
    from safetensors.numpy import save  # noqa: PLC0415  (kept off start-up)

    nodes = [
        _Node(node.op.kind, asdict(node.op), node.inputs, node.output, node.layer)
        for node in graph.nodes
    ]
    tensors = [_plain(tensor) for tensor in graph.tensors.values()]
    plain = _Graph(_VERSION, source, graph.inputs, graph.outputs, tuple(nodes), tuple(tensors))
    data = {
        f"scale {tensor.name}": tensor.quant.scale
        for tensor in graph.tensors.values()
        if tensor.quant is not None
    }
    data |= {
        f"data {tensor.name}": np.ascontiguousarray(tensor.data)
        for tensor in graph.tensors.values()
        if constants and tensor.data is not None
    }
    write_atomic(path, save(data, {_KEY: json.dumps(asdict(plain))}))


def load_graph(path: Path, source: str | None = None) -> Graph:
    """Return the graph that `save_graph` wrote; constants that it left out are zeros.

    Raises MobilesegError for a damaged file, and where it was made of another `source`.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    if not path.is_file():
        raise MobilesegError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="np") as file:
            header = (file.metadata() or {}).get(_KEY)
            if header is None:
                raise MobilesegError(
                    f"{path}: is no saved graph; a run's stand in its latency/ folder"
                )
            data = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        plain = parse(_Graph, json.loads(header), str(path))
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise MobilesegError(f"{path}: is no saved graph ({error}); make it again") from None
    if plain.version != _VERSION:
        raise MobilesegError(f"{path}: has version {plain.version}, not {_VERSION}; make it again")
    if source is not None and plain.source != source:
        raise MobilesegError(f"{path}: was made of another network; make it again")
    tensors = {each.name: _tensor(each, data, path) for each in plain.tensors}
    missing = [name for name in plain.inputs if name not in tensors]
    if missing:
        raise MobilesegError(f"{path}: input {missing[0]!r} is missing; make it again")
    ops = _ops(plain, path)
    nodes = [
        Node(op, each.inputs, each.output, each.layer)
        for op, each in zip(ops, plain.nodes, strict=True)
    ]
    try:
        return assemble([tensors[name] for name in plain.inputs], nodes, plain.outputs, tensors)
    except (MobilesegError, ValueError, TypeError, IndexError, ZeroDivisionError) as error:
        raise MobilesegError(f"{path}: is no saved graph ({error}); make it again") from None


def _plain(tensor: Tensor) -> _Tensor:
    quant = tensor.quant
    return _Tensor(
        tensor.name,
        tuple(int(n) for n in tensor.shape),
        tensor.dtype,
        None if quant is None else _Quant(quant.zero_point, quant.axis),
        tensor.data is not None,
    )


def _tensor(plain: _Tensor, data: Mapping[str, Any], path: Path) -> Tensor:
    made = None
    if plain.quant is not None:
        scale = data.get(f"scale {plain.name}")
        if scale is None or scale.dtype != np.float64 or scale.ndim != 1:
            raise MobilesegError(f"{path}: {plain.name} has no scale; make it again")
        made = QuantParams(scale, plain.quant.zero_point, plain.quant.axis)
    if not plain.constant:
        return Tensor(plain.name, plain.shape, plain.dtype, made)
    if any(n < 0 for n in plain.shape):
        raise MobilesegError(f"{path}: {plain.name} has shape {plain.shape}; make it again")
    # Zeros of one element, shown as many: they take no memory.
    stored = data.get(f"data {plain.name}", np.broadcast_to(np.zeros((), plain.dtype), plain.shape))
    if stored.dtype != np.dtype(plain.dtype) or stored.shape != plain.shape:
        raise MobilesegError(
            f"{path}: {plain.name} is {stored.dtype}{list(stored.shape)}; make it again"
        )
    return Tensor(plain.name, plain.shape, plain.dtype, made, stored)


def _ops(plain: _Graph, path: Path) -> list[Op]:
    """Return the nodes' operators: one check per kind, for that of each would take longer."""
    places: dict[str, list[int]] = {}
    for place, node in enumerate(plain.nodes):
        places.setdefault(node.kind, []).append(place)
    made: dict[int, Op] = {}
    for kind, found in places.items():
        if kind not in _KINDS:
            raise unknown(str(path), "operator", kind, _KINDS)
        given = [plain.nodes[place].op for place in found]
        # A type made of a name: mypy cannot follow, pydantic can.
        several: Any = types.GenericAlias(tuple, (_KINDS[kind], ...))
        ops = parse(several, given, f"{path}: {kind}")
        made |= dict(zip(found, ops, strict=True))
    return [made[place] for place in range(len(plain.nodes))]
