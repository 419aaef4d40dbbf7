"""One node of a graph in training, computed as `execute_int8` computes it.

Activations are whole steps counted from their zero point, held in float32. It holds sums of those
exactly up to 2^24, far above what layers come to. Sums of reals would be rounded now and then to
the other side of a half, and a deep net makes many steps of that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mobileseg.graph.execute import run_node
from mobileseg.graph.execute_int8 import pool_steps, resize_steps
from mobileseg.graph.ir import Node
from mobileseg.graph.ops import Pool, Resize
from mobileseg.quantize.qat.constants import CONVS
from mobileseg.quantize.qat.fake import straight
from mobileseg.quantize.qat.scales import Scale, constant_steps
from mobileseg.quantize.rules import rule


@dataclass(frozen=True)
class State:
    """What nodes read: the scales and the constants, by name.

    constants: a convolution's, in float. rounded: an element-wise operator's, as int8 holds them.
    one_scale: the weights whose channels share one.
    """

    scales: Mapping[str, Scale]
    constants: Mapping[str, Tensor]
    rounded: Mapping[str, Tensor]
    one_scale: Collection[str] = ()


def run_steps(node: Node, values: Mapping[str, Tensor], state: State) -> Tensor:
    """Return the node's output in steps of its scale: to be stored where its rule is not "shared".

    values: the activations made so far, in steps. A fused activation of a convolution is left to
    the storing, which cuts there.
    """
    if isinstance(node.op, CONVS):
        name, *names = node.inputs
        into, out = state.scales[name], state.scales[node.output]
        given = [state.constants[each] for each in names]
        constants, worth = constant_steps(node, given, into, out, names[0] in state.one_scale)
        plain = replace(node, op=replace(node.op, activation="none"))
        return run_node(plain, [values[name], *constants]) * worth
    if rule(node) in {"shared", "index"}:
        return _moved(node, [values[name] for name in node.inputs], state)
    reals = [
        state.rounded[name] if name in state.rounded else values[name] * state.scales[name].step
        for name in node.inputs
    ]
    return run_node(node, reals) / state.scales[node.output].step


def _moved(node: Node, inputs: list[Tensor], state: State) -> Tensor:
    """Steps as they were; where a kernel weighs them, rounded as it rounds them."""
    moved = run_node(node, inputs)
    op = node.op
    if not isinstance(op, Pool | Resize):
        return moved
    with torch.no_grad():
        zero = state.scales[node.output].zero
        stored = inputs[0] + zero
        kernel = pool_steps(op, stored) if isinstance(op, Pool) else resize_steps(op, stored)
        rounded = kernel - zero
    return straight(moved, rounded)
