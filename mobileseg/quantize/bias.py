"""Bias correction: rounding shifts a channel's mean; its bias takes the shift back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mobileseg.graph.execute_int8 import quant_of
from mobileseg.graph.ir import Graph, Tensor
from mobileseg.graph.ops import Conv2d, ConvTranspose2d
from mobileseg.quantize.convert import BIAS_LIMITS
from mobileseg.quantize.lockstep import Meeting


def corrected_bias(at: Meeting) -> Iterator[Tensor]:
    """Give a convolution's bias what its output's mean in float has more than that in int8.

    Both means are over images and pixels, before the fused activation, the int8 one with what the
    corrected layers before have made. Source: Nagel et al., A White Paper on Neural Network
    Quantization, 2021, section 3.4 (empirical bias correction).
    """
    if not is_integer_convolution(at):
        return
    shift = at.linear(at.floats).mean((0, 2, 3)) - at.linear(at.reals).mean((0, 2, 3))
    bias = at.body[at.int8_node.inputs[2]]
    assert bias.data is not None
    steps = bias.data + np.round(shift.double().numpy() / quant_of(bias).scale)
    limit = BIAS_LIMITS[bias.dtype]
    yield replace(bias, data=np.clip(steps, -limit, limit).astype(bias.dtype))


def is_integer_convolution(at: Meeting) -> bool:
    """Whether the node is a convolution that was not kept in float."""
    given: Graph = at.body
    convolution = isinstance(at.int8_node.op, Conv2d | ConvTranspose2d)
    return convolution and given[at.int8_node.inputs[1]].dtype == "int8"
