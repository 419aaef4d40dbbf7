"""Every table of a target covers every operator."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from mobileseg.export import onnx, tflite
from mobileseg.graph import execute, execute_int8
from mobileseg.graph.ops import OPS, TRAINING_OPS, Dequantize, Op, Quantize
from mobileseg.quantize.rules import RULES
from tests.op_cases import CASES

# What only a quantized graph has: its edges, and in a float graph the float16 weights.
EDGES = {Quantize, Dequantize}


@pytest.mark.parametrize(
    ("table", "without"),
    [
        # Quantize is int8's own. Batch norm runs in float, for graphs not yet folded.
        pytest.param(execute.KERNELS, {Quantize}, id="float"),
        pytest.param(execute_int8.INT8_KERNELS, TRAINING_OPS, id="int8"),
        # Quantization adds its edges when the rules have been asked already.
        pytest.param(RULES, TRAINING_OPS | EDGES, id="rules"),
        pytest.param(tflite.WRITERS, TRAINING_OPS, id="tflite"),
        pytest.param(onnx.WRITERS, TRAINING_OPS, id="onnx"),
        # The edges are tried by the test of interfaces.
        pytest.param({type(case.op) for case in CASES}, TRAINING_OPS | EDGES, id="cases"),
    ],
)
def test_covers_every_operator(table: Collection[type[Op]], without: Collection[type[Op]]) -> None:
    assert set(table) == set(OPS) - set(without)
