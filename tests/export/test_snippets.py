"""The code beside a file: the Python one runs, the Kotlin one fits the file."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from mobileseg.export.contract import Form, Target, contract_of
from mobileseg.export.runtime import load
from mobileseg.export.snippets import kotlin_snippet
from mobileseg.graph import ops
from mobileseg.graph.ir import Array
from mobileseg.train.evaluate import labels_at
from mobileseg.train.pictures import read_image, resize_image
from mobileseg.workflow.consumer import segmenter_file, write_snippets
from mobileseg.workflow.network import file_predict
from tests.consumers import consumers_python
from tests.export import small
from tests.export.test_metadata import headed

LABELS = ("background", 'the "person"', "\\other")
PHOTO = next(
    iter(sorted((small.shipped("assets", "data") / "public_figures" / "images").iterdir()))
)

CASES = {
    "float32.tflite": small.float_graph,
    "uint8.tflite": small.int8_graph,
    "int8.tflite": lambda: small.int8_graph(interface="int8"),
    "classes.tflite": lambda: headed(ops.ArgMax()),
    "float32.onnx": small.float_graph,
    "uint8.onnx": small.int8_graph,
    "classes.onnx": lambda: headed(ops.ArgMax()),
}


@pytest.mark.parametrize("name", CASES)
def test_the_python_snippet_makes_our_mask(name: str, tmp_path: Path) -> None:
    made = CASES[name]()
    form: Form = "tflite" if name.endswith("tflite") else "onnx"
    contract = contract_of(made, "small/net", LABELS, form)
    path = tmp_path / name
    path.write_bytes(segmenter_file(made, contract))
    snippet = write_snippets(path, contract, "raw")[0]
    command = [sys.executable, str(snippet), str(PHOTO), str(tmp_path / "mask.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == list(LABELS)
    with Image.open(tmp_path / "mask.png") as mask:
        share = (np.asarray(mask) == ours(path)).mean()
    # Pillow's bilinear and torch's differ in the last bit.
    assert share > 0.999


def ours(path: Path) -> Array:
    runner = load(path)
    photo = read_image(PHOTO)
    scores = file_predict(runner)(resize_image(photo, runner.image_size)[None])[0]
    return labels_at(scores, photo.shape[:2])


@pytest.mark.parametrize("target", ["raw", "task", "mediapipe"])
@pytest.mark.parametrize("name", [name for name in CASES if name.endswith("tflite")])
def test_the_kotlin_snippet_names_the_file_and_closes_what_it_opens(name: str, target: str) -> None:
    contract = contract_of(CASES[name](), "small/net", LABELS)
    text = kotlin_snippet(contract, name, target)
    assert f'"{name}"' in text
    assert "$" not in text
    for opened, closed in ("{}", "()"):
        assert text.count(opened) == text.count(closed)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("float32.tflite", ["HEIGHT * WIDTH * 3 * 4)", "ROWS * COLUMNS * CLASSES * 4)"]),
        ("uint8.tflite", ["HEIGHT * WIDTH * 3)", "ROWS * COLUMNS * CLASSES)", "and 0xff }"]),
        ("classes.tflite", ["ROWS * COLUMNS * 4)", "output.getInt(4 * pixel)"]),
    ],
)
def test_kotlin_buffers_are_as_large_as_the_tensors(name: str, lines: list[str]) -> None:
    text = kotlin_snippet(contract_of(CASES[name](), "small/net", LABELS), name)
    for line in lines:
        assert line in text


PARSE = """
import sys, tree_sitter, tree_sitter_kotlin
parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_kotlin.language()))
wrong = [name for name in sys.argv[1:] if parser.parse(open(name, "rb").read()).root_node.has_error]
sys.exit(f"no Kotlin: {wrong}" if wrong else 0)
"""


@pytest.mark.consumers
def test_the_kotlin_snippets_are_kotlin(tmp_path: Path) -> None:
    python, targets = consumers_python(), get_args(Target)
    paths = []
    for name, target in product([name for name in CASES if name.endswith("tflite")], targets):
        paths.append(tmp_path / f"{name}.{target}.kt")
        text = kotlin_snippet(contract_of(CASES[name](), "small/net", LABELS), name, target)
        paths[-1].write_text(text)
    command = [python, "-c", PARSE, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    paths[0].write_text(paths[0].read_text().replace("class Segmenter(", "class Segmenter(("))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
