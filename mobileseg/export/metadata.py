"""What a file says about itself: TFLite metadata, and the files packed behind it.

The schema's tables are few and never change (a new field gets a new position), so they are written
by position here instead of by generated code.
Source: mediapipe/tasks/metadata/metadata_schema.fbs (1.5.0), image_segmenter_metadata_schema.fbs
(1.0.0); mediapipe/tasks/cc/metadata/utils/zip_utils.cc for the packed files.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import flatbuffers
import numpy as np

from mobileseg import __version__
from mobileseg.export.contract import MEAN, STD, Activation, Contract, Face

NAME = "TFLITE_METADATA"
SEGMENTER = "SEGMENTER_METADATA"
LABELS_FILE = "labels.txt"

IDENTIFIER, SEGMENTER_IDENTIFIER = b"M001", b"V001"
# The schema's version that brought custom metadata: a parser below it cannot read ours.
_MIN_PARSER_VERSION = "1.5.0"
_SEGMENTER_VERSION = "1.0.0"
_ACTIVATIONS: Mapping[Activation, int] = {"none": 0, "sigmoid": 1, "softmax": 2}
_IMAGE_PROPERTIES, _NORMALIZATION = 2, 1
_AXIS_LABELS, _VALUE_LABELS = 2, 3
_RGB, _GRAYSCALE = 1, 2
# Segmenter options stand in a vector of bytes that the schema aligns.
_ALIGNMENT = 16
# A table by the schema's positions: text, bytes, tables, numbers. An int is a byte (every scalar
# of these tables that is not a size), `Size` four of them.
Flat: TypeAlias = Mapping[int, Any]


class Size(int):
    """An unsigned integer of four bytes."""


def metadata(contract: Contract) -> bytes:
    """Return the buffer that a TFLite file keeps under `NAME`."""
    return packed(tables(contract), IDENTIFIER)


def tables(contract: Contract) -> dict[int, Any]:
    """Return the metadata before they are bytes."""
    height, width = contract.image_size
    properties = {0: _RGB, 1: {0: Size(width), 1: Size(height)}}
    normalization = {0: _floats(MEAN), 1: _floats(STD)}
    image = _tensor(contract.image) | {
        3: {0: _IMAGE_PROPERTIES, 1: properties},
        4: ({0: _NORMALIZATION, 1: normalization},),
    }
    # Axes 1 and 2 are a mask of each class.
    masks = {0: _IMAGE_PROPERTIES, 1: {0: _GRAYSCALE}, 2: {0: Size(1), 1: Size(2)}}
    kind = _VALUE_LABELS if contract.meaning == "argmax" else _AXIS_LABELS
    labels = {0: LABELS_FILE, 1: "The classes in their order.", 2: kind}
    output = _tensor(contract.output) | {3: masks, 6: (labels,)}
    activation = {0: _ACTIVATIONS[contract.activation], 1: _SEGMENTER_VERSION}
    options = packed(activation, SEGMENTER_IDENTIFIER)
    body = {2: (image,), 3: (output,), 9: ({0: SEGMENTER, 1: options},)}
    words = "\n".join(contract.lines())
    return {0: contract.title, 1: words, 2: __version__, 3: (body,), 7: _MIN_PARSER_VERSION}


def with_labels(data: bytes, labels: Sequence[str]) -> bytes:
    """Return a TFLite file with the classes' names packed behind it, where readers look for them.

    Stored, not compressed: readers take the bytes where they stand. The date is the format's first,
    so that a file is the same every time.
    """
    whole = io.BytesIO(data)
    # "a": behind what is there.
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        lines = "".join(f"{label}\n" for label in labels)
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), lines)
    return whole.getvalue()


def _tensor(face: Face) -> dict[int, Any]:
    table: dict[int, Any] = {0: face.name, 1: face.words()}
    if face.low is not None and face.high is not None:
        table[5] = {0: _floats(face.high), 1: _floats(face.low)}
    return table


def _floats(*values: float) -> Any:
    return np.array(values, "<f4")


def packed(table: Flat, identifier: bytes) -> bytes:
    """Return a table, and all that it holds, as a flatbuffer."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_pack(builder, table), identifier)
    return bytes(builder.Output())


def _pack(builder: Any, table: Flat) -> int:
    """Write a table, what it holds first, and return where it stands."""
    offsets = {
        slot: _held(builder, value) for slot, value in table.items() if not isinstance(value, int)
    }
    builder.StartObject(max(table) + 1)
    for slot, value in table.items():
        if isinstance(value, Size):
            builder.PrependUint32Slot(slot, value, 0)
        elif isinstance(value, int):
            builder.PrependInt8Slot(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[slot], 0)
    return int(builder.EndObject())


def _held(builder: Any, value: Any) -> int:
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, bytes):
        builder.StartVector(1, len(value), _ALIGNMENT)
        for byte in reversed(value):
            builder.PrependByte(byte)
        return int(builder.EndVector())
    if isinstance(value, np.ndarray):
        return int(builder.CreateNumpyVector(value))
    if isinstance(value, tuple):
        places = [_pack(builder, each) for each in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return int(builder.EndVector())
    return _pack(builder, value)
