"""The layers of the package docstring, held: imports point downward, siblings never meet.

And every table of a target covers every operator.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

import mobileseg
from mobileseg.export import onnx, tflite_operators
from mobileseg.graph import execute, execute_int8
from mobileseg.graph.ops import OPS, TRAINING_OPS, Dequantize, Op, Quantize
from mobileseg.latency.kernels import PRICES
from mobileseg.quantize.rules import RULES
from mobileseg.quantize.ties import TIES
from tests.op_cases import CASES

PACKAGE = Path(mobileseg.__file__).parent
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"cli"}),
    frozenset({"workflow"}),
    frozenset({"runs", "report"}),
    frozenset({"recipe"}),
    frozenset({"slim", "train", "quantize", "export", "reading", "latency", "demo"}),
    frozenset({"nets", "graph"}),
    frozenset({"validate", "files", "figure"}),
    frozenset({"errors"}),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> set[str]:
    """Return the parts of mobileseg that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = {name.split(".")[1] for name in found if name.startswith("mobileseg.")}
    return parts - {"__version__"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    mine = part_of(path)
    for other in imports(path) - {mine}:
        assert RANK[other] > RANK[mine], f"{mine} may not import {other}"


def test_every_part_has_a_layer() -> None:
    assert {part_of(path) for path in FILES} == set(RANK)


def test_the_docstring_draws_every_folder() -> None:
    drawn = mobileseg.__doc__ or ""
    for folder in PACKAGE.iterdir():
        if (folder / "__init__.py").is_file():
            assert f"{folder.name}/" in drawn


@pytest.mark.parametrize(
    "module",
    [
        "cli",
        "recipe",
        "runs",
        "workflow.plan",
        "workflow.options",
        "workflow.check",
        "report.ladder",
    ],
)
def test_no_torch_before_it_is_needed(module: str) -> None:
    code = f"import sys, mobileseg.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_pickle_anywhere() -> None:
    for path in FILES:
        source = path.read_text(encoding="utf-8")
        for word in ("import pickle", "torch.load(", "torch.save(", "allow_pickle=True"):
            assert word not in source, f"{path.name}: {word}"


# What only a quantized graph has: its edges, and in a float graph the float16 weights.
EDGES = {Quantize, Dequantize}


@pytest.mark.parametrize(
    ("table", "without"),
    [
        # Quantize is int8's own. Batch norm runs in float, for graphs not yet folded.
        pytest.param(execute.KERNELS, {Quantize}, id="float"),
        pytest.param(execute_int8.INT8_KERNELS, TRAINING_OPS, id="int8"),
        # What it makes is no integer.
        pytest.param(RULES, TRAINING_OPS | {Dequantize}, id="rules"),
        pytest.param(TIES, TRAINING_OPS | EDGES, id="ties"),
        pytest.param(tflite_operators.WRITERS, TRAINING_OPS, id="tflite"),
        pytest.param(onnx.WRITERS, TRAINING_OPS, id="onnx"),
        pytest.param(PRICES, TRAINING_OPS, id="prices"),
        # The edges are tried by the test of interfaces.
        pytest.param({type(case.op) for case in CASES}, TRAINING_OPS | EDGES, id="cases"),
    ],
)
def test_covers_every_operator(table: Collection[type[Op]], without: Collection[type[Op]]) -> None:
    assert set(table) == set(OPS) - set(without)
