"""Rewrites that a device or a file size asks for, exact unless they say otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Array, Graph, Node, Tensor, hollow, is_hollow
from mobileseg.graph.ops import (
    Conv2d,
    ConvTranspose2d,
    Crop,
    DepthToSpace,
    Dequantize,
    Op,
    Pad,
)
from mobileseg.graph.passes.draft import CONVS, Draft


def deconv_to_conv(graph: Graph) -> Graph:
    """Make a 4x4 transposed convolution of stride 2, pad 1 a 2x2 convolution, exactly.

    Before: `y = ConvTranspose2d(stride=2x2 pad=1x1x1x1) x w b`.
    After:  `p = Pad(pad=1x1x1x1) x; c = Conv2d p w' b'; d = DepthToSpace c; y = Crop d`.

    Output row 2i + phase sums two input rows: i - 1 and i with kernel rows 3 and 1 (phase 0), or
    i and i + 1 with kernel rows 2 and 0 (phase 1); columns alike. In the padded picture both are
    window j's rows, where the window gives row 2j - 1 by phase 1 and row 2j by phase 0.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        op = node.op
        kernel = graph[node.inputs[1]].shape[2:] if isinstance(op, ConvTranspose2d) else ()
        if not isinstance(op, ConvTranspose2d) or not _is_doubling(op, kernel):
            draft.nodes.append(node)
            continue
        weight = draft.data(node.inputs[1])
        name = node.layer
        inputs = [f"{node.output}.pad", draft.constant(f"{name}.weight_2x2", _phases(weight))]
        if len(node.inputs) > 2:
            bias = np.tile(draft.data(node.inputs[2]), 4)
            inputs.append(draft.constant(f"{name}.bias_2x2", bias))
        _, _, height, width = graph[node.output].shape
        steps: list[tuple[Op, tuple[str, ...], str]] = [
            (Pad((1, 1, 1, 1)), node.inputs[:1], f"{node.output}.pad"),
            (Conv2d(activation=op.activation), tuple(inputs), f"{node.output}.phases"),
            (DepthToSpace(2), (f"{node.output}.phases",), f"{node.output}.mixed"),
            (Crop((1, 1), (height, width)), (f"{node.output}.mixed",), node.output),
        ]
        draft.nodes += [Node(step, names, made, node.layer) for step, names, made in steps]
    return draft.finish()


def _phases(weight: Array) -> Array:
    """Return 4x4 weights `(I, O, 4, 4)` as 2x2 ones `(4 * O, I, 2, 2)`, a quarter per phase."""
    into, out = weight.shape[:2]
    if is_hollow(weight):
        return hollow((4 * out, into, 2, 2))
    # Block position 0 of depth-to-space is output row 2j - 1 (phase 1), position 1 row 2j.
    rows = ((2, 0), (3, 1))
    parts = [weight[:, :, a][:, :, :, b] for a in rows for b in rows]
    return np.stack(parts).transpose(0, 2, 1, 3, 4).reshape(4 * out, into, 2, 2).copy()


def _is_doubling(op: ConvTranspose2d, kernel: tuple[int, ...]) -> bool:
    plain = op.stride == (2, 2) and op.pad == (1, 1, 1, 1) and op.extra == (0, 0)
    return plain and kernel == (4, 4)


def float16_weights(graph: Graph) -> Graph:
    """Store the convolutions' weights as float16; a Dequantize node makes each float32 again.

    Before: `y = Conv2d x w b`. After: `v = Dequantize w_f16; y = Conv2d x v b`.

    Not exact: a weight keeps 11 bits. Raises MobilesegError for one that float16 cannot hold.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if not isinstance(node.op, CONVS):
            draft.nodes.append(node)
            continue
        name = node.inputs[1]
        half = _halved(node, draft.data(name))
        stored = Tensor(f"{name}_f16", half.shape, "float16", data=half)
        draft.constants[stored.name] = stored
        wide = f"{name}_f32"
        draft.nodes.append(Node(Dequantize(), (stored.name,), wide, node.layer))
        draft.nodes.append(replace(node, inputs=(node.inputs[0], wide, *node.inputs[2:])))
    return draft.finish()


def _halved(node: Node, weight: Array) -> Array:
    largest = float(np.abs(weight).max())
    if largest > float(np.finfo(np.float16).max):
        raise MobilesegError(
            f"{node.layer}: a weight of {largest:g} is beyond float16's 65504; export float32"
        )
    return weight.astype(np.float16)
