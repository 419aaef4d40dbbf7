"""What a written file asks of its user: names, types, ranges, and what a pixel's value means.

Pixels enter as (pixel - 128) / 128, so one mean and one standard deviation serve all channels, as
the phones' segmenters demand it, and an integer input is the pixel itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node, Tensor
from mobileseg.graph.ops import Shape

# Whose loader a file is for.
Target: TypeAlias = Literal["raw", "task", "mediapipe"]
Form: TypeAlias = Literal["tflite", "onnx"]
# What a pixel of the output says.
Meaning: TypeAlias = Literal["logits", "softmax", "sigmoid", "argmax"]
Activation: TypeAlias = Literal["none", "sigmoid", "softmax"]

MEAN = STD = 128.0
_PIXELS = {
    "uint8": ("the byte is the pixel", 0.0, 255.0),
    "int8": ("the pixel minus 128", -128.0, 127.0),
    "float32": ("(pixel - 128) / 128", -1.0, 127 / 128),
}
_VALUES: dict[Meaning, str] = {
    "logits": "a score per class; the class of a pixel is the index of the largest",
    "softmax": "the probability of each class, together 1; the largest is the class of a pixel",
    "sigmoid": "the probability of each class by itself; the largest is the class of a pixel",
    "argmax": "the number of each pixel's class",
}


@dataclass(frozen=True)
class Face:
    """An input or output as the file keeps it.

    `scale` and `zero_point` are None where values are reals or class numbers; `low` and `high`
    bound its values as stored, None where nothing does.
    """

    name: str
    dtype: str
    shape: Shape
    meaning: str
    scale: float | None = None
    zero_point: int | None = None
    low: float | None = None
    high: float | None = None

    def words(self) -> str:
        """Return type, shape and meaning in one line, without numbers that calibration changes."""
        shape = "x".join(map(str, self.shape))
        steps = "" if self.scale is None else "; (step - zero point) * scale makes it real"
        return f"{self.dtype} {shape}: {self.meaning}{steps}"

    def real(self, stored: str) -> str:
        """Return the expression that makes a real number of a stored one."""
        if self.scale is None:
            return stored
        return f"({stored} - {self.zero_point}) * {self.scale:.9g}"


@dataclass(frozen=True)
class Contract:
    """A segmenter's file, to whom loads it; `title` is what the network is called."""

    title: str
    form: Form
    image: Face
    output: Face
    meaning: Meaning
    labels: tuple[str, ...]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the picture it takes."""
        sides = self.image.shape[1:3] if self.form == "tflite" else self.image.shape[2:]
        return sides[0], sides[1]

    @property
    def activation(self) -> Activation:
        """What makes probabilities of the output; none where the network has done so."""
        if self.meaning != "logits":
            return "none"
        return "softmax" if len(self.labels) > 1 else "sigmoid"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self) | {"activation": self.activation}

    def lines(self) -> list[str]:
        """Return the contract as a person reads it."""
        classes = ", ".join(f"{number} {label}" for number, label in enumerate(self.labels))
        return [
            f"input {self.image.name}: {self.image.words()}",
            f"output {self.output.name}: {self.output.words()}",
            f"classes: {classes}",
        ]


def contract_of(
    graph: Graph,
    title: str,
    labels: Sequence[str],
    form: Form = "tflite",
    meaning: Meaning | None = None,
) -> Contract:
    """Return what the file of the graph called `title` asks of its user.

    meaning: what its output was asked to say, which a rewritten last operator no longer shows (the
    softmax of two classes is a sigmoid); by default what the last operator makes.
    Raises MobilesegError for a class whose name is no line of text: it goes into lists and code.
    """
    for label in labels:
        if not label.isprintable() or not label.strip():
            raise MobilesegError(f"class {label!r}: is no line of text; rename it")
    given, made = graph[graph.inputs[0]], graph[graph.outputs[0]]
    meaning = meaning or meaning_of(graph)
    how, low, high = _PIXELS[given.dtype]
    order = "channels last" if form == "tflite" else "channels first"
    image = Face(
        given.name,
        given.dtype,
        _shape(given, form),
        f"an RGB picture, {order}; {how}",
        low=low,
        high=high,
    )
    return Contract(title, form, image, _output(made, meaning, form), meaning, tuple(labels))


def _output(made: Tensor, meaning: Meaning, form: Form) -> Face:
    scale = zero_point = low = high = None
    if made.quant is not None:
        scale, zero_point = float(made.quant.scale[0]), made.quant.zero_point
    elif meaning in {"softmax", "sigmoid"}:
        low, high = 0.0, 1.0
    shape = _shape(made, form)
    return Face(made.name, made.dtype, shape, _VALUES[meaning], scale, zero_point, low, high)


def _shape(tensor: Tensor, form: Form) -> Shape:
    if form == "onnx" or len(tensor.shape) != 4:
        return tensor.shape
    n, c, h, w = tensor.shape
    return (n, h, w, c)


def meaning_of(graph: Graph) -> Meaning:
    """Return what the last operator makes, before its values get another type."""
    node = graph.producers[graph.outputs[0]]
    while isinstance(node.op, ops.Quantize | ops.Dequantize):
        node = graph.producers[node.inputs[0]]
    return _made_by(node)


def _made_by(node: Node) -> Meaning:
    if isinstance(node.op, ops.Softmax):
        return "softmax"
    if isinstance(node.op, ops.ArgMax):
        return "argmax"
    if isinstance(node.op, ops.Activation) and node.op.function == "sigmoid":
        return "sigmoid"
    return "logits"
