"""What an ONNX file shows to whoever loads it."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from mobileseg.reading.onnx.file import parse_onnx
from mobileseg.reading.sketch import printable
from mobileseg.reading.surface import Edge, Surface

_TYPES = {number: name.lower() for name, number in TensorProto.DataType.items()}
_NAMES = {"float": "float32", "double": "float64"}
_OWN = {"", "ai.onnx"}


def onnx_surface(data: bytes, where: str) -> Surface:
    """Return the file's surface. Raises MobilesegError for damage or an unknown operator set."""
    model = parse_onnx(data, where)
    graph = model.graph
    stored = {each.name for each in graph.initializer}
    makers = {name: str(node.op_type) for node in graph.node for name in node.output}
    domains = {printable(node.domain) for node in graph.node if node.domain not in _OWN}
    outside = [each for each in graph.initializer if each.data_location == TensorProto.EXTERNAL]
    return Surface(
        where,
        1,
        tuple(_edge(each, "") for each in graph.input if each.name not in stored),
        tuple(_edge(each, makers.get(each.name, "")) for each in graph.output),
        opset=next(each.version for each in model.opset_import if each.domain in _OWN),
        foreign_domains=tuple(sorted(domains)),
        outside_data=len(outside),
        producer=printable(model.producer_name),
    )


def _edge(info: Any, maker: str) -> Edge:
    kind = info.type.tensor_type
    name = _TYPES.get(kind.elem_type, f"type {kind.elem_type}")
    shape = tuple(max(int(dim.dim_value), 0) for dim in kind.shape.dim)
    return Edge(printable(info.name), shape, _NAMES.get(name, name), made_by=printable(maker))
