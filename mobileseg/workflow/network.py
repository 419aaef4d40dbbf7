"""From a spec and weights to a module, to a graph, to something that predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.export.check import kind_of
from mobileseg.export.runtime import Runner, pixels_as
from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8, quant_of
from mobileseg.graph.ir import Array, Graph, Node
from mobileseg.graph.passes import NORMALISE, Pass, normalise
from mobileseg.graph.trace import trace
from mobileseg.nets.module import Net, build
from mobileseg.nets.spec import NetSpec
from mobileseg.quantize.convert import quantize
from mobileseg.runs import Run
from mobileseg.workflow.forms import FOR_INT8, Choice, Forms, choose

if TYPE_CHECKING:
    from torch import Tensor

Output: TypeAlias = Literal["logits", "softmax", "sigmoid", "argmax"]
Pictures: TypeAlias = NDArray[np.uint8]
Predict: TypeAlias = Callable[[Pictures], NDArray[np.float32]]
# Pictures and a file's type to what the file takes, `(N, 3, H, W)`.
Taken: TypeAlias = Callable[[Pictures, "np.dtype[Any]"], Array]

_HEADS: dict[Output, tuple[ops.Op, str]] = {
    "softmax": (ops.Softmax(), "probabilities"),
    "sigmoid": (ops.Activation("sigmoid"), "probabilities"),
    "argmax": (ops.ArgMax(), "mask"),
}


def load_net(run: Run) -> Net:
    """Return a trained run's module in eval mode. Raises MobilesegError where files do not fit."""
    return with_weights(run.spec(), run.load_weights(), str(run.weights_path))


def with_weights(spec: NetSpec, state: Mapping[str, Tensor], where: str) -> Net:
    """Return the spec's module holding the weights. Raises MobilesegError listing misfits."""
    net = build(spec)
    expected = net.state_dict()
    missing = sorted(expected.keys() - state.keys())
    surplus = sorted(state.keys() - expected.keys())
    wrong = [
        f"{name} is {list(state[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = [*(f"{name} is missing" for name in missing), *wrong]
    problems += [f"{name} belongs to no layer" for name in surplus]
    if problems:
        shown = "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
        raise MobilesegError(f"{where}: does not fit {spec.name}: {shown}; train again")
    if not all(torch.isfinite(value.float()).all() for value in state.values()):
        raise MobilesegError(f"{where}: holds NaN or infinity; train again")
    net.load_state_dict(dict(state))
    return net.eval()


def float_graph(net: Net, output: Output = "logits", forms: Forms = FOR_INT8) -> Graph:
    """Return the float graph that files are written from; by default to be quantized."""
    return formed_graph(net, output, forms)[0]


def formed_graph(net: Net, output: Output, forms: Forms) -> tuple[Graph, Choice]:
    """Return the float graph that files are written from, and why its operators are those."""
    graph = with_output(plain_graph(net), output)
    choice = choose(graph, forms)
    return choice(graph), choice


def float_passes(net: Net, output: Output, forms: Forms) -> tuple[Pass, ...]:
    """Return the passes that make a traced network the float graph of a file, in order."""

    def output_head(graph: Graph) -> Graph:
        """Add what a pixel of the output is to say."""
        return with_output(graph, output)

    _, choice = formed_graph(net, output, forms)
    return (*NORMALISE, output_head, *choice.passes())


def plain_graph(net: Net) -> Graph:
    """Return the float graph with the operators that the network has."""
    return normalise(trace(net, net.spec.image_size))


def empty_graph(spec: NetSpec, forms: Forms = FOR_INT8) -> Graph:
    """Return the graph with weights of zeros: what counting and pricing need, and no training."""
    return float_graph(build(spec, device="meta"), forms=forms)


def as_int8(graph: Graph) -> Graph:
    """Return the graph as int8 with made-up ranges: right in types and sizes, not in values."""
    return quantize(graph, dict.fromkeys(graph.tensors, (-1.0, 1.0)))


def with_output(graph: Graph, output: Output) -> Graph:
    """Return the graph of logits with a head that says what `output` names."""
    if output == "logits":
        return graph
    op, name = _HEADS[output]
    head = Node(op, graph.outputs, name, name)
    return graph.edit([*graph.nodes, head], outputs=(name,))


def graph_predict(graph: Graph) -> Predict:
    """Return our own execution of the graph as a function of pictures `(N, H, W, 3)`."""
    given = graph[graph.inputs[0]]
    if kind_of(graph) != "int8":

        def run_float(images: Pictures) -> NDArray[np.float32]:
            with torch.inference_mode():
                x = torch.from_numpy(pixels_as(images, np.dtype(np.float32)))
                result: NDArray[np.float32] = execute(graph, x).numpy()
            return result

        return run_float

    def run_int8(images: Pictures) -> NDArray[np.float32]:
        steps = execute_int8(graph, pixels_as(images, np.dtype(given.dtype)))
        out = graph[graph.outputs[0]]
        if out.quant is None:
            return steps.astype(np.float32)
        quant = quant_of(out)
        return (steps.astype(np.float32) - quant.zero_point) * np.float32(quant.scale[0])

    return run_int8


def file_predict(runner: Runner, taken: Taken = pixels_as) -> Predict:
    """Return a file in its runtime as a function of pictures `(N, H, W, 3)`.

    taken: what it takes of them; by default as our own files do.
    """

    def run(images: Pictures) -> NDArray[np.float32]:
        result: Any = runner.reals(runner(taken(images, runner.input_dtype)))
        return np.asarray(result, np.float32)

    return run
