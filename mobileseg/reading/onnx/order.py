"""ONNX's operators on the order of axes and on parts of the channels.

A transposed map is the same map in the graph, whose layout is its writer's affair: so a Transpose
is no node, and what reads its result must turn it back, or know what it does to each axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mobileseg.graph import ops
from mobileseg.graph.ir import Node
from mobileseg.graph.ops import Shape
from mobileseg.reading.onnx.call import Call, Handler
from mobileseg.reading.sketch import Act, RefusedError

_KEPT: Shape = (0, 1, 2, 3)
CHANNELS_LAST: Shape = (0, 2, 3, 1)


def _transpose(call: Call) -> Act:
    found = call.value(0)
    if not isinstance(found, Act):
        raise RefusedError("a constant")
    rank = len(found.shape)
    turn = call.integers("perm") or list(range(rank))[::-1]
    if sorted(turn) != list(range(rank)):
        raise call.damaged(f"axes {turn[:8]} of {list(found.shape)}")
    if rank != 4 or (not found.order and found.shape != call.file.sketch.shape(found.name)):
        raise RefusedError(f"axes {turn} of {list(found.shape)}")
    before = found.order or _KEPT
    order = tuple(before[axis] for axis in turn)
    shape = tuple(found.shape[axis] for axis in turn)
    return Act(found.name, shape, () if order == _KEPT else order)


def with_channels_at(call: Call, axis: int) -> Act | None:
    """Return the input where it is a transposed map; None for a plain one.

    Raises RefusedError where `axis` of it is not the channels.
    """
    found = call.value(0)
    if not isinstance(found, Act) or not found.order:
        return None
    if found.order[axis % 4] != 1:
        raise RefusedError(f"axis {axis} of axes {list(found.order)}")
    return found


def is_channels_last(sides: Sequence[object]) -> bool:
    """Whether an input's shape says (batch, height, width, 3), as TensorFlow's exporters do."""
    return len(sides) == 4 and sides[3] == 3 and sides[1] not in {1, 3}


def _split(call: Call) -> list[Act]:
    """The filters of the convolution before are split, so that nothing has to be moved."""
    x = call.map()
    channels, axis = call.file.sketch.shape(x)[1], call.integer("axis", 0)
    if axis % len(call.act().shape) != 1:
        raise RefusedError(f"axis {axis}")
    count = len(call.node.output)
    even = -(-channels // count)
    sizes = call.numbers(1, "split") or [
        min(even, channels - start) for start in range(0, channels, even)
    ]
    if sum(sizes) != channels or min(sizes) < 1 or len(sizes) != count:
        raise call.damaged(f"parts of {sizes} out of {channels} channels")
    ends = np.cumsum(sizes).tolist()
    return [
        call.like(part_of(call, x, end - size, end)) for size, end in zip(sizes, ends, strict=True)
    ]


def part_of(call: Call, x: str, start: int, end: int) -> Act:
    """Return some channels of what a convolution makes: a convolution with those filters."""
    sketch = call.file.sketch
    chain = _back_to_convolution(call, x)
    conv, *behind = chain
    names = [conv.inputs[0]]
    for name in conv.inputs[1:]:
        data = sketch.tensors[name].data
        if data is None:
            raise RefusedError("parts of quantized channels")
        names.append(sketch.constant(f"{name}.{start}_{end}", data[start:end]))
    made = call.emit(conv.op, names, f".{start}_{end}")
    for node in behind:
        made = call.emit(node.op, [made.name], f".{start}_{end}.{node.op.kind}")
    return made


def _back_to_convolution(call: Call, x: str) -> Sequence[Node]:
    """Return the convolution that makes x and the activations behind it, in running order."""
    sketch = call.file.sketch
    chain = []
    while x in sketch.makers:
        node = sketch.nodes[sketch.makers[x]]
        chain.append(node)
        if isinstance(node.op, ops.Conv2d) and node.op.groups == 1:
            return chain[::-1]
        if not isinstance(node.op, ops.Activation):
            break
        x = node.inputs[0]
    raise RefusedError("channels that no plain convolution makes")


ORDER: Mapping[str, Handler] = {"Transpose": _transpose, "Split": _split}
