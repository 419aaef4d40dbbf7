"""What a file format cannot say by itself, said with nodes of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Graph, Node, Tensor
from mobileseg.graph.ops import (
    NO_PAD,
    Activation,
    Add,
    Conv2d,
    ConvTranspose2d,
    Crop,
    Mul,
    Neg,
    Pad,
    Pads,
    Pool,
    Quantize,
)
from mobileseg.graph.passes.clean import remove_idle
from mobileseg.graph.passes.draft import CONVS, Draft, Pass
from mobileseg.graph.passes.fold import fold_pad


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

    Raises MobilesegError for padded pooling that a Pad of zeros would change.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        op = node.op
        if not isinstance(op, Conv2d | Pool) or op.pad in {NO_PAD, same_pads(graph, node)}:
            draft.nodes.append(node)
            continue
        if isinstance(op, Pool) and not (op.function == "max" and _never_negative(graph, node)):
            raise MobilesegError(
                f"{node.layer}: {op.function} pooling padded by {op.pad}; TFLite pads pooling as "
                f"SAME ({same_pads(graph, node)}) or not at all; a ReLU before it makes zeros do"
            )
        padded = f"{node.output}.pad"
        draft.nodes.append(Node(Pad(op.pad), node.inputs[:1], padded, node.layer))
        plain = replace(op, pad=NO_PAD)
        draft.nodes.append(replace(node, op=plain, inputs=(padded, *node.inputs[1:])))
    return draft.finish()


def _never_negative(graph: Graph, node: Node) -> bool:
    """Whether the node reads what a ReLU has made: a zero beside it is never the largest alone."""
    source = graph.producers.get(node.inputs[0])
    op = source.op if source is not None else None
    if isinstance(op, Activation):
        return op.function != "hard_swish"
    return getattr(op, "activation", "none") != "none"


def explicit_crop(graph: Graph) -> Graph:
    """Say a transposed convolution's cut that is neither SAME nor none with a Crop node.

    Before: `y = ConvTranspose2d(pad=1x1x0x0) x w`. After: `f = ConvTranspose2d x w; y = Crop f`.
    """
    draft = Draft(graph)
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


def explicit_bias(graph: Graph) -> Graph:
    """Give every convolution a bias: LiteRT crashes on a float one without.

    Before: `y = Conv2d x w`. After: `y = Conv2d x w zeros`.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if not isinstance(node.op, CONVS) or len(node.inputs) > 2:
            draft.nodes.append(node)
            continue
        zeros = np.zeros(graph[node.output].shape[1], np.float32)
        bias = draft.constant(f"{node.output}.no_bias", zeros)
        draft.nodes.append(replace(node, inputs=(*node.inputs, bias)))
    return draft.finish()


def hard_sigmoid_of_relu6(graph: Graph) -> Graph:
    """Say hard-sigmoid, which TFLite lacks, by its definition.

    Before: `y = Activation(hard_sigmoid) x`.
    After:  `s = Add(activation=relu6) x 3; y = Mul s 1/6`.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if node.op != Activation("hard_sigmoid"):
            draft.nodes.append(node)
            continue
        ones = np.ones((1, 1, 1, 1), np.float32)
        three = draft.constant(f"{node.output}.three", 3 * ones)
        sixth = draft.constant(f"{node.output}.sixth", ones / 6)
        shifted = f"{node.output}.shifted"
        inputs = (node.inputs[0], three)
        draft.nodes.append(Node(Add("relu6"), inputs, shifted, node.layer))
        draft.nodes.append(replace(node, op=Mul(), inputs=(shifted, sixth)))
    return draft.finish()


def neg_as_mul(graph: Graph) -> Graph:
    """Say minus x as a product: TFLite's int8 NEG ignores scale and zero point.

    Before: `y = Neg x`. After: `y = Mul x -1`.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        if not isinstance(node.op, Neg):
            draft.nodes.append(node)
            continue
        minus = draft.constant(f"{node.output}.minus", -np.ones((1, 1, 1, 1), np.float32))
        draft.nodes.append(replace(node, op=Mul(), inputs=(*node.inputs, minus)))
    return draft.finish()


def unsigned_steps(graph: Graph) -> Graph:
    """Move int8 steps up by 128 to uint8, weights too; the reals and the sums stay the same.

    Before: `i: i8 = Quantize image; y: i8 = Conv2d i w[i8] b`, for a uint8 image.
    After:  `y: u8 = Conv2d image w[u8] b`.

    ONNX Runtime multiplies uint8 by int8 in saturating 16-bit pairs on x86 without VNNI: large
    sums come out wrong there. Unsigned weights take its exact kernel on every processor.
    Source: onnxruntime.ai, "Quantize ONNX models", "When and why do I need to try U8U8?".
    """
    edges = {name for name in (*graph.inputs, *graph.outputs) if graph[name].dtype == "int8"}
    moved = {t.name: _unsigned(t) for t in graph.tensors.values() if t.dtype == "int8"}
    if not moved:
        return graph
    inner = {name: f"{name}_u8" for name in edges}
    tensors = [replace(t, name=inner.get(t.name, t.name)) for t in moved.values()]
    nodes = [Node(Quantize(), (name,), inner[name], name) for name in graph.inputs if name in edges]
    nodes += [
        replace(
            node,
            inputs=tuple(inner.get(name, name) for name in node.inputs),
            output=inner.get(node.output, node.output),
        )
        for node in graph.nodes
    ]
    nodes += [
        Node(Quantize(), (inner[name],), name, name) for name in graph.outputs if name in edges
    ]
    return remove_idle(graph.edit(nodes, tensors))


def _unsigned(tensor: Tensor) -> Tensor:
    assert tensor.quant is not None
    quant = replace(tensor.quant, zero_point=tensor.quant.zero_point + 128)
    data = tensor.data
    if data is not None:
        data = (data.astype(np.int16) + 128).astype(np.uint8)
    return replace(tensor, dtype="uint8", quant=quant, data=data)


FOR_ONNX: tuple[Pass, ...] = (fold_pad, unsigned_steps)
FOR_TFLITE: tuple[Pass, ...] = (
    explicit_pad,
    explicit_crop,
    explicit_bias,
    hard_sigmoid_of_relu6,
    neg_as_mul,
)
