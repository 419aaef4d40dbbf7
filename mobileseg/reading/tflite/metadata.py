"""TFLite metadata of anybody's file, and the files packed behind it, every offset checked.

Source: mediapipe/tasks/metadata/metadata_schema.fbs (1.5.0): the positions of fields are those of
its tables; image_segmenter_metadata_schema.fbs (1.0.0).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from mobileseg.errors import MobilesegError
from mobileseg.reading.flat import Buffer, Table
from mobileseg.reading.sketch import printable
from mobileseg.reading.surface import Metadata, Note

METADATA = "TFLITE_METADATA"
_SEGMENTER = "SEGMENTER_METADATA"
_IDENTIFIER = b"M001"
_CONTENTS = {1: "feature", 2: "image", 3: "bounding box", 4: "audio"}
_COLOURS = {0: "unknown", 1: "RGB", 2: "greyscale"}
_ACTIVATIONS = {0: "none", 1: "sigmoid", 2: "softmax"}
_NORMALIZATION, _AXIS_LABELS = 1, 2
# A list of a thousand classes has some kilobytes.
_LARGEST_FILES = 2**20


def read_metadata(data: bytes, where: str) -> Metadata:
    """Return what the buffer says. Raises MobilesegError where it is damaged or another schema."""
    root = Buffer(data, where).root(_IDENTIFIER)
    bodies = root.tables(3)
    version = printable(root.text(7))
    if not bodies:
        return Metadata(version)
    body = bodies[0]
    return Metadata(version, _notes(body, 2), _notes(body, 3), _activation(body, where))


def _notes(body: Table, field: int) -> tuple[Note, ...] | None:
    return tuple(_note(table) for table in body.tables(field)) if body.has(field) else None


def _activation(body: Table, where: str) -> str | None:
    """Return the activation's name; of a number or bytes without meaning, what they are."""
    held = [table.vector(1, "u1") for table in body.tables(9) if table.text(0) == _SEGMENTER]
    if not held:
        return None
    # Of several the last one counts; nobody asks for its identifier.
    buffer = Buffer(held[-1].tobytes(), f"{where}, {_SEGMENTER}")
    try:
        number = int(Table(buffer, buffer.number("<I", 0)).number(0, "b"))
    except MobilesegError:
        return "unreadable"
    return _ACTIVATIONS.get(number, f"number {number}")


def _note(table: Table) -> Note:
    content, colours = "", ""
    described = table.table(3)
    properties = described.table(1) if described else None
    if described and properties:
        kind = int(described.number(0, "B"))
        content = _CONTENTS.get(kind, f"kind {kind}")
        if content == "image":
            colours = _COLOURS.get(int(properties.number(0, "b")), "unknown")
    units = [unit.table(1) for unit in table.tables(4) if unit.number(0, "B") == _NORMALIZATION]
    means = deviations = None
    if units and units[0]:
        means = tuple(float(value) for value in units[0].vector(0, "<f4"))
        deviations = tuple(float(value) for value in units[0].vector(1, "<f4"))
    labels = [file for file in table.tables(6) if file.number(2, "b") == _AXIS_LABELS]
    # As it is, not made printable: it is looked up among the packed files.
    file = labels[0].text(0) if labels else ""
    name = printable(table.text(0))
    return Note(name, content, colours, len(units), means, deviations, file)


def packed_files(data: bytes, where: str) -> Mapping[str, bytes | None]:
    """Return the files behind the network, None for those that are compressed.

    Raises MobilesegError for an archive that cannot be read.
    """
    stream = io.BytesIO(data)
    if not zipfile.is_zipfile(stream):
        return {}
    try:
        with zipfile.ZipFile(stream) as archive:
            held = archive.infolist()
            # Honest files do not overlap; hostile ones would share one a million times.
            if sum(each.file_size for each in held) > _LARGEST_FILES:
                raise ValueError(f"more than {_LARGEST_FILES} bytes")
            return {each.filename: _stored(archive, each) for each in held}
    # zipfile raises whatever damaged numbers lead to.
    except Exception as error:
        what = printable(f"{type(error).__name__}: {error}")
        raise MobilesegError(f"{where}: the files packed behind it are damaged ({what})") from None


def _stored(archive: zipfile.ZipFile, each: zipfile.ZipInfo) -> bytes | None:
    if each.compress_type != zipfile.ZIP_STORED:
        return None
    return archive.read(each)
