"""What a file says about itself, read back by our reader and by the runtime."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.export.contract import Contract, contract_of
from mobileseg.export.runtime import load
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.passes import FOR_TFLITE, run_passes
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.reading.read import read_network, read_surface
from mobileseg.workflow.consumer import segmenter_file
from tests.export import small

LABELS = ("background", "person", "other")


def headed(op: ops.Op | None) -> Graph:
    made = small.float_graph()
    if op is None:
        return made
    head = Node(op, made.outputs, "said", "said")
    return run_passes(made.edit([*made.nodes, head], outputs=("said",)), FOR_TFLITE)


def contract(made: Graph) -> Contract:
    return contract_of(made, "small/net", LABELS)


HEADS = {
    "logits": None,
    "softmax": ops.Softmax(),
    "sigmoid": ops.Activation("sigmoid"),
    "argmax": ops.ArgMax(),
}


@pytest.mark.parametrize("interface", [None, "uint8", "int8", "float32"])
@pytest.mark.parametrize("meaning", HEADS)
def test_the_contract_knows_what_comes_out(meaning: str, interface: str | None) -> None:
    made = headed(HEADS[meaning])
    if interface is not None:
        made = quantize(made, calibrate(made, [small.floats()]), interface)
    found = contract(made)
    assert found.meaning == meaning
    assert found.image.dtype == (interface or "float32")
    assert found.image.shape == (1, 32, 48, 3)
    assert found.activation == ("softmax" if meaning == "logits" else "none")
    steps = interface in {"uint8", "int8"} and meaning != "argmax"
    assert (found.output.scale is not None) == steps
    bounded = meaning in {"softmax", "sigmoid"} and not steps
    assert (found.output.low, found.output.high) == ((0.0, 1.0) if bounded else (None, None))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(segmenter_file(small.float_graph(), contract(small.float_graph())))
    surface = read_surface(path)
    assert surface.metadata is not None
    assert surface.metadata.activation == "softmax"
    assert surface.metadata.min_parser_version == "1.5.0"
    note = surface.image_note
    assert (note.name, note.content, note.colours) == ("image", "image", "RGB")
    assert (note.means, note.deviations, note.normalizations) == ((128.0,), (128.0,), 1)
    assert surface.masks_note.labels_file == "labels.txt"
    assert surface.labels == list(LABELS)
    assert surface.faults == {}


def test_the_words_stand_in_both_files() -> None:
    words = contract(small.int8_graph()).lines()
    assert words == [
        "input image: uint8 1x32x48x3: an RGB picture, channels last; the byte is the pixel",
        "output logits: uint8 1x32x48x3: a score per class; the class of a pixel is the index of "
        "the largest; (step - zero point) * scale makes it real",
        "classes: 0 background, 1 person, 2 other",
    ]
    assert "\n".join(words).encode() in segmenter_file(
        small.int8_graph(), contract(small.int8_graph())
    )
    onnx = contract_of(small.int8_graph(), "small/net", LABELS, "onnx")
    assert onnx.image.shape == (1, 3, 32, 48)
    assert "\n".join(onnx.lines()).encode() in segmenter_file(small.int8_graph(), onnx)


def test_what_is_packed_behind_a_file_changes_nothing(tmp_path: Path) -> None:
    made = small.int8_graph()
    path = tmp_path / "net.tflite"
    path.write_bytes(segmenter_file(made, contract(made)))
    assert load(path).image_size == (32, 48)
    assert len(read_network(path).graph.nodes) == len(made.nodes)
    assert segmenter_file(made, contract(made)) == path.read_bytes()


@pytest.mark.parametrize("label", ["", " ", "two\nlines", "one\r", "\0"])
def test_a_class_is_one_line(label: str) -> None:
    with pytest.raises(MobilesegError, match="is no line of text; rename it"):
        contract_of(small.float_graph(), "net", ("background", label, "other"))
