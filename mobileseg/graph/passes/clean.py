"""What need not run: constants computed beforehand, nodes that do nothing, work done twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from mobileseg.graph.ir import Array, Graph, Node, Tensor, hollow, is_hollow
from mobileseg.graph.ops import (
    NO_PAD,
    Activation,
    Add,
    Concat,
    Crop,
    DepthToSpace,
    Dequantize,
    GlobalMean,
    Mul,
    Op,
    Pad,
    Pool,
    Quantize,
    Resize,
    Softmax,
)
from mobileseg.graph.passes.draft import Draft


def fold_constants(graph: Graph) -> Graph:
    """Compute beforehand what depends on constants alone.

    Before: `c = Mul a b; y = Add x c`, a and b being constants. After: `y = Add x c`.

    A Dequantize of a constant stays: what is stored small is meant to be stored small.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        names = node.inputs
        still = all(name in draft.constants or graph[name].data is not None for name in names)
        if not still or isinstance(node.op, Dequantize) or node.output in graph.outputs:
            draft.nodes.append(node)
            continue
        draft.constant(node.output, _computed(node, [draft.data(name) for name in names], graph))
    return draft.finish()


def _computed(node: Node, data: list[Array], graph: Graph) -> Array:
    if any(is_hollow(each) for each in data):
        return hollow(graph[node.output].shape)
    # Only networks that have such a node wait for torch.
    import torch  # noqa: PLC0415

    from mobileseg.graph.execute import run_node  # noqa: PLC0415

    made: Array = run_node(node, [torch.from_numpy(np.array(each)) for each in data]).numpy()
    return made


def remove_idle(graph: Graph) -> Graph:
    """Drop nodes that return what they read. (Nodes that nobody reads go with every edit.)

    Before: `y = Resize(size=6x8) x`, x being 6x8; `z = Conv2d y w`. After: `z = Conv2d x w`.
    """
    names: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        source = names.get(node.inputs[0], node.inputs[0])
        if not _is_idle(graph, node) or not _can_stand_for(graph, source, node.output):
            kept.append(node)
        elif node.output in graph.outputs:
            names |= {old: node.output for old, new in names.items() if new == source}
            names[source] = node.output
        else:
            names[node.output] = source
    return graph.edit(
        [
            replace(
                node,
                inputs=tuple(names.get(name, name) for name in node.inputs),
                output=names.get(node.output, node.output),
            )
            for node in kept
        ]
    )


def _can_stand_for(graph: Graph, source: str, made: str) -> bool:
    """Whether `made` may be the name of what `source` holds: the network's own names stay."""
    own = {*graph.inputs, *graph.outputs}
    return made not in graph.outputs or (source not in own and graph[source].data is None)


def _is_idle(graph: Graph, node: Node) -> bool:
    source, made = graph[node.inputs[0]], graph[node.output]
    if source.shape != made.shape or not _same_steps(source, made):
        return False
    rule = IDLE.get(type(node.op))
    return rule is not None and rule(graph, node)


def _same_steps(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or (a.quant is None) != (b.quant is None):
        return False
    return a.quant is None or (b.quant is not None and a.quant.same_as(b.quant))


def _filled_with(value: float) -> Callable[[Graph, Node], bool]:
    def rule(graph: Graph, node: Node) -> bool:
        data = graph[node.inputs[1]].data
        plain = getattr(node.op, "activation", "none") == "none"
        if not plain or data is None or is_hollow(data) or data.dtype != np.float32:
            return False
        return bool((data == value).all())

    return rule


def _inside(graph: Graph, node: Node) -> bool:
    """Whether a ReLU or ReLU6 reads nothing that it would change."""
    assert isinstance(node.op, Activation)
    low, high = _limits(graph, node.inputs[0])
    return low >= 0 and (node.op.function == "relu" or (node.op.function == "relu6" and high <= 6))


def _limits(graph: Graph, name: str) -> tuple[float, float]:
    """Return what is known of the least and the largest value that a tensor can hold."""
    node = graph.producers.get(name)
    if node is None:
        return _UNKNOWN
    function = getattr(node.op, "activation", "none")
    if isinstance(node.op, Activation):
        function = node.op.function
    elif isinstance(node.op, Softmax):
        function = "softmax"
    if function in _RANGES or not isinstance(node.op, _COPIES):
        return _RANGES.get(function, _UNKNOWN)
    read = [_limits(graph, each) for each in node.inputs]
    # A Pad adds zeros.
    zero = 0.0 if isinstance(node.op, Pad) else read[0][0]
    return min(zero, *(low for low, _ in read)), max(zero, *(high for _, high in read))


_UNKNOWN = (-np.inf, np.inf)
_RANGES = {
    "relu": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "sigmoid": (0.0, 1.0),
    "hard_sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
}
_COPIES = (Pad, Crop, Pool, Resize, DepthToSpace, Concat, GlobalMean)

# Shapes are equal already: see `_is_idle`.
IDLE: Mapping[type[Op], Callable[[Graph, Node], bool]] = {
    Pad: lambda _graph, _node: True,
    Crop: lambda _graph, _node: True,
    Resize: lambda _graph, _node: True,
    DepthToSpace: lambda _graph, _node: True,
    Concat: lambda _graph, node: len(node.inputs) == 1,
    Pool: lambda _graph, node: node.op.kernel == (1, 1) and node.op.pad == NO_PAD,  # type: ignore[attr-defined]
    GlobalMean: lambda _graph, _node: True,
    Add: _filled_with(0.0),
    Mul: _filled_with(1.0),
    Activation: _inside,
    Quantize: lambda _graph, _node: True,
}


def merge_twins(graph: Graph) -> Graph:
    """Compute once what two nodes compute alike.

    Before: `p = Resize x; y = Conv2d p v; q = Resize x; z = Conv2d q w`.
    After:  `p = Resize x; y = Conv2d p v; z = Conv2d p w`.

    A Pad stays twice: runtimes make it a part of the convolution that alone reads it.
    """
    first: dict[tuple[object, ...], Node] = {}
    names: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        inputs = tuple(names.get(name, name) for name in node.inputs)
        key = (node.op, *(_value(graph[name]) for name in inputs), _steps(graph[node.output]))
        twin = first.setdefault(key, node)
        if twin is node or isinstance(node.op, Pad) or node.output in graph.outputs:
            kept.append(replace(node, inputs=inputs))
        else:
            names[node.output] = twin.output
    return graph.edit(kept)


def _value(tensor: Tensor) -> object:
    """What makes a tensor equal to another: its content, or its name where that is unknown."""
    data = tensor.data
    if data is None or is_hollow(data):
        return tensor.name
    return (data.dtype.name, data.shape, data.tobytes(), _steps(tensor))


def _steps(tensor: Tensor) -> object:
    quant = tensor.quant
    if quant is None:
        return tensor.dtype
    return (tensor.dtype, quant.scale.tobytes(), quant.zero_point, quant.axis)
