"""Cross-layer equalisation: the same float function, with channels of like ranges.

Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV
2019. Weights here have a scale per output channel, so what is to be equalised is the activations,
and the weights along their input channels: ranges are those seen in calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mobileseg.graph.ir import Array, Graph, Node, Tensor
from mobileseg.graph.ops import Conv2d, ConvTranspose2d
from mobileseg.quantize.calibrate import Extremes
from mobileseg.quantize.ties import Ties, channel_ties

Seen = Mapping[str, Extremes]
Floats = NDArray[np.float64]

# A channel below this share of its tensor's largest is next to dead: it is scaled no further.
_FLOOR = 1e-4
# How far the weights of the next layer may pull a channel from the even range.
_PULL = 4.0


def relu_for_relu6(graph: Graph, seen: Seen) -> Graph:
    """Make each ReLU6 a ReLU whose output never came to 6 in calibration.

    Before: `y = Conv2d(activation=relu6) x w b`. After: `y = Conv2d(activation=relu) x w b`.
    """
    nodes = []
    for node in graph.nodes:
        op = node.op
        if _clips(node) and float(seen[node.output].high.max()) < 6:
            field = "activation" if hasattr(op, "activation") else "function"
            op = replace(op, **{field: "relu"})
        nodes.append(replace(node, op=op))
    return graph.edit(nodes)


def _clips(node: Node) -> bool:
    op = node.op
    return "relu6" in (getattr(op, "activation", ""), getattr(op, "function", ""))


def equalise(graph: Graph, seen: Seen) -> tuple[Graph, dict[str, Extremes]]:
    """Return the graph with its channels scaled to like ranges, and what would be seen in it.

    Exact but for float rounding on all that calibration saw: channels that came to 6 behind a
    ReLU6 stay as they are, the others are not scaled beyond it.
    """
    scales = _scales(graph, seen)
    after = {name: extremes.scaled(scales[name]) for name, extremes in seen.items()}
    return rescaled(graph, scales), after


def rescaled(graph: Graph, scales: Mapping[str, Floats]) -> Graph:
    """Return the graph with each activation's channels divided by `scales[name]`, `(C,)`.

    The function stays what it is where tied channels have one scale and pinned ones 1 (see
    `channel_ties`), and no ReLU6 clips a channel that is scaled.
    """
    changed: list[Tensor] = []
    for node in graph.nodes:
        if isinstance(node.op, Conv2d | ConvTranspose2d):
            changed += _rescaled(graph, node, scales)
    return graph.with_tensors(changed)


@dataclass(frozen=True)
class _Wish:
    """Logarithms of the scales wished for, summed per class."""

    total: Floats
    count: Floats

    def add(self, classes: Array, log_scale: Array) -> None:
        np.add.at(self.total, classes, log_scale)
        np.add.at(self.count, classes, 1)

    def mean(self) -> Floats:
        return self.total / np.maximum(self.count, 1)


def _scales(graph: Graph, seen: Seen) -> dict[str, Floats]:
    """Return what each activation's channels are divided by."""
    ties = _with_clips(graph, seen, channel_ties(graph))
    usual = {name: _usual(extremes) for name, extremes in seen.items()}
    size = 1 + max(int(classes.max()) for classes in ties.classes.values())
    even, pull = (_Wish(np.zeros(size), np.zeros(size)) for _ in range(2))
    least = np.zeros(size)
    for name, classes in ties.classes.items():
        even.add(classes, np.log(usual[name] / _reference(usual[name], ties.free(name))))
    for node in graph.nodes:
        if isinstance(node.op, Conv2d | ConvTranspose2d) and not _is_depthwise(graph, node):
            pull.add(ties.classes[node.inputs[0]], _pulls(graph, node, usual))
        if _clips(node):
            np.maximum.at(least, ties.classes[node.output], seen[node.output].peak / 6)
    scale = np.maximum(np.exp(even.mean() + pull.mean()), least)
    scale[list(ties.pinned)] = 1.0
    return {name: scale[classes] for name, classes in ties.classes.items()}


def _with_clips(graph: Graph, seen: Seen, ties: Ties) -> Ties:
    """Pin the channels that a ReLU6 clips."""
    clipped = [
        ties.classes[node.output][seen[node.output].high.max(0) >= 6]
        for node in graph.nodes
        if _clips(node)
    ]
    return Ties(ties.classes, ties.pinned.union(*(each.tolist() for each in clipped)))


def _usual(extremes: Extremes) -> Floats:
    """Return what magnitude each channel reaches in a usual picture, `(C,)`, never zero."""
    reached = np.maximum(np.abs(extremes.low), np.abs(extremes.high)).mean(0, dtype=np.float64)
    found: Floats = np.maximum(reached, max(_FLOOR * float(reached.max()), 1e-12))
    return found


def _reference(usual: Floats, free: NDArray[np.bool_]) -> float:
    """Return the range to bring channels to: that of those which must stay, if any must."""
    return float((usual if free.all() else usual[~free]).max())


def _is_depthwise(graph: Graph, node: Node) -> bool:
    return isinstance(node.op, Conv2d) and node.op.is_depthwise(graph.shapes(node))


def _pulls(graph: Graph, node: Node, usual: Mapping[str, Floats]) -> Floats:
    """Return by how much weights want each input channel scaled away from the even range, in logs.

    A channel of large weights would coarsen the steps of its whole filter. The even one is where
    a channel's share in the outputs is that of the others.
    """
    weight = _matrix(graph, node) / usual[node.output][:, None]
    share = weight.max(0) * usual[node.inputs[0]]
    share = np.maximum(share, max(_FLOOR * float(share.max()), 1e-30))
    log_share = np.log(share)
    wished: Floats = (log_share.mean() - log_share) / 2
    return wished.clip(-np.log(_PULL), np.log(_PULL))


def _matrix(graph: Graph, node: Node) -> Floats:
    """Return the largest magnitude of each filter per input channel, `(O, I)`; 0 across groups."""
    weight: Floats = np.abs(np.asarray(graph[node.inputs[1]].data, np.float64)).max((2, 3))
    if isinstance(node.op, ConvTranspose2d):
        return weight.T
    assert isinstance(node.op, Conv2d)
    out, per_group = weight.shape
    whole = np.zeros((out, per_group * node.op.groups))
    for number, filters in enumerate(np.split(np.arange(out), node.op.groups)):
        whole[filters, number * per_group : (number + 1) * per_group] = weight[filters]
    return whole


def _rescaled(graph: Graph, node: Node, scales: Mapping[str, Floats]) -> list[Tensor]:
    """Return weight and bias for inputs and outputs divided by their scales."""
    into, out = scales[node.inputs[0]], scales[node.output]
    weight = np.asarray(graph[node.inputs[1]].data, np.float64)
    if isinstance(node.op, ConvTranspose2d):
        factor = into[:, None] / out[None, :]
    else:
        assert isinstance(node.op, Conv2d)
        groups = np.repeat(np.arange(node.op.groups), weight.shape[0] // node.op.groups)
        factor = into.reshape(node.op.groups, -1)[groups] / out[:, None]
    data = (weight * factor[:, :, None, None]).astype(np.float32)
    made = [replace(graph[node.inputs[1]], data=data)]
    if len(node.inputs) > 2:
        bias = np.asarray(graph[node.inputs[2]].data, np.float64) / out
        made.append(replace(graph[node.inputs[2]], data=bias.astype(np.float32)))
    return made
