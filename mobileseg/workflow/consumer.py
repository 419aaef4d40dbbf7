"""Files for those who load them: what they cannot take is said before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobileseg.errors import MobilesegError
from mobileseg.export.contract import Contract, Target, contract_of
from mobileseg.export.metadata import NAME, metadata, with_labels
from mobileseg.export.onnx import write_onnx
from mobileseg.export.snippets import kotlin_snippet, python_snippet
from mobileseg.export.tflite import write_tflite
from mobileseg.files import write_atomic
from mobileseg.graph.ir import Graph
from mobileseg.graph.memory import plan
from mobileseg.workflow.network import Output

if TYPE_CHECKING:
    from mobileseg.workflow.export import ExportOptions


# Task Library looks for the largest value above 0: logits, all negative, are class 0 to it.
_OUTPUTS: Mapping[Target, Output] = {"raw": "logits", "mediapipe": "logits", "task": "softmax"}


def default_output(target: Target) -> Output:
    """Return the output that the target's loader reads best."""
    return _OUTPUTS[target]


def require_loadable(options: ExportOptions) -> None:
    """Raise MobilesegError where the target's loader refuses what is wished for."""
    if options.target == "raw":
        return
    where = f"--target {options.target}"
    problems = []
    if "onnx" in options.formats:
        problems.append(f"{where}: loads TFLite files only; leave out --format")
    if options.output == "argmax":
        problems.append(f"{where}: takes a value per class, not class numbers; leave out --output")
    if options.target == "task" and options.output == "logits":
        problems.append(f"{where}: calls class 0 where all logits are negative; leave out --output")
    if options.precision == "int8" and options.interface == "int8":
        problems.append(f"{where}: takes uint8 or float32, not int8; leave out --interface")
    if problems:
        raise MobilesegError("\n".join(problems))


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


def write_snippets(path: Path, contract: Contract, target: Target) -> tuple[Path, ...]:
    """Write the code that uses the file beside it, and return where."""
    snippets = {f"{path.name}.py": python_snippet(contract, path.name, target)}
    if contract.form == "tflite":
        snippets[f"{path.name}.kt"] = kotlin_snippet(contract, path.name, target)
    for name, text in snippets.items():
        write_atomic(path.with_name(name), text)
    return tuple(path.with_name(name) for name in snippets)
