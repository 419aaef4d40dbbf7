"""The graph at work in float: torch's own kernels, differentiable, node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node


def execute(
    graph: Graph,
    image: Tensor,
    observe: Callable[[str, Tensor], None] | None = None,
    constants: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Return the output for float images `(N, 3, H, W)`; any N.

    `observe(name, value)` sees every activation, the image first. `constants`: all of them, in
    the place of the graph's own. Raises MobilesegError for a
    graph with integer activations: `execute_int8` runs those.
    """
    if constants is None:
        constants = {
            tensor.name: torch.from_numpy(np.array(tensor.data))
            for tensor in graph.tensors.values()
            if tensor.data is not None
        }
    values: dict[str, Tensor] = {**constants, graph.inputs[0]: image}
    if observe is not None:
        observe(graph.inputs[0], image)
    for node in graph.nodes:
        values[node.output] = run_node(node, [values[name] for name in node.inputs])
        if observe is not None:
            observe(node.output, values[node.output])
        drop_read(graph, node, values)
    return values[graph.outputs[0]]


def drop_read(graph: Graph, node: Node, values: dict[str, Tensor]) -> None:
    """Free what no later node reads: deep nets at full size would not fit otherwise."""
    for name in node.inputs:
        readers = graph.consumers[name]
        if readers[-1] is node and name not in graph.outputs:
            values.pop(name, None)


def run_node(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    """Return one node's float output."""
    kernel = KERNELS.get(type(node.op))
    if kernel is None:
        raise MobilesegError(f"{node.layer}: {node.op.kind} is no float operator")
    return kernel(node.op, inputs)


def activate(x: Tensor, function: str) -> Tensor:
    """Return the point-wise function of x by its name."""
    return FUNCTIONS[function](x)


def _pad(x: Tensor, pads: ops.Pads, value: float = 0.0) -> Tensor:
    top, left, bottom, right = pads
    return F.pad(x, (left, right, top, bottom), value=value) if any(pads) else x


def _conv(op: Any, inputs: Sequence[Tensor]) -> Tensor:
    bias = inputs[2] if len(inputs) > 2 else None
    out = F.conv2d(_pad(inputs[0], op.pad), inputs[1], bias, op.stride, 0, op.dilation, op.groups)
    return activate(out, op.activation)


def _deconv(op: Any, inputs: Sequence[Tensor]) -> Tensor:
    bias = inputs[2] if len(inputs) > 2 else None
    out = F.conv_transpose2d(inputs[0], inputs[1], bias, op.stride)
    top, left, bottom, right = op.pad
    out = _pad(out, (-top, -left, op.extra[0] - bottom, op.extra[1] - right))
    return activate(out, op.activation)


def _batch_norm(op: Any, inputs: Sequence[Tensor]) -> Tensor:
    x, gamma, beta, mean, variance = inputs
    return F.batch_norm(x, mean, variance, gamma, beta, eps=op.eps)


def sloped(x: Tensor, slope: Tensor | float) -> Tensor:
    """Return x where it is positive, slope * x elsewhere."""
    return torch.where(x > 0, x, x * slope)


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """Return x with channel groups moved into space, in TFLite's channel order."""
    n, c, h, w = x.shape
    split = x.reshape(n, block, block, c // block**2, h, w)
    return split.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)


def crop(x: Tensor, op: Any) -> Tensor:
    """Return the window that a Crop names."""
    (top, left), (height, width) = op.start, op.size
    return x[:, :, top : top + height, left : left + width]


def pool(op: Any, inputs: Sequence[Tensor]) -> Tensor:
    """Return max or mean pooling; the mean divides by the pixels inside the picture."""
    x = inputs[0]
    if op.function == "max":
        return F.max_pool2d(_pad(x, op.pad, float("-inf")), op.kernel, op.stride)
    total = F.avg_pool2d(_pad(x, op.pad), op.kernel, op.stride)
    share = F.avg_pool2d(_pad(torch.ones_like(x[:1, :1]), op.pad), op.kernel, op.stride)
    return total / share


def resize(op: Any, inputs: Sequence[Tensor]) -> Tensor:
    """Return the resized picture."""
    corners = op.align_corners if op.mode == "bilinear" else None
    return F.interpolate(inputs[0], size=op.size, mode=op.mode, align_corners=corners)


FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "rsqrt": torch.rsqrt,
}

KERNELS: dict[type[ops.Op], Callable[[Any, Sequence[Tensor]], Tensor]] = {
    ops.Conv2d: _conv,
    ops.ConvTranspose2d: _deconv,
    ops.BatchNorm: _batch_norm,
    ops.Activation: lambda op, inputs: activate(inputs[0], op.function),
    ops.LeakyRelu: lambda op, inputs: F.leaky_relu(inputs[0], op.slope),
    ops.PRelu: lambda _, inputs: sloped(inputs[0], inputs[1]),
    ops.Neg: lambda _, inputs: -inputs[0],
    ops.Add: lambda op, inputs: activate(inputs[0] + inputs[1], op.activation),
    ops.Mul: lambda op, inputs: activate(inputs[0] * inputs[1], op.activation),
    ops.Concat: lambda _, inputs: torch.cat(list(inputs), dim=1),
    ops.Pad: lambda op, inputs: _pad(inputs[0], op.pad),
    ops.Crop: lambda op, inputs: crop(inputs[0], op),
    ops.DepthToSpace: lambda op, inputs: depth_to_space(inputs[0], op.block),
    ops.Pool: pool,
    ops.GlobalMean: lambda _, inputs: inputs[0].mean(dim=(2, 3), keepdim=True),
    ops.Resize: resize,
    ops.Softmax: lambda _, inputs: torch.softmax(inputs[0], dim=1),
    ops.ArgMax: lambda _, inputs: inputs[0].argmax(dim=1).to(torch.int32),
    ops.Dequantize: lambda _, inputs: inputs[0].float(),
}
