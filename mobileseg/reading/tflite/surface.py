"""What a TFLite file shows to whoever loads it, without reading its operators' options.

Source: tensorflow/lite/schema/schema.fbs (v3a).
"""

from __future__ import annotations

from mobileseg.errors import MobilesegError
from mobileseg.graph.ops import Shape
from mobileseg.reading.flat import Buffer, Table
from mobileseg.reading.sketch import MOST_OPERATORS, printable
from mobileseg.reading.surface import Edge, Metadata, Surface
from mobileseg.reading.tflite.file import IDENTIFIER, OPERATORS, TYPES
from mobileseg.reading.tflite.metadata import METADATA, packed_files, read_metadata

# What changes the type of values, or their place and number, and not what they mean.
_MOVERS = {
    *("QUANTIZE", "DEQUANTIZE", "CAST", "RESHAPE", "TRANSPOSE", "SLICE", "STRIDED_SLICE"),
    *("DEPTH_TO_SPACE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
}


def tflite_surface(data: bytes, where: str) -> Surface:
    """Return the file's surface. Raises MobilesegError where the network's own part is damaged."""
    buffer = Buffer(data, where)
    model = buffer.root(IDENTIFIER)
    bodies = model.tables(2)
    if not bodies:
        raise buffer.damaged("it holds no network")
    body = bodies[0]
    tensors = body.tables(0)
    makers = _makers(model, body)
    faults: dict[str, str] = {}
    metadata, packed = None, {}
    try:
        metadata = _metadata(model)
    except MobilesegError as error:
        faults["metadata"] = _fault(error, where)
    try:
        packed = dict(packed_files(data, where))
    except MobilesegError as error:
        faults["packed files"] = _fault(error, where)
    return Surface(
        where,
        len(bodies),
        _edges(buffer, tensors, [int(i) for i in body.vector(1, "<i4")], {}),
        _edges(buffer, tensors, [int(i) for i in body.vector(2, "<i4")], makers),
        metadata,
        packed,
        faults,
    )


def _fault(error: MobilesegError, where: str) -> str:
    """Return what is wrong, without the mend: a rule has its own."""
    return str(error).removeprefix(f"{where}: ").partition("; ")[0]


def _edges(
    buffer: Buffer, tensors: list[Table], indices: list[int], makers: dict[int, str]
) -> tuple[Edge, ...]:
    if any(not 0 <= index < len(tensors) for index in indices):
        raise buffer.damaged(f"tensors {indices} of {len(tensors)}")
    return tuple(_edge(tensors[index], makers.get(index, "")) for index in indices)


def _edge(table: Table, maker: str) -> Edge:
    kind = int(table.number(1, "b"))
    name = TYPES.get(kind, f"type {kind}").lower()
    quant = table.table(4)
    scales = [float(each) for each in quant.vector(2, "<f4")] if quant else []
    zeros = [int(each) for each in quant.vector(3, "<i8")] if quant else []
    if len(scales) != 1:
        return Edge(printable(table.text(3)), _shape(table), name, made_by=maker)
    zero = zeros[0] if zeros else 0
    return Edge(printable(table.text(3)), _shape(table), name, scales[0], zero, maker)


def _shape(table: Table) -> Shape:
    """Return the shape, with 0 for the sizes that the signature leaves open."""
    shape = [int(n) for n in table.vector(0, "<i4")]
    signature = [int(n) for n in table.vector(7, "<i4")]
    if len(signature) != len(shape):
        signature = shape
    return tuple(max(n, 0) if said >= 0 else 0 for n, said in zip(shape, signature, strict=True))


def _makers(model: Table, body: Table) -> dict[int, str]:
    """Return the operator that computes each tensor; what only moves values is looked through."""
    codes = [_name(code) for code in model.tables(1)]
    operators = body.tables(3)
    if len(operators) > MOST_OPERATORS:
        raise model.buffer.damaged(f"{len(operators)} operators; {MOST_OPERATORS} at most")
    makers: dict[int, str] = {}
    for operator in operators:
        code = int(operator.number(0, "I"))
        inputs, outputs = operator.vector(1, "<i4"), operator.vector(2, "<i4")
        if code >= len(codes):
            raise model.buffer.damaged(f"operator code {code} of {len(codes)}")
        kind = codes[code]
        if kind in _MOVERS and len(inputs):
            kind = makers.get(int(inputs[0]), kind)
        makers |= dict.fromkeys((int(i) for i in outputs), kind)
    return makers


def _name(code: Table) -> str:
    number = max(int(code.number(0, "b")), int(code.number(3, "i")))
    name: str = OPERATORS.get(number, f"operator {number}")
    return name


def _metadata(model: Table) -> Metadata | None:
    """Return the first buffer of metadata, read."""
    stored = model.tables(4)
    named = [table for table in model.tables(6) if table.text(0) == METADATA]
    if not named:
        return None
    index = int(named[0].number(1, "I"))
    if index >= len(stored):
        raise model.buffer.damaged(f"metadata in buffer {index} of {len(stored)}")
    return read_metadata(stored[index].vector(0, "u1").tobytes(), METADATA)
