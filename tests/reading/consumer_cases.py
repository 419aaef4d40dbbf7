"""Files that keep the consumers' rules, and files that break one each."""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ai_edge_litert.schema_py_generated as fb
import flatbuffers
import numpy as np

from mobileseg.export import metadata as md
from mobileseg.export.contract import contract_of
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.passes import FOR_TFLITE, run_passes
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from tests.export import small
from tests.graph.build import graph

LABELS = ("background", "person", "other")
TWO = LABELS[:2]
Tables = dict[int, Any]


@dataclass(frozen=True)
class Case:
    """A file. `breaks` are the consumers that refuse it, or crash; `spoils` those that take it and
    give wrong masks. Both are violations; one that says nothing is `breaks` for none.
    """

    name: str
    data: bytes
    breaks: frozenset[str] = frozenset()
    spoils: frozenset[str] = frozenset()

    def violates(self, target: str) -> bool:
        return target in self.breaks | self.spoils


BOTH = frozenset({"mediapipe", "task"})
MEDIAPIPE, TASK = frozenset({"mediapipe"}), frozenset({"task"})


def tflite(
    made: Graph,
    change: Callable[[Tables], Any] | None = None,
    labels: Sequence[str] = LABELS,
    identifier: bytes = md.IDENTIFIER,
    pack: Sequence[str] | None = None,
) -> bytes:
    """Return the graph's file, its metadata changed, `pack` in the place of the labels."""
    tables = copy.deepcopy(md.tables(contract_of(made, "case", labels)))
    if change is not None:
        change(tables)
    data = write_tflite(made, {md.NAME: md.packed(tables, identifier)})
    return md.with_labels(data, labels if pack is None else pack)


def edited(data: bytes, change: Callable[[Any], None]) -> bytes:
    """Return a file with its network changed; what was packed behind it is lost."""
    model = fb.ModelT.InitFromPackedBuf(data)
    change(model)
    model.signatureDefs = []
    builder = flatbuffers.Builder(2**18)
    builder.Finish(model.Pack(builder), b"TFL3")
    return md.with_labels(bytes(builder.Output()), LABELS)


def pointwise(shape: tuple[int, ...], classes: int, *more: Any) -> Graph:
    """Return a network of one convolution."""
    constants = {"w": (classes, shape[1], 1, 1), "b": (classes,)}
    made = graph(shape, ("logits", ops.Conv2d(), "image", constants), *more)
    return run_passes(made, FOR_TFLITE)


def unbiased(made: Graph) -> Graph:
    """Return the graph with its bias at 0, so that grey is on the edge of the class."""
    bias = made["b"]
    assert bias.data is not None
    return replace(made, tensors={**made.tensors, "b": replace(bias, data=0 * bias.data)})


def likely(made: Graph) -> Graph:
    """Return the graph with a softmax behind it."""
    head = Node(ops.Softmax(), made.outputs, "probabilities", "probabilities")
    return made.edit([*made.nodes, head], outputs=("probabilities",))


def of(part: int, slot: int, value: Any) -> Callable[[Tables], None]:
    """Return the change of a field of the input's (2) or the output's (3) description."""

    def change(tables: Tables) -> None:
        tables[3][0][part][0][slot] = value

    return change


def body(slot: int, value: Any) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables[3][0][slot] = value

    return change


def twice(slot: int) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables[3][0][slot] *= 2

    return change


def without(part: int, slot: int) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        del tables[3][0][part][0][slot]

    return change


def normalization(mean: Sequence[float], std: Sequence[float] | None, times: int = 1) -> Any:
    values = {0: np.array(mean, "<f4")}
    if std is not None:
        values[1] = np.array(std, "<f4")
    return of(2, 4, ({0: 1, 1: values},) * times)


def activation(number: int, identifier: bytes = md.SEGMENTER_IDENTIFIER) -> Any:
    options = md.packed({0: number, 1: "1.0.0"}, identifier)
    return body(9, ({0: md.SEGMENTER, 1: options},))


def compressed(data: bytes) -> bytes:
    whole = io.BytesIO(data)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.txt", "one line\n" * 99)
    return whole.getvalue()


def second_input(model: Any) -> None:
    tensors = model.subgraphs[0].tensors
    other = copy.deepcopy(tensors[model.subgraphs[0].inputs[0]])
    other.name = b"second"
    tensors.append(other)
    model.subgraphs[0].inputs = [model.subgraphs[0].inputs[0], len(tensors) - 1]


def more_outputs(count: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        main = model.subgraphs[0]
        inner = [main.operators[position].outputs[0] for position in range(2, 2 + count)]
        main.outputs = [*inner, main.outputs[0]]

    return change


def without_last(model: Any) -> None:
    """The int8 steps themselves come out."""
    main = model.subgraphs[0]
    main.outputs = [main.operators.pop().inputs[0]]


def another_subgraph(model: Any) -> None:
    model.subgraphs.append(copy.deepcopy(model.subgraphs[0]))


def cases() -> list[Case]:
    """Return all of them; the networks are small."""
    real = likely(small.float_graph())
    ranges = calibrate(real, [small.floats()])
    byte, steps = quantize(real, ranges), quantize(real, ranges, "int8")
    one = unbiased(pointwise((1, 3, 32, 48), 1))
    classes = pointwise((1, 3, 32, 48), 2, ("mask", ops.ArgMax(), "logits"))
    three, four, five = (likely(pointwise((1, n, 32, 48), 2)) for n in (3, 4, 5))
    two_pictures = likely(pointwise((2, 3, 32, 48), 2))
    hair = ("background", "hair")
    many = [f"class {number}" for number in range(257)]
    return [
        Case("float32", tflite(real)),
        Case("uint8", tflite(byte)),
        Case("int8", tflite(steps), BOTH),
        # Where all logits are negative, Task Library calls class 0.
        Case("logits", tflite(small.float_graph()), spoils=TASK),
        Case("logits uint8", tflite(small.int8_graph()), spoils=TASK),
        Case("softmax twice", tflite(real, activation(2)), spoils=MEDIAPIPE),
        Case("float32 bare", write_tflite(real), BOTH),
        Case("uint8 bare", write_tflite(byte)),
        Case("no normalization", tflite(real, without(2, 4)), BOTH),
        Case("three of a kind", tflite(real, normalization([128] * 3, [128] * 3))),
        Case("per channel", tflite(real, normalization([128, 127, 128], [128] * 3)), MEDIAPIPE),
        Case("per channel uint8", tflite(byte, normalization([128, 127, 128], [128] * 3))),
        Case("two values", tflite(real, normalization([128] * 2, [128] * 2)), BOTH),
        Case("two values uint8", tflite(byte, normalization([128] * 2, [128] * 2)), BOTH),
        Case("means and stds", tflite(real, normalization([128], [128] * 3)), BOTH),
        Case("no std", tflite(real, normalization([128], None)), BOTH),
        Case("std 0", tflite(real, normalization([128], [0])), BOTH),
        Case("normalized twice", tflite(real, normalization([128], [128], times=2)), BOTH),
        Case("grey", tflite(byte, of(2, 3, {0: 2, 1: {0: 2}})), BOTH),
        Case("a feature", tflite(byte, of(2, 3, {0: 1, 1: {0: 0}})), BOTH),
        Case("input not described", tflite(byte, body(2, ())), BOTH),
        Case("input described twice", tflite(byte, twice(2)), TASK),
        Case("output not described", tflite(byte, body(3, ())), TASK),
        Case("output described twice", tflite(byte, twice(3)), TASK),
        Case("nothing described", tflite(byte, lambda tables: tables.pop(3))),
        Case("other schema", tflite(byte, identifier=b"M002"), BOTH),
        Case("newer schema", tflite(byte, lambda tables: tables.update({7: "1.6.0"})), MEDIAPIPE),
        # The loader of today finds no archive and reads on; older ones refuse the file.
        Case("labels not packed", write_tflite(byte, named(byte)), TASK, MEDIAPIPE),
        Case("packed, compressed", compressed(write_tflite(byte, named(byte))), BOTH),
        Case("fewer labels", tflite(byte, pack=TWO)),
        Case("no activation", tflite(byte, body(9, ()))),
        Case("unknown activation", tflite(byte, activation(3)), MEDIAPIPE),
        Case("other activation schema", tflite(byte, activation(0, b"V009"))),
        Case("one class", tflite(one, labels=TWO[:1]), spoils=TASK),
        Case("softmax of one class", tflite(one, activation(2), labels=TWO[:1]), spoils=BOTH),
        Case("257 classes", tflite(pointwise((1, 3, 32, 48), 257), labels=many), TASK, MEDIAPIPE),
        # Of class numbers, which are integers, it reads the bytes as real numbers.
        Case("class numbers", tflite(classes, labels=TWO), TASK, MEDIAPIPE),
        Case("RGBA", tflite(four, labels=TWO), BOTH),
        Case("RGBA of hair", tflite(four, labels=hair), TASK, MEDIAPIPE),
        Case("hair", tflite(three, labels=hair)),
        Case("5 channels", tflite(five, labels=TWO), BOTH),
        Case("two pictures", tflite(two_pictures, labels=TWO), BOTH),
        Case("two inputs", edited(tflite(real), second_input), BOTH),
        Case("two outputs", edited(tflite(real), more_outputs(1)), TASK),
        Case("three outputs", edited(tflite(real), more_outputs(2)), BOTH),
        Case("int8 output", edited(tflite(byte), without_last), TASK),
        Case("two subgraphs", edited(tflite(real), another_subgraph), MEDIAPIPE),
    ]


def named(made: Graph) -> dict[str, bytes]:
    return {md.NAME: md.metadata(contract_of(made, "case", LABELS))}
