"""A program that prints the per-operator times of a .tflite file as JSON.

LiteRT's Python bindings have no profiler; its library has one, with a C interface. This program is
a process of its own, because a wrong guess about a C structure ends the process that made it.
Source: litert/c/litert_compiled_model.h, litert_profiler_event.h, litert_layout.h of LiteRT 2.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

# Versions whose C structures were tried; another one gets whole times only.
VERSIONS = ("2.1", "2.2", "2.3")
CPU = 1
# Event types: a plain kernel, and an operator inside a delegate.
PLAIN, DELEGATED = 1 << 1, 1 << 3
_DESTROY = ctypes.CFUNCTYPE(None, c_void_p)
# MemoryUsage inside an event grew with the versions; an event is eight words and two of those.
_EVENT_WORDS = {11: 2, 13: 3, 15: 4}


class UnsupportedError(Exception):
    """The library is not as the headers say."""


class LiteRt:
    """The library: `call` raises UnsupportedError where one is missing or fails."""

    def __init__(self) -> None:
        import ai_edge_litert  # noqa: PLC0415

        version = str(ai_edge_litert.__version__)
        if not version.startswith(VERSIONS):
            raise UnsupportedError(f"LiteRT {version} is none of {', '.join(VERSIONS)}")
        folder = Path(next(iter(ai_edge_litert.__path__)))
        self.library = ctypes.CDLL(str(folder / "libLiteRt.so"))

    def call(self, name: str, *arguments: object) -> None:
        """Call one function and check its status."""
        try:
            function = getattr(self.library, name)
        except AttributeError:
            raise UnsupportedError(f"the library has no {name}") from None
        function.restype = c_int
        status = function(*arguments)
        if status != 0:
            raise UnsupportedError(f"{name} answered {status}")

    def made(self, name: str, *arguments: object) -> c_void_p:
        """Call a function whose last argument receives a handle."""
        handle = c_void_p()
        self.call(name, *arguments, byref(handle))
        return handle


def profile(path: str, threads: int, runs: int, warmup: int) -> dict[str, Any]:
    """Return {"whole_us": [per run], "operators": [[name, us] per run]}."""
    lib = LiteRt()
    keep: list[Any] = []
    environment = lib.made("LiteRtCreateEnvironment", c_int(0), None)
    model = lib.made("LiteRtCreateModelFromFile", environment, c_char_p(os.fsencode(path)))
    options = lib.made("LiteRtCreateOptions")
    lib.call("LiteRtSetOptionsHardwareAccelerators", options, c_int(CPU))
    _add(lib, options, "runtime_options_string", "enable_profiling = true\n", keep)
    _add(lib, options, "xnnpack", f"num_threads = {threads}\n", keep)
    compiled = lib.made("LiteRtCreateCompiledModel", environment, model, options)
    run = _runner(lib, environment, model, compiled, keep)
    profiler = lib.made("LiteRtCompiledModelGetProfiler", compiled)
    if not profiler:
        raise UnsupportedError("the library was built without a profiler")
    for _ in range(warmup):
        run()
    whole, operators = [], []
    for _ in range(runs):
        lib.call("LiteRtResetProfiler", profiler)
        lib.call("LiteRtStartProfiler", profiler)
        begin = time.perf_counter_ns()
        run()
        whole.append((time.perf_counter_ns() - begin) / 1e3)
        lib.call("LiteRtStopProfiler", profiler)
        operators.append(_events(lib, profiler))
    return {"whole_us": whole, "operators": operators}


def _add(lib: LiteRt, options: c_void_p, name: str, text: str, keep: list[Any]) -> None:
    """Options travel as TOML text under a name; the library calls back when it lets go of it."""
    payload = ctypes.create_string_buffer(text.encode())
    release = _DESTROY(lambda _pointer: None)
    keep += [payload, release]
    pointer = ctypes.cast(payload, c_void_p)
    opaque = lib.made("LiteRtCreateOpaqueOptions", c_char_p(name.encode()), pointer, release)
    lib.call("LiteRtAddOpaqueOptions", options, opaque)


class _TensorType(ctypes.Structure):
    """Element type, then rank and flag in one word, dimensions, strides: 72 bytes."""

    _fields_ = (
        ("element", c_int),
        ("rank", c_int),
        ("dimensions", c_int * 8),
        ("strides", c_int * 8),
    )


def _runner(
    lib: LiteRt, environment: c_void_p, model: c_void_p, compiled: c_void_p, keep: list[Any]
) -> Callable[[], None]:
    """Return a call that runs the model once on zeros."""
    signature = lib.made("LiteRtGetModelSignature", model, c_size_t(0))
    sides = []
    for side in ("Input", "Output"):
        count = c_size_t()
        lib.call(f"LiteRtGetNumSignature{side}s", signature, byref(count))
        buffers = (c_void_p * count.value)()
        for i in range(count.value):
            tensor = lib.made(f"LiteRtGetSignature{side}TensorByIndex", signature, c_size_t(i))
            kind = _TensorType()
            lib.call("LiteRtGetRankedTensorType", tensor, byref(kind))
            need = lib.made(
                f"LiteRtGetCompiledModel{side}BufferRequirements",
                compiled,
                c_size_t(0),
                c_size_t(i),
            )
            buffer = lib.made(
                "LiteRtCreateManagedTensorBufferFromRequirements", environment, byref(kind), need
            )
            lib.call("LiteRtClearTensorBuffer", buffer)
            buffers[i] = buffer.value
        sides += [c_size_t(count.value), buffers]
    keep += sides
    return lambda: lib.call("LiteRtRunCompiledModel", compiled, c_size_t(0), *sides)


def _events(lib: LiteRt, profiler: c_void_p) -> list[tuple[str, int]]:
    """Name and microseconds of every operator of one run, in order of start."""
    count = c_int()
    lib.call("LiteRtGetNumProfilerEvents", profiler, byref(count))
    if count.value <= 0:
        raise UnsupportedError("the profiler saw nothing")
    # Filled with ones first, so that the last byte written tells how long an event is.
    size = count.value * max(_EVENT_WORDS) * 8
    raw = (c_uint64 * (size // 8))(*[2**64 - 1] * (size // 8))
    lib.call("LiteRtGetProfilerEvents", profiler, count, raw)
    words = list(raw)
    used = max(i for i, word in enumerate(words) if word != 2**64 - 1) + 1
    length, rest = divmod(used, count.value)
    if rest or length not in _EVENT_WORDS:
        raise UnsupportedError(f"{count.value} events take {used} words")
    events = []
    for at in range(0, used, length):
        tag, kind, start, elapsed = words[at : at + 4]
        if kind & 0xFFFFFFFF in (PLAIN, DELEGATED):
            name = ctypes.string_at(tag).decode(errors="replace")
            events.append((start, name, elapsed))
    return [(name, elapsed) for _, name, elapsed in sorted(events, key=lambda event: event[0])]


def main() -> None:
    """Arguments: file, threads, runs, warm-up."""
    path, *numbers = sys.argv[1:]
    try:
        answer = profile(path, *map(int, numbers))
    except (UnsupportedError, OSError) as error:
        answer = {"unsupported": str(error)}
    # Leave without the library's own clean-up: the process is at its end anyway.
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
