"""A transposed convolution as a convolution: one matrix product, where a kernel has its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mobileseg.graph.ir import Array, Node, hollow, is_hollow
from mobileseg.graph.ops import Conv2d, ConvTranspose2d, Crop, DepthToSpace, Op, Pad
from mobileseg.graph.passes.draft import Draft, Rewrite


def _local(draft: Draft, node: Node) -> Sequence[Node] | None:
    """See `deconv_to_conv`.

    With stride s, output row s * t + phase of the whole output sums the kernel's rows phase,
    phase + s, ... with the input's rows t, t - 1, ...: a convolution with as many rows as a phase
    has. Each phase is a group of channels, which depth-to-space puts in its place.
    """
    op = node.op
    if not isinstance(op, ConvTranspose2d) or op.stride[0] != op.stride[1] or op.stride[0] < 2:
        return None
    graph, stride = draft.graph, op.stride[0]
    (_, _, h, w), (_, _, kh, kw) = graph.shapes(node)[:2]
    taps = (-(-kh // stride), -(-kw // stride))
    _, _, height, width = graph[node.output].shape
    whole = tuple(stride * (size + tap - 1) for size, tap in zip((h, w), taps, strict=True))
    if op.pad[0] + height > whole[0] or op.pad[1] + width > whole[1]:
        return None
    stem = node.output
    weight = draft.constant(f"{stem}.weight_phases", _phases(draft.data(node.inputs[1]), stride))
    given = [weight]
    if len(node.inputs) > 2:
        bias = np.tile(draft.data(node.inputs[2]), stride * stride)
        given.append(draft.constant(f"{stem}.bias_phases", bias))
    steps: list[tuple[Op, list[str], str]] = []
    source = node.inputs[0]
    rows, columns = (tap - 1 for tap in taps)
    if rows or columns:
        steps.append((Pad((rows, columns, rows, columns)), [source], f"{stem}.pad"))
        source = f"{stem}.pad"
    steps.append((Conv2d(activation=op.activation), [source, *given], f"{stem}.phases"))
    cut = (height, width) != whole
    mixed = f"{stem}.mixed" if cut else stem
    steps.append((DepthToSpace(stride), [f"{stem}.phases"], mixed))
    if cut:
        steps.append((Crop(op.pad[:2], (height, width)), [mixed], stem))
    return [Node(step, tuple(names), made, node.layer) for step, names, made in steps]


def _phases(weight: Array, stride: int) -> Array:
    """Return weights `(I, O, kh, kw)` as `(stride ** 2 * O, I, rows, columns)`, phase by phase."""
    into, out, kh, kw = weight.shape
    rows, columns = -(-kh // stride), -(-kw // stride)
    if is_hollow(weight):
        return hollow((stride * stride * out, into, rows, columns))
    # A kernel that the stride does not divide ends in zeros.
    filled = np.zeros((into, out, rows * stride, columns * stride), weight.dtype)
    filled[:, :, :kh, :kw] = weight
    split = filled.reshape(into, out, rows, stride, columns, stride)
    # The window's first row is the latest tap: it reads the input's row furthest back.
    turned = split[:, :, ::-1, :, ::-1]
    phases = turned.transpose(3, 5, 1, 0, 2, 4)
    return np.ascontiguousarray(phases.reshape(stride * stride * out, into, rows, columns))


deconv_to_conv = Rewrite(
    "deconv_to_conv",
    "a transposed convolution as a convolution and depth to space",
    _local,
)
"""Before: `y = ConvTranspose2d(stride=2x2 pad=1x1x1x1) x w[5, 6, 4, 4] b`.
After:  `p = Pad(pad=1x1x1x1) x; c = Conv2d p w'[24, 5, 2, 2] b'; d = DepthToSpace c; y = Crop d`.
"""
