"""Graph to graph. Each pass shows what it does as text; a pass that finds nothing changes nothing.

`normalise` is what every target wants; `for_tflite` says with nodes what a TFLite operator cannot
say by itself. The rewrites are exact and optional.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Array, Graph, Node, Tensor
from mobileseg.graph.ops import (
    NO_PAD,
    TRAINING_OPS,
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Crop,
    DepthToSpace,
    Dequantize,
    Mul,
    Neg,
    Op,
    Pad,
    Pads,
    Pool,
)

Pass: TypeAlias = Callable[[Graph], Graph]


def run_passes(graph: Graph, passes: Iterable[Pass]) -> Graph:
    """Return the graph after the passes, in order."""
    for each in passes:
        graph = each(graph)
    return graph


def normalise(graph: Graph) -> Graph:
    """Return the graph with everything folded and fused that costs no exactness.

    Raises MobilesegError where a training-only operator stays, naming its layer.
    """
    graph = run_passes(graph, NORMALISE)
    for node in graph.nodes:
        if type(node.op) in TRAINING_OPS:
            raise MobilesegError(f"{node.layer}: {node.op.kind} follows no convolution")
    return graph


@dataclass
class _Draft:
    """A graph in the making: nodes in order, new constants, and names that stand for others."""

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Tensor] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)

    def read(self, node: Node) -> Node:
        """Return the node with inputs that an earlier change renamed."""
        return replace(node, inputs=tuple(self.alias.get(name, name) for name in node.inputs))

    def constant(self, name: str, data: Array) -> str:
        self.constants[name] = Tensor(name, data.shape, data=data)
        return name

    def data(self, name: str) -> Array:
        tensor = self.constants.get(name) or self.graph[name]
        assert tensor.data is not None
        return tensor.data

    def last(self, name: str) -> Node | None:
        """Return the drafted node that makes `name`."""
        return next((node for node in reversed(self.nodes) if node.output == name), None)

    def swap(self, old: Node, new: Node) -> None:
        self.nodes[self.nodes.index(old)] = new

    def finish(self) -> Graph:
        outputs = tuple(self.alias.get(name, name) for name in self.graph.outputs)
        return self.graph.edit(self.nodes, self.constants.values(), outputs)


def _absorb(graph: Graph, into: Callable[[_Draft, Node, Node], Node | None]) -> Graph:
    """Offer each node to its sole producer: `into(draft, before, node)` returns the merged one.

    The merged node makes the node's output, so that a network's outputs keep their names.
    """
    draft = _Draft(graph)
    for original in graph.nodes:
        node = draft.read(original)
        before = draft.last(node.inputs[0])
        merged = None
        if before is not None and graph.only_consumer(before.output) is not None:
            merged = into(draft, before, node)
        if merged is None or before is None:
            draft.nodes.append(node)
        else:
            draft.swap(before, replace(merged, output=node.output))
    return draft.finish()


def fold_batch_norm(graph: Graph) -> Graph:
    """Fold batch norm into the convolution before it, in float64.

    Before: `y = Conv2d x w; z = BatchNorm y`. After: `z = Conv2d x w' b'`.
    """

    def into(draft: _Draft, before: Node, node: Node) -> Node | None:
        if not isinstance(node.op, BatchNorm) or not isinstance(before.op, _CONVS):
            return None
        gamma, beta, mean, variance = (draft.data(n).astype(np.float64) for n in node.inputs[1:])
        factor = gamma / np.sqrt(variance + node.op.eps)
        weight = draft.data(before.inputs[1])
        bias = draft.data(before.inputs[2]) if len(before.inputs) > 2 else np.zeros_like(beta)
        axis = 1 if isinstance(before.op, ConvTranspose2d) else 0
        along = [1] * weight.ndim
        along[axis] = -1
        scaled = (weight * factor.reshape(along)).astype(np.float32)
        shifted = (beta + (bias - mean) * factor).astype(np.float32)
        name = before.layer
        inputs = (
            before.inputs[0],
            draft.constant(f"{name}.weight", scaled),
            draft.constant(f"{name}.bias", shifted),
        )
        return replace(before, inputs=inputs)

    return _absorb(graph, into)


def fuse_activation(graph: Graph) -> Graph:
    """Fuse ReLU and ReLU6 into the operator before.

    Before: `y = Add a b; z = Activation(relu) y`. After: `z = Add(activation=relu) a b`.
    """

    def into(_: _Draft, before: Node, node: Node) -> Node | None:
        if not isinstance(node.op, Activation) or node.op.function not in {"relu", "relu6"}:
            return None
        op = before.op
        if not isinstance(op, (*_CONVS, Add, Mul)) or op.activation != "none":
            return None
        return replace(before, op=replace(op, activation=node.op.function))

    return _absorb(graph, into)


def fold_pad(graph: Graph) -> Graph:
    """Fold zero padding into the convolution behind it.

    Before: `y = Pad(pad=0x0x1x1) x; z = Conv2d(stride=2x2) y w`.
    After: `z = Conv2d(stride=2x2 pad=0x0x1x1) x w`.
    """

    def into(_: _Draft, before: Node, node: Node) -> Node | None:
        if not isinstance(before.op, Pad) or not isinstance(node.op, Conv2d):
            return None
        top, left, bottom, right = (a + b for a, b in zip(before.op.pad, node.op.pad, strict=True))
        op = replace(node.op, pad=(top, left, bottom, right))
        return replace(node, op=op, inputs=(*before.inputs, *node.inputs[1:]))

    return _absorb(graph, into)


def fold_crelu(graph: Graph) -> Graph:
    """Make concat(x, -x) of a convolution's output the convolution's own.

    Before: `y = Conv2d x w b; n = Neg y; z = Concat y n`. After: `z = Conv2d x [w, -w] [b, -b]`.
    """
    draft = _Draft(graph)
    for original in graph.nodes:
        node = draft.read(original)
        conv = _crelu_source(graph, node)
        before = draft.last(conv.output) if conv is not None else None
        if before is None:
            draft.nodes.append(node)
            continue
        inputs = [before.inputs[0]]
        for name in before.inputs[1:]:
            data = draft.data(name)
            inputs.append(draft.constant(f"{name}_crelu", np.concatenate([data, -data])))
        draft.swap(before, replace(before, inputs=tuple(inputs), output=node.output))
        draft.nodes = [n for n in draft.nodes if n.output != node.inputs[1]]
    return draft.finish()


def _crelu_source(graph: Graph, node: Node) -> Node | None:
    """Return the convolution whose output and its negative `node` joins, and nobody else reads."""
    if not isinstance(node.op, Concat) or len(node.inputs) != 2:
        return None
    source, negative = (graph.producers.get(name) for name in node.inputs)
    if source is None or negative is None or not isinstance(negative.op, Neg):
        return None
    plain = isinstance(source.op, Conv2d) and source.op.activation == "none"
    same = negative.inputs == (source.output,) and graph.only_consumer(negative.output) is node
    alone = len(graph.consumers[source.output]) == 2 and source.output not in graph.outputs
    grouped = isinstance(source.op, Conv2d) and source.op.groups != 1
    return source if plain and same and alone and not grouped else None


def merge_activations(graph: Graph) -> Graph:
    """Drop a ReLU behind a tensor that is never negative because of a fused ReLU.

    Before: `y = Conv2d(activation=relu) x w; z = Activation(relu) y`. After: `z = y`.
    """

    def into(_: _Draft, before: Node, node: Node) -> Node | None:
        fused = getattr(before.op, "activation", "none")
        if not isinstance(node.op, Activation) or node.op.function not in {"relu", "relu6"}:
            return None
        return before if fused in {node.op.function, "relu6"} else None

    return _absorb(graph, into)


def deconv_to_conv(graph: Graph) -> Graph:
    """Make a 4x4 transposed convolution of stride 2, pad 1 a 2x2 convolution, exactly.

    Before: `y = ConvTranspose2d(stride=2x2 pad=1x1x1x1) x w b`.
    After:  `p = Pad(pad=1x1x1x1) x; c = Conv2d p w' b'; d = DepthToSpace c; y = Crop d`.

    Output row 2i + phase sums two input rows: i - 1 and i with kernel rows 3 and 1 (phase 0), or
    i and i + 1 with kernel rows 2 and 0 (phase 1); columns alike. In the padded picture both are
    window j's rows, where the window gives row 2j - 1 by phase 1 and row 2j by phase 0.
    """
    draft = _Draft(graph)
    for node in graph.nodes:
        op = node.op
        kernel = graph[node.inputs[1]].shape[2:] if isinstance(op, ConvTranspose2d) else ()
        if not isinstance(op, ConvTranspose2d) or not _is_doubling(op, kernel):
            draft.nodes.append(node)
            continue
        weight = draft.data(node.inputs[1])
        into, out = weight.shape[:2]
        # Block position 0 of depth-to-space is output row 2j - 1 (phase 1), position 1 row 2j.
        rows = ((2, 0), (3, 1))
        parts = [weight[:, :, a][:, :, :, b] for a in rows for b in rows]
        dense = np.stack(parts).transpose(0, 2, 1, 3, 4).reshape(4 * out, into, 2, 2)
        name = node.layer
        inputs = [f"{node.output}.pad", draft.constant(f"{name}.weight_2x2", dense.copy())]
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


def _is_doubling(op: ConvTranspose2d, kernel: tuple[int, ...]) -> bool:
    plain = op.stride == (2, 2) and op.pad == (1, 1, 1, 1) and op.extra == (0, 0)
    return plain and kernel == (4, 4)


def same_pads(graph: Graph, node: Node) -> Pads:
    """Return the padding that TFLite's SAME means for this convolution or pooling."""
    op = node.op
    _, _, h, w = graph[node.inputs[0]].shape
    if isinstance(op, Pool):
        kernel, dilation = op.kernel, (1, 1)
    else:
        assert isinstance(op, Conv2d)
        shape = graph[node.inputs[1]].shape
        kernel, dilation = (shape[2], shape[3]), op.dilation
    pads = []
    for size, k, stride, d in zip((h, w), kernel, op.stride, dilation, strict=True):
        total = max((-(-size // stride) - 1) * stride + (k - 1) * d + 1 - size, 0)
        pads.append((total // 2, total - total // 2))
    return (pads[0][0], pads[1][0], pads[0][1], pads[1][1])


def explicit_pad(graph: Graph) -> Graph:
    """Say padding that is neither SAME nor none with a Pad node of its own.

    Before: `y = Conv2d(stride=2x2 pad=1x1x1x1) x w` on an even picture, where SAME is 0x0x1x1.
    After:  `p = Pad(pad=1x1x1x1) x; y = Conv2d(stride=2x2) p w`.
    """
    draft = _Draft(graph)
    for node in graph.nodes:
        op = node.op
        if not isinstance(op, Conv2d | Pool) or op.pad in {NO_PAD, same_pads(graph, node)}:
            draft.nodes.append(node)
            continue
        if isinstance(op, Pool):
            raise MobilesegError(
                f"{node.layer}: pooling padded by {op.pad}; TFLite pads pooling as SAME or not "
                "at all"
            )
        padded = f"{node.output}.pad"
        draft.nodes.append(Node(Pad(op.pad), node.inputs[:1], padded, node.layer))
        plain = replace(op, pad=NO_PAD)
        draft.nodes.append(replace(node, op=plain, inputs=(padded, *node.inputs[1:])))
    return draft.finish()


def explicit_crop(graph: Graph) -> Graph:
    """Say a transposed convolution's cut that is neither SAME nor none with a Crop node.

    Before: `y = ConvTranspose2d(pad=1x1x0x0) x w`. After: `f = ConvTranspose2d x w; y = Crop f`.
    """
    draft = _Draft(graph)
    for node in graph.nodes:
        op = node.op
        if not isinstance(op, ConvTranspose2d) or _cut_is_sayable(op, same_cut(graph, node)):
            draft.nodes.append(node)
            continue
        if op.extra[0] > op.pad[2] or op.extra[1] > op.pad[3]:
            raise MobilesegError(f"{node.layer}: output_padding larger than the padding it undoes")
        whole = f"{node.output}.whole"
        _, _, height, width = graph[node.output].shape
        plain = replace(op, pad=NO_PAD, extra=(0, 0))
        draft.nodes.append(replace(node, op=plain, output=whole))
        crop = Crop((op.pad[0], op.pad[1]), (height, width))
        draft.nodes.append(Node(crop, (whole,), node.output, node.layer))
    return draft.finish()


def _cut_is_sayable(op: ConvTranspose2d, same: Pads) -> bool:
    return op.extra == (0, 0) and op.pad in {NO_PAD, same}


def same_cut(graph: Graph, node: Node) -> Pads:
    """Return what SAME cuts from this transposed convolution's full output.

    SAME makes the output input * stride large and is the gradient of a SAME convolution there.
    """
    assert isinstance(node.op, ConvTranspose2d)
    cuts = []
    for k, stride in zip(graph[node.inputs[1]].shape[2:], node.op.stride, strict=True):
        total = max(k - stride, 0)
        cuts.append((total // 2, total - total // 2))
    return (cuts[0][0], cuts[1][0], cuts[0][1], cuts[1][1])


def float16_weights(graph: Graph) -> Graph:
    """Store the convolutions' weights as float16; a Dequantize node makes each float32 again.

    Before: `y = Conv2d x w b`. After: `v = Dequantize w_f16; y = Conv2d x v b`.
    """
    draft = _Draft(graph)
    for node in graph.nodes:
        if not isinstance(node.op, _CONVS):
            draft.nodes.append(node)
            continue
        name = node.inputs[1]
        half = draft.data(name).astype(np.float16)
        stored = Tensor(f"{name}_f16", half.shape, "float16", data=half)
        draft.constants[stored.name] = stored
        wide = f"{name}_f32"
        draft.nodes.append(Node(Dequantize(), (stored.name,), wide, node.layer))
        draft.nodes.append(replace(node, inputs=(node.inputs[0], wide, *node.inputs[2:])))
    return draft.finish()


_CONVS = (Conv2d, ConvTranspose2d)

NORMALISE: tuple[Pass, ...] = (
    fold_pad,
    fold_crelu,
    fold_batch_norm,
    fuse_activation,
    merge_activations,
)
REWRITES: tuple[Pass, ...] = (deconv_to_conv,)
FOR_TFLITE: tuple[Pass, ...] = (explicit_pad, explicit_crop)
