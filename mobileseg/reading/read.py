"""A file of somebody's -> a graph that can be priced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.reading.sketch import Reading, UnknownOperatorsError
from mobileseg.reading.surface import Surface

# A network for a phone has tens of megabytes.
_LARGEST = 2**31
ENDINGS = (".tflite", ".onnx")
Size = tuple[int, int]
Made = TypeVar("Made")


def read_network(path: Path, size: Size | None = None) -> Reading:
    """Return the network in a .tflite or .onnx file; `size` is (height, width) where it is open.

    Raises one MobilesegError for a file that is missing, damaged or hostile, and one that lists
    every operator without a price.
    """
    _require_ending(path)
    read = _tflite if path.suffix == ".tflite" else _onnx
    return _guarded(path, lambda data: read(data, path, size))


def read_surface(path: Path) -> Surface:
    """Return what the file shows to whoever loads it; its operators may be any.

    Raises one MobilesegError for a file that is missing, damaged or hostile.
    """
    _require_ending(path)
    read = _tflite_surface if path.suffix == ".tflite" else _onnx_surface
    return _guarded(path, lambda data: read(data, str(path)))


def _require_ending(path: Path) -> None:
    if path.suffix not in ENDINGS:
        raise MobilesegError(f"{path}: ends in none of {', '.join(ENDINGS)}")


def _guarded(path: Path, read: Callable[[bytes], Made]) -> Made:
    """Return what `read` makes of the file's bytes; whatever else it raises is the file's fault."""
    data = _bytes(path)
    try:
        # Damaged numbers overflow; what comes of it is checked where it matters.
        with np.errstate(all="ignore"):
            return read(data)
    except MobilesegError:
        raise
    # The last net under a reader of hostile files: whatever it stumbles over is the file's fault.
    except Exception as error:
        what = f"{type(error).__name__}: {error}"[:200]
        raise MobilesegError(f"{path}: is damaged ({what!r}); fetch or export it again") from None


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise MobilesegError(f"{path}: has more than {_LARGEST} bytes; no phone loads it")
        return path.read_bytes()
    except FileNotFoundError:
        raise MobilesegError(f"{path}: there is no such file") from None
    except OSError as error:
        raise MobilesegError(f"{path}: cannot be read ({error.strerror})") from None


def _tflite(data: bytes, path: Path, size: Size | None) -> Reading:
    from mobileseg.reading.tflite.file import read_tflite  # noqa: PLC0415  (kept off start-up)

    reading = read_tflite(data, str(path))
    for name in reading.graph.inputs:
        fixed = reading.graph[name].shape[2:]
        if size is not None and fixed not in {size, (1, 1)}:
            raise MobilesegError(
                f"{path}: input {name!r}: is fixed to {fixed[0]}x{fixed[1]} pixels; leave out "
                "--input-size or export it for another size"
            )
    return reading


def _tflite_surface(data: bytes, where: str) -> Surface:
    from mobileseg.reading.tflite.surface import tflite_surface  # noqa: PLC0415

    return tflite_surface(data, where)


def _onnx_surface(data: bytes, where: str) -> Surface:
    from mobileseg.reading.onnx.surface import onnx_surface  # noqa: PLC0415

    return onnx_surface(data, where)


def _onnx(data: bytes, path: Path, size: Size | None) -> Reading:
    """Through onnxsim only where some operator is not known: it takes seconds."""
    from mobileseg.reading.onnx.file import open_shapes, parse_onnx, read_onnx  # noqa: PLC0415
    from mobileseg.reading.onnx.simplify import simplified  # noqa: PLC0415

    where = str(path)
    model = parse_onnx(data, where)
    try:
        return read_onnx(model, where, size)
    except UnknownOperatorsError as unknown:
        simple = simplified(data, open_shapes(model, where, size))
        if simple is None:
            raise
        try:
            return read_onnx(parse_onnx(simple, where), where, size)
        except MobilesegError:
            raise unknown from None
