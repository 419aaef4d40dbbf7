"""A torch module as a graph: symbolic tracing, one handler per kind of torch call."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import fx, nn
from torch.nn import functional as F

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Array, Graph, Node, Tensor, assemble, hollow

IMAGE = "image"
LOGITS = "logits"


def trace(module: nn.Module, image_size: tuple[int, int]) -> Graph:
    """Return the graph of one image `(1, 3, height, width)` through the module, as in eval mode.

    A module on the meta device gives a graph whose weights are zeros that take no memory: enough
    to count and price. Raises MobilesegError naming a layer that no operator stands for.
    """
    was_training = module.training
    module.eval()
    try:
        traced = fx.Tracer().trace(module)
    except (fx.proxy.TraceError, TypeError) as error:
        raise MobilesegError(
            f"{type(module).__name__}: cannot be traced ({error}); "
            "its forward may not depend on the values of tensors"
        ) from None
    finally:
        module.train(was_training)
    tracer = _Tracer(module)
    image = Tensor(IMAGE, (1, 3, *image_size))
    for node in traced.nodes:
        tracer.visit(node, image)
    return _rename_output(assemble([image], tracer.nodes, tracer.outputs, tracer.tensors))


def _rename_output(graph: Graph) -> Graph:
    last = graph.outputs[0]
    nodes = [
        Node(n.op, n.inputs, LOGITS if n.output == last else n.output, n.layer) for n in graph.nodes
    ]
    return graph.edit(nodes, outputs=(LOGITS,))


@dataclass
class _Tracer:
    """Walks the fx graph; `values` holds a tensor's name, or any other Python value, per node."""

    module: nn.Module
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    values: dict[fx.Node, Any] = field(default_factory=dict)

    def visit(self, node: fx.Node, image: Tensor) -> None:
        if node.op == "placeholder":
            self.tensors[image.name] = image
            self.values[node] = image.name
        elif node.op == "output":
            result = node.args[0]
            if not isinstance(result, fx.Node):
                raise MobilesegError("the network returns one tensor, not a tuple or a dict")
            self.outputs = (self.values[result],)
        elif node.op == "call_module":
            self._call_module(node)
        elif node.op == "call_function":
            self._call_function(node.target, node)
        else:
            self._call_function((node.op, node.target), node)

    def _call_module(self, node: fx.Node) -> None:
        path = str(node.target)
        layer = self.module.get_submodule(path)
        handler = next((h for kind, h in MODULES.items() if isinstance(layer, kind)), None)
        if handler is None:
            known = ", ".join(kind.__name__ for kind in MODULES)
            raise MobilesegError(
                f"{path}: no operator stands for {type(layer).__name__}; known: {known}"
            )
        self.values[node] = handler(Call(self, path, self._arguments(node.args)), layer)

    def _call_function(self, target: Any, node: fx.Node) -> None:
        layer = _layer_of(node)
        handler = FUNCTIONS.get(target)
        if handler is None:
            name = getattr(target, "__name__", target)
            raise MobilesegError(f"{layer}: no operator stands for {name} in its forward")
        call = Call(self, layer, self._arguments(node.args), self._arguments(node.kwargs))
        self.values[node] = handler(call)

    def _arguments(self, value: Any) -> Any:
        return fx.node.map_arg(value, lambda node: self.values[node])


def _layer_of(node: fx.Node) -> str:
    """Return the path of the module whose forward made the call."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values() if entry[0]]
    return str(paths[-1]) if paths else str(node.name)


@dataclass(frozen=True)
class Call:
    """One torch call: where it stands, its arguments, and the means to answer with nodes."""

    tracer: _Tracer
    layer: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def emit(self, op: ops.Op, inputs: Sequence[str], layer: str = "") -> str:
        """Append a node; return its output's name."""
        layer = layer or self.layer
        name = self._fresh(layer)
        shape = op.shape([self.tracer.tensors[i].shape for i in inputs])
        self.tracer.tensors[name] = Tensor(name, shape)
        self.tracer.nodes.append(Node(op, tuple(inputs), name, layer))
        return name

    def constant(self, name: str, value: torch.Tensor) -> str:
        """Add a constant named after the layer; return its name."""
        full = self._fresh(f"{self.layer}.{name}")
        data = _data(value)
        self.tracer.tensors[full] = Tensor(full, data.shape, data=data)
        return full

    def shape(self, name: str) -> ops.Shape:
        """The shape of a tensor met before."""
        return self.tracer.tensors[name].shape

    def _fresh(self, wish: str) -> str:
        name, number = wish, 1
        while name in self.tracer.tensors:
            number += 1
            name = f"{wish}_{number}"
        return name

    def argument(self, position: int, name: str, default: Any) -> Any:
        """A positional or named argument of the call."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)


def _data(value: torch.Tensor) -> Array:
    if value.is_meta:
        return hollow(tuple(value.shape))
    data: Array = value.detach().cpu().float().numpy()
    return data.copy()


def _pair(value: int | Sequence[int]) -> ops.Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _symmetric(value: int | Sequence[int]) -> ops.Pads:
    high, wide = _pair(value)
    return (high, wide, high, wide)


def _conv(call: Call, layer: Any) -> str:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise MobilesegError(f"{call.layer}: padding is numbers and zeros, not {layer.padding!r}")
    op = ops.Conv2d(
        _pair(layer.stride), _symmetric(layer.padding), _pair(layer.dilation), layer.groups
    )
    return call.emit(op, [call.args[0], *_weights(call, layer)])


def _deconv(call: Call, layer: Any) -> str:
    if layer.groups != 1 or _pair(layer.dilation) != (1, 1):
        raise MobilesegError(f"{call.layer}: transposed convolution with groups or dilation")
    op = ops.ConvTranspose2d(
        _pair(layer.stride), _symmetric(layer.padding), _pair(layer.output_padding)
    )
    return call.emit(op, [call.args[0], *_weights(call, layer)])


def _weights(call: Call, layer: Any) -> list[str]:
    names = [call.constant("weight", layer.weight)]
    return names + ([call.constant("bias", layer.bias)] if layer.bias is not None else [])


def _batch_norm(call: Call, layer: Any) -> str:
    if layer.running_mean is None:
        raise MobilesegError(f"{call.layer}: batch norm without running statistics")
    channels = layer.num_features
    gamma = layer.weight if layer.weight is not None else torch.ones(channels)
    beta = layer.bias if layer.bias is not None else torch.zeros(channels)
    parts = (gamma, beta, layer.running_mean, layer.running_var)
    names = ("gamma", "beta", "mean", "variance")
    constants = [call.constant(name, part) for name, part in zip(names, parts, strict=True)]
    return call.emit(ops.BatchNorm(layer.eps), [call.args[0], *constants])


def _group_norm(call: Call, layer: Any) -> str:
    """Means over a group are means over its pixels, then over its channels."""
    (x,), channels, groups = call.args[:1], layer.num_channels, layer.num_groups
    each = channels // groups
    share = torch.full((channels, each, 1, 1), 1.0 / each, device=_device(layer))
    over = ops.Conv2d(groups=groups)
    eps = torch.full((channels,), float(layer.eps), device=_device(layer))
    mean = call.emit(ops.GlobalMean(), [x])
    minus = call.emit(over, [mean, call.constant("minus", -share)])
    centred = call.emit(ops.Add(), [x, minus])
    square = call.emit(ops.GlobalMean(), [call.emit(ops.Mul(), [centred, centred])])
    names = [call.constant("share", share), call.constant("eps", eps)]
    variance = call.emit(over, [square, *names])
    factor = call.emit(ops.Activation("rsqrt"), [variance])
    if layer.weight is None:
        return call.emit(ops.Mul(), [centred, factor])
    gamma = call.constant("gamma", layer.weight.reshape(1, -1, 1, 1))
    beta = call.constant("beta", layer.bias.reshape(1, -1, 1, 1))
    scaled = call.emit(ops.Mul(), [centred, call.emit(ops.Mul(), [factor, gamma])])
    return call.emit(ops.Add(), [scaled, beta])


def _device(layer: Any) -> Any:
    return "cpu" if layer.weight is None else layer.weight.device


def _pad(call: Call) -> str:
    left, right, top, bottom = (*call.args[1], 0, 0)[:4]
    mode, value = call.argument(2, "mode", "constant"), call.argument(3, "value", None)
    if mode != "constant" or value not in {None, 0}:
        raise MobilesegError(f"{call.layer}: pads with {mode} {value}; zeros alone are known")
    return call.emit(ops.Pad((top, left, bottom, right)), [call.args[0]])


def _cat(call: Call) -> str:
    if call.argument(1, "dim", 0) not in {1, -3}:
        raise MobilesegError(f"{call.layer}: concatenates along another axis than the channels")
    return call.emit(ops.Concat(), list(call.args[0]))


def _interpolate(call: Call) -> str:
    name = call.args[0]
    size, factor = call.argument(1, "size", None), call.argument(2, "scale_factor", None)
    mode = call.argument(3, "mode", "nearest")
    if mode not in {"bilinear", "nearest"}:
        raise MobilesegError(f"{call.layer}: resizes by {mode}; bilinear and nearest are known")
    if size is None:
        scale = (factor, factor) if isinstance(factor, int | float) else tuple(factor)
        size = tuple(int(n * f) for n, f in zip(call.shape(name)[2:], scale, strict=True))
    corners = bool(call.argument(4, "align_corners", False))
    return call.emit(ops.Resize(_pair(size), mode, corners), [name])


def _pool(call: Call, layer: Any, function: Any) -> str:
    if getattr(layer, "dilation", 1) not in {1, (1, 1)}:
        raise MobilesegError(f"{call.layer}: pooling with dilation")
    pad, kernel = _symmetric(layer.padding), _pair(layer.kernel_size)
    stride = _pair(layer.stride or kernel)
    if layer.ceil_mode:
        pad = _up_to_the_edge(call.shape(call.args[0]), kernel, stride, pad)
    if function == "mean" and any(pad) and layer.count_include_pad:
        raise MobilesegError(f"{call.layer}: mean pooling counts its padding; count_include_pad")
    return call.emit(ops.Pool(function, kernel, stride, pad), [call.args[0]])


def _up_to_the_edge(
    shape: ops.Shape, kernel: ops.Pair, stride: ops.Pair, pad: ops.Pads
) -> ops.Pads:
    """Return the padding that torch's ceil_mode comes to: a last window may hang over the edge.

    It starts inside the picture or its first padding; rows that no window reaches are cut off.
    """
    after = []
    for axis in (0, 1):
        size, before = shape[2 + axis], pad[axis]
        windows = -(-(size + 2 * before - kernel[axis]) // stride[axis]) + 1
        if (windows - 1) * stride[axis] >= size + before:
            windows -= 1
        after.append(max((windows - 1) * stride[axis] + kernel[axis] - size - before, 0))
    return (pad[0], pad[1], after[0], after[1])


def _global_mean(call: Call, layer: Any) -> str:
    if _pair(layer.output_size) != (1, 1):
        raise MobilesegError(f"{call.layer}: adaptive pooling to another size than 1x1")
    return call.emit(ops.GlobalMean(), [call.args[0]])


def _unary(op: ops.Op) -> Callable[..., str]:
    return lambda call, *_: call.emit(op, [call.args[0]])


def _binary(op: ops.Op) -> Callable[[Call], str]:
    def emit(call: Call) -> str:
        # A constant stands second in the graph: both operators allow it.
        names = sorted((_operand(call, arg) for arg in call.args[:2]), key=_is_constant(call))
        return call.emit(op, names)

    return emit


def _operand(call: Call, value: Any) -> str:
    if isinstance(value, str):
        return value
    return call.constant("number", torch.full((1, 1, 1, 1), float(value)))


def _is_constant(call: Call) -> Callable[[str], bool]:
    return lambda name: call.tracer.tensors[name].data is not None


def _difference(call: Call) -> str:
    first, second = call.args[:2]
    if not isinstance(second, str):
        return _binary(ops.Add())(replace(call, args=(first, -second)))
    minus = call.emit(ops.Neg(), [second])
    return _binary(ops.Add())(replace(call, args=(first, minus)))


def _prelu(call: Call, layer: Any) -> str:
    channels = call.shape(call.args[0])[1]
    slopes = layer.weight.expand(channels).reshape(1, channels, 1, 1)
    return call.emit(ops.PRelu(), [call.args[0], call.constant("slope", slopes)])


ModuleHandler: TypeAlias = Callable[[Call, Any], Any]
FunctionHandler: TypeAlias = Callable[[Call], Any]

_RELU, _RELU6 = _unary(ops.Activation("relu")), _unary(ops.Activation("relu6"))
_SIGMOID, _HARD_SWISH = _unary(ops.Activation("sigmoid")), _unary(ops.Activation("hard_swish"))
_HARD_SIGMOID = _unary(ops.Activation("hard_sigmoid"))

MODULES: dict[type[nn.Module], ModuleHandler] = {
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _deconv,
    nn.BatchNorm2d: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.ReLU6: _RELU6,
    nn.ReLU: _RELU,
    nn.LeakyReLU: lambda call, layer: call.emit(
        ops.LeakyRelu(layer.negative_slope), [call.args[0]]
    ),
    nn.PReLU: _prelu,
    nn.Sigmoid: _SIGMOID,
    nn.Hardsigmoid: _HARD_SIGMOID,
    nn.Hardswish: _HARD_SWISH,
    nn.MaxPool2d: lambda call, layer: _pool(call, layer, "max"),
    nn.AvgPool2d: lambda call, layer: _pool(call, layer, "mean"),
    nn.AdaptiveAvgPool2d: _global_mean,
    nn.Identity: lambda call, _: call.args[0],
    nn.Dropout: lambda call, _: call.args[0],
    nn.Dropout2d: lambda call, _: call.args[0],
}

FUNCTIONS: dict[Any, FunctionHandler] = {
    operator.add: _binary(ops.Add()),
    operator.mul: _binary(ops.Mul()),
    operator.sub: _difference,
    operator.neg: _unary(ops.Neg()),
    torch.add: _binary(ops.Add()),
    torch.mul: _binary(ops.Mul()),
    torch.sub: _difference,
    torch.neg: _unary(ops.Neg()),
    torch.cat: _cat,
    torch.relu: _RELU,
    torch.sigmoid: _SIGMOID,
    F.relu: _RELU,
    F.relu6: _RELU6,
    F.hardswish: _HARD_SWISH,
    F.hardsigmoid: _HARD_SIGMOID,
    F.pad: _pad,
    F.interpolate: _interpolate,
}
