"""What LiteRT takes for a network's activations, as it runs: measured, not planned.

Addresses: the span of the activations in the plain kernels' arena, scratch memory between them
included. Heap: what one more picture at a time adds to the process, so that weights, packed weights
and descriptions cancel out. XNNPACK tells no addresses: the heap is all there is to see of it.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.ir import Graph

_SECONDS = 120


@dataclass(frozen=True)
class Arena:
    """Bytes per picture; None where this system's allocator does not count (other than glibc)."""

    plain_addresses: int
    plain_heap: int | None
    xnnpack_heap: int | None


def measure_arena(graph: Graph) -> Arena:
    """Return what LiteRT takes for the graph's activations. The graph is one for `write_tflite`.

    Raises MobilesegError where the runtime cannot run it.
    """
    one, two = (_run(_with_batch(graph, count)) for count in (1, 2))
    heaps = [None if one[key] is None else int(two[key] - one[key]) for key in ("plain", "xnnpack")]
    return Arena(int(one["addresses"]), *heaps)


def _with_batch(graph: Graph, count: int) -> Graph:
    given = [graph[name] for name in graph.inputs]
    wider = [replace(each, shape=(count, *each.shape[1:])) for each in given]
    return graph.edit(graph.nodes, inputs=wider)


def _run(graph: Graph) -> dict[str, Any]:
    """Run the file in a process of its own, whose heap nobody else uses."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        path.write_bytes(write_tflite(graph))
        command = [sys.executable, "-m", "mobileseg.export.arena", str(path)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise MobilesegError(f"arena: LiteRT cannot run the network ({said[-1]})")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


class _Counts(ctypes.Structure):
    """glibc's struct mallinfo2. Source: malloc.h, glibc 2.33."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def _in_use() -> int | None:
    """Return the bytes that the process has allocated, or None where nothing counts them."""
    try:
        count = ctypes.CDLL("libc.so.6").mallinfo2
    except (OSError, AttributeError):
        return None
    count.restype = _Counts
    found = count()
    return int(found.uordblks + found.hblkhd)


def main() -> None:
    """Argument: a .tflite file. Prints what it takes, as a line of JSON."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415

    (path,) = sys.argv[1:]
    answer: dict[str, int | None] = {}
    ways = {
        "plain": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "xnnpack": OpResolverType.AUTO,
    }
    for name, way in ways.items():
        interpreter = Interpreter(model_path=path, num_threads=1, experimental_op_resolver_type=way)
        before = _in_use()
        interpreter.allocate_tensors()
        interpreter.invoke()
        after = _in_use()
        answer[name] = None if before is None or after is None else after - before
        if name == "plain":
            answer["addresses"] = _span(interpreter)
    print(json.dumps(answer))


def _span(interpreter: Any) -> int:
    """Return the bytes from the first to the end of the last activation."""
    made = {each["index"] for each in interpreter.get_input_details()}
    for each in interpreter._get_ops_details():
        # What is made of constants alone stays from one run to the next.
        if made.intersection(each["inputs"]):
            made |= set(each["outputs"])
    spans = []
    for index in made:
        value = interpreter.tensor(index)()
        begin = value.__array_interface__["data"][0]
        spans.append((begin, begin + value.nbytes))
    return int(max(end for _, end in spans) - min(begin for begin, _ in spans))


if __name__ == "__main__":
    main()
