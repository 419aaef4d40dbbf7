"""ONNX's operators as the graph's: who answers for which.

Source: onnx.ai, operator schemas; older forms (attributes that became inputs) included.
"""

from __future__ import annotations

from collections.abc import Mapping

from mobileseg.reading.onnx.call import Handler
from mobileseg.reading.onnx.convolve import CONVOLUTIONS
from mobileseg.reading.onnx.layout import LAYOUT
from mobileseg.reading.onnx.order import ORDER
from mobileseg.reading.onnx.pointwise import POINTWISE
from mobileseg.reading.onnx.quant import QUANT

HANDLERS: Mapping[str, Handler] = {**CONVOLUTIONS, **POINTWISE, **LAYOUT, **ORDER, **QUANT}
