"""A float graph and its int8 graph side by side, node by node, on the same pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mobileseg.graph.execute import run_node
from mobileseg.graph.execute_int8 import LIMITS, Step, quant_of, run_step
from mobileseg.graph.ir import Array, Graph, Node
from mobileseg.graph.ir import Tensor as Value


@dataclass(frozen=True)
class Meeting:
    """A node that both graphs are about to compute.

    `floats` is what the float node reads, constants included; `reals` what the int8 node's steps
    stand for, in the same order.
    """

    graph: Graph
    body: Graph
    node: Node
    int8_node: Node
    floats: list[Tensor]
    reals: list[Tensor]

    def linear(self, inputs: list[Tensor]) -> Tensor:
        """Return the node's output in float before its fused activation."""
        op = self.node.op
        if getattr(op, "activation", "none") != "none":
            op = replace(op, activation="none")  # type: ignore[call-arg]
        return run_node(replace(self.node, op=op), inputs)


Visit = Callable[[Meeting], Iterable[Value]]
See = Callable[[Node, Tensor, Tensor], None]


def lockstep(
    graph: Graph, body: Graph, images: Array, *visits: Visit, see: See | None = None
) -> Graph:
    """Run both graphs on float images `(N, 3, H, W)`; return the int8 graph as visits left it.

    body: the int8 graph of `graph` without edges (an int8 interface). Each visit is called before
    each node that both have, and may return tensors to take the place of the int8 graph's: what
    follows is computed with them. `see(node, float, real)` gets each output of both.
    """
    # Not inference mode: a visit may learn from what it is given.
    with torch.no_grad():
        return _run(graph, body, images, visits, see)


def _run(
    graph: Graph, body: Graph, images: Array, visits: Sequence[Visit], see: See | None
) -> Graph:
    image = graph.inputs[0]
    floats = {image: torch.from_numpy(images)}
    stored = np.round(images / quant_of(body[image]).scale[0])
    steps = {image: torch.from_numpy(np.clip(stored, *LIMITS[body[image].dtype])).float()}
    for node in body.nodes:
        mine = graph.producers.get(node.output)
        if mine is not None:
            given = [_value(graph, name, floats) for name in mine.inputs]
            for visit in visits:
                reals = [_real(body, name, steps) for name in node.inputs]
                body = body.with_tensors(visit(Meeting(graph, body, mine, node, given, reals)))
            floats[node.output] = run_node(mine, given)
        steps[node.output] = run_step(Step(body, node, steps))
        if mine is not None and see is not None:
            see(mine, floats[node.output], _real(body, node.output, steps))
        _drop(body, node, steps)
        if mine is not None:
            _drop(graph, mine, floats)
    return body


def _drop(graph: Graph, node: Node, values: dict[str, Tensor]) -> None:
    for name in node.inputs:
        if graph.consumers[name][-1] == node and name not in graph.outputs:
            values.pop(name, None)


def _value(graph: Graph, name: str, values: dict[str, Tensor]) -> Tensor:
    data = graph[name].data
    return values[name] if data is None else torch.from_numpy(np.array(data))


def _real(graph: Graph, name: str, values: dict[str, Tensor]) -> Tensor:
    """Return what a tensor's steps stand for."""
    tensor = graph[name]
    steps = _value(graph, name, values).float()
    if tensor.quant is None:
        return steps
    scale = torch.from_numpy(tensor.quant.scale.astype(np.float32))
    if tensor.quant.axis is not None:
        along = [1] * steps.ndim
        along[tensor.quant.axis] = -1
        scale = scale.reshape(along)
    return (steps - tensor.quant.zero_point) * scale
