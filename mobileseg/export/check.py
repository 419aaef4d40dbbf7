"""A written file against the graph it was written from: in its real runtime, on real pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import ai_edge_litert.schema_py_generated as fb
import numpy as np
import onnx
import torch

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.runtime import load, optimised, pixels_as
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8, in_float
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.ops import ArgMax

Kind: TypeAlias = Literal["float32", "float16", "int8"]

# Largest difference over largest value. Kernels sum in other orders: 2e-6 is usual, 2e-5 was seen
# of a net that had hardly been trained; a wrong operator is off by hundredths.
FLOAT_TOLERANCE = 1e-4
# XNNPACK's kernels agree with our integer execution to the bit; sigmoid, softmax and a
# convolution's exact ties may land on the other side of a half.
LITERT_SHARE, LITERT_STEPS = 0.999, 2
# Of int16's 65536, a quarter of one of int8's: LiteRT rounds its sums, products and means more than
# once, and its softmax is a table.
FINE_STEPS = 64
# ONNX Runtime rounds resizes, means and products in float and transposed convolutions altogether:
# each may be one step away, and what follows carries it on. One resize stays within these bounds.
# Several in a row do not: such a file is as good if it calls the pixels alike, and LiteRT's is the
# exact one.
ONNX_SHARE, ONNX_STEPS = 0.999, 2
ONNX_CALLED_ALIKE = 0.99
# A class may tip where two are equally likely: a rounding away from each other.
CLASS_SHARE = 0.999
# Nothing but data moved, which our own layout never asks for.
_LAYOUT = ("TRANSPOSE", "RESHAPE", "SPLIT")
# What one node of an int8 ONNX file may make ONNX Runtime compute in float, for it has no integer
# kernel there: reported, not a failure. A Relu or Clip stands in such a file only where the steps
# reach further than it does (`onnx._is_clamped`), and keeps the operator before it in float, too.
_CLAMPED = ("FusedConv", "Conv", "Add", "Mul")
_ONNX_FLOAT: Mapping[str, tuple[str, ...]] = {
    "ConvTranspose": ("ConvTranspose",),
    "Resize": ("Resize",),
    "Pad": ("Pad",),
    # One tensor joined to itself: the runtime gives only the first of its uses an int8 kernel.
    "DepthToSpace": ("Concat",),
    "HardSigmoid": ("HardSigmoid",),
    "Pow": ("Pow",),
    "HardSwish": ("HardSwish", "HardSigmoid", "Mul"),
    # Before a layer that was kept in float (`onnx._dequantize`), and what its layout costs.
    "Max": ("Max", "ReorderInput", "ReorderOutput"),
    "Relu": ("Relu", *_CLAMPED),
    "Clip": ("Clip", *_CLAMPED),
}


@dataclass(frozen=True)
class Check:
    """What a file computes beside what its graph computes, and what it is made of.

    `relative_error` is set for reals, the steps for integers and classes; `fine`: steps of int16.
    `called_alike`: the share of pixels whose largest of several integer outputs is the same.
    `float_operators` are those of an int8 file that compute in float (in ONNX: in the graph that
    the runtime makes of it), `kept_float` how many nodes are there to do so; `partitions` are
    LiteRT's pieces run by XNNPACK.
    """

    path: Path
    runtime: str
    kind: Kind
    images: int
    relative_error: float | None
    max_steps: int | None
    share_within_one_step: float | None
    share_equal: float
    classes: bool
    operators: int
    nodes: int
    kinds: Mapping[str, int]
    float_operators: Mapping[str, int]
    layout_operators: Mapping[str, int]
    partitions: int | None
    kept_float: int = 0
    fine: bool = False
    called_alike: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"path": str(self.path), "problems": self.problems()}

    def problems(self) -> list[str]:
        """Return what is wrong with the file, one sentence each; empty where nothing is."""
        return [*self._exactness(), *self._structure()]

    def _exactness(self) -> Iterator[str]:
        if self.classes:
            if self.share_equal < CLASS_SHARE:
                yield (
                    f"{100 * self.share_equal:.3f} % of the classes equal the graph's; "
                    f"{100 * CLASS_SHARE:g} % must"
                )
        elif self.relative_error is not None:
            if self.relative_error > FLOAT_TOLERANCE:
                yield (
                    f"differs from the graph by {self.relative_error:.1e} of the largest output; "
                    f"{FLOAT_TOLERANCE:.0e} is allowed"
                )
        elif self.max_steps is not None and self.share_within_one_step is not None:
            share, steps = (
                (LITERT_SHARE, LITERT_STEPS) if self._is_tflite else (ONNX_SHARE, ONNX_STEPS)
            )
            if self.fine:
                share, steps = 0.0, FINE_STEPS
            elif not self._is_tflite and (self.called_alike or 0) >= ONNX_CALLED_ALIKE:
                return
            if self.share_within_one_step < share:
                yield (
                    f"{100 * self.share_within_one_step:.3f} % of the outputs are within one step "
                    f"of the graph's; {100 * share:g} % must be" + self._or_alike()
                )
            if self.max_steps > steps:
                yield f"an output is {self.max_steps} steps from the graph's; {steps} are allowed"

    def _structure(self) -> Iterator[str]:
        if not self._is_tflite:
            # Quantize, Dequantize and activations are nodes of their own in ONNX, and its layout
            # is ours: nothing to count but what is needlessly in float.
            needless = self._needless_floats()
            if needless.total() > self.kept_float:
                yield f"computes in float: {_counts(needless)}; ONNX Runtime has int8 for it"
            return
        if self.operators != self.nodes:
            yield f"has {self.operators} operators for {self.nodes} nodes; one each is the rule"
        if sum(self.float_operators.values()) > self.kept_float:
            yield (
                f"computes in float: {_counts(self.float_operators)}; "
                f"{self.kept_float or 'none'} of it should"
            )
        if self.layout_operators:
            yield f"moves data about: {_counts(self.layout_operators)}; our layout needs none of it"

    def _needless_floats(self) -> Counter[str]:
        allowed = Counter[str]()
        for kind, count in self.kinds.items():
            for name in _ONNX_FLOAT.get(kind, ()):
                allowed[name] += count
        return Counter(self.float_operators) - allowed

    def _or_alike(self) -> str:
        if self._is_tflite or self.called_alike is None:
            return ""
        return (
            f", or {100 * ONNX_CALLED_ALIKE:g} % of the pixels called alike, which "
            f"{100 * self.called_alike:.2f} % are"
        )

    @property
    def _is_tflite(self) -> bool:
        return self.path.suffix == ".tflite"


def check_file(path: Path, graph: Graph, images: Array) -> Check:
    """Return how the file compares with the graph on uint8 pictures `(N, height, width, 3)`.

    Raises MobilesegError for a damaged file or one of another interface, GateError for an output
    that is not finite.
    """
    if not len(images):
        raise MobilesegError(f"{path}: a check needs pictures")
    runner = load(path)
    given = graph[graph.inputs[0]]
    if runner.input_dtype != np.dtype(given.dtype) or runner.image_size != given.shape[2:]:
        raise MobilesegError(
            f"{path}: takes {runner.input_dtype} {runner.image_size}, the graph {given.dtype} "
            f"{given.shape[2:]}; they do not belong together"
        )
    pixels = pixels_as(images, runner.input_dtype)
    kind = kind_of(graph)
    expected = execute_int8(graph, pixels) if kind == "int8" else _floats(graph, pixels)
    result = runner(pixels)
    if result.shape != expected.shape:
        raise MobilesegError(f"{path}: returns {result.shape}, the graph {expected.shape}")
    if not (np.isfinite(expected).all() and np.isfinite(result).all()):
        raise GateError(f"{path}: the output holds NaN or infinity")
    classes = isinstance(graph.producers[graph.outputs[0]].op, ArgMax)
    error, steps = None, None
    if kind == "int8" or classes:
        steps = steps_apart(graph, result, expected)
    else:
        error = float(np.abs(result - expected).max() / max(np.abs(expected).max(), 1e-30))
    kinds, floats = _tflite(path) if path.suffix == ".tflite" else _onnx(path)
    return Check(
        path=path,
        runtime=_runtime(path),
        kind=kind,
        images=len(images),
        relative_error=error,
        max_steps=None if steps is None else int(steps.max()),
        share_within_one_step=None if steps is None else float((steps <= 1).mean()),
        share_equal=float((result == expected).mean() if steps is None else (steps == 0).mean()),
        classes=classes,
        operators=kinds.total(),
        nodes=len(graph.nodes),
        kinds=dict(kinds),
        float_operators=dict(floats) if kind == "int8" else {},
        layout_operators={name: kinds[name] for name in _LAYOUT if name in kinds},
        partitions=runner.partitions,
        kept_float=sum(in_float(graph, node) for node in graph.nodes) if kind == "int8" else 0,
        called_alike=(
            float((result.argmax(1) == expected.argmax(1)).mean())
            if steps is not None and not classes and result.shape[1] > 1
            else None
        ),
        fine=any(tensor.dtype == "int16" for tensor in graph.tensors.values()),
    )


def require(check: Check) -> None:
    """Raise GateError listing the check's problems, if there are any."""
    problems = check.problems()
    if problems:
        raise GateError(f"{check.path}: {'; '.join(problems)}")


def kind_of(graph: Graph) -> Kind:
    """Return what the graph's convolutions compute with."""
    types = {tensor.dtype for tensor in graph.tensors.values()}
    if types & {"int8", "uint8"}:
        return "int8"
    return "float16" if "float16" in types else "float32"


def _floats(graph: Graph, pixels: Array) -> Array:
    with torch.inference_mode():
        out: Array = execute(graph, torch.from_numpy(pixels)).numpy()
    return out


def steps_apart(graph: Graph, result: Array, expected: Array) -> Array:
    """Return how many steps each output is away, for reals of an int8 graph too.

    Of a last layer that was kept in float a step is a 255th of the largest output.
    """
    difference = np.abs(result.astype(np.float64) - expected.astype(np.float64))
    if expected.dtype == np.float32:
        inner = graph[graph.producers[graph.outputs[0]].inputs[0]]
        largest = max(float(np.abs(expected).max()), 1e-30)
        difference = difference / (inner.quant.scale[0] if inner.quant else largest / 255)
    return np.rint(difference).astype(np.int64)


def _tflite(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Return how many operators of each kind the file has, and of those how many make floats."""
    names = {code: name for name, code in vars(fb.BuiltinOperator).items() if name[0] != "_"}
    model = fb.Model.GetRootAs(path.read_bytes())
    body = model.Subgraphs(0)
    kinds, floats = Counter[str](), Counter[str]()
    for position in range(body.OperatorsLength()):
        operator = body.Operators(position)
        name = names[model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()]
        kinds[name] += 1
        made = body.Tensors(operator.Outputs(0)).Type()
        if made == fb.TensorType.FLOAT32 and name != "DEQUANTIZE":
            floats[name] += 1
    return kinds, floats


def _onnx(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Return the file's nodes by kind, and those that ONNX Runtime's optimiser leaves in float."""
    kinds = Counter(str(node.op_type) for node in onnx.load(path).graph.node)
    reals: set[str] = set()
    floats = Counter[str]()
    for node in optimised(path).graph.node:
        if node.op_type == "DequantizeLinear":
            reals.update(node.output)
        elif node.op_type != "QuantizeLinear" and reals.intersection(node.input):
            floats[node.op_type] += 1
            reals.update(node.output)
    return kinds, floats


def _counts(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in kinds.items())


def _runtime(path: Path) -> str:
    name, package = (
        ("LiteRT", "ai-edge-litert")
        if path.suffix == ".tflite"
        else ("ONNX Runtime", "onnxruntime")
    )
    return f"{name} {version(package)}"
