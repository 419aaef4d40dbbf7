"""Files for those who load them, and the code beside a file that uses it."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

from mobileseg.export.contract import Contract, Target, contract_of
from mobileseg.export.metadata import NAME, metadata, with_labels
from mobileseg.export.onnx import write_onnx
from mobileseg.export.snippets import kotlin_snippet, python_snippet
from mobileseg.export.tflite import write_tflite
from mobileseg.files import write_atomic
from mobileseg.graph.ir import Graph
from mobileseg.graph.memory import plan
from mobileseg.graph.passes import float16_weights


def segmenter_file(graph: Graph, contract: Contract, memory_plan: bool = False) -> bytes:
    """Return the graph's file with its contract inside; a .tflite file's plan of memory, too."""
    if contract.form == "onnx":
        return write_onnx(graph, "\n".join(contract.lines()))
    offsets = plan(graph).offsets if memory_plan else None
    data = write_tflite(graph, {NAME: metadata(contract)}, offsets)
    return with_labels(data, contract.labels)


def file_size(graph: Graph, title: str, labels: Sequence[str]) -> int:
    """Return how many bytes the graph's TFLite file will have."""
    return len(segmenter_file(graph, contract_of(graph, title, labels)))


def gzipped_sizes(graph: Graph, title: str, labels: Sequence[str]) -> dict[str, int]:
    """Return the bytes of the float graph's files, those of a store's compression among them."""
    sizes = {}
    for name, each in (("float32", graph), ("float16", float16_weights(graph))):
        data = segmenter_file(each, contract_of(each, title, labels))
        sizes[f"{name}_bytes"] = len(data)
        sizes[f"{name}_gzip_bytes"] = gzip_size(data)
    return sizes


def gzip_size(data: bytes) -> int:
    """Return how many bytes gzip makes of a file."""
    return len(gzip.compress(data))


def write_snippets(path: Path, contract: Contract, target: Target) -> tuple[Path, ...]:
    """Write the code that uses the file beside it, and return where."""
    snippets = {f"{path.name}.py": python_snippet(contract, path.name, target)}
    if contract.form == "tflite":
        snippets[f"{path.name}.kt"] = kotlin_snippet(contract, path.name, target)
    for name, text in snippets.items():
        write_atomic(path.with_name(name), text)
    return tuple(path.with_name(name) for name in snippets)
