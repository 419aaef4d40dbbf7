"""TFLite's operators as the graph's: who answers for which.

Source: tensorflow/lite/schema/schema.fbs (v3a), kernels' headers in tensorflow/lite/kernels.
"""

from __future__ import annotations

from collections.abc import Mapping

from mobileseg.reading.tflite.call import Handler
from mobileseg.reading.tflite.convolve import CONVOLUTIONS
from mobileseg.reading.tflite.layout import LAYOUT
from mobileseg.reading.tflite.pointwise import POINTWISE

HANDLERS: Mapping[str, Handler] = {**CONVOLUTIONS, **POINTWISE, **LAYOUT}

# The options that a kind's handler reads; a file with others is damaged.
OPTIONS: dict[str, str] = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "MUL": "MulOptions",
    "SUB": "SubOptions",
    "DIV": "DivOptions",
    "CONCATENATION": "ConcatenationOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "LEAKY_RELU": "LeakyReluOptions",
}
