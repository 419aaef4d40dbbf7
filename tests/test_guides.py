"""What README says of adding to mobileseg: its example runs, and the lines it shows are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

# A network with the block of the example, from text to files.
USE = """
from pathlib import Path
import numpy as np
from mobileseg.export.check import check_file
from mobileseg.export.onnx import write_onnx
from mobileseg.export.tflite import write_tflite
from mobileseg.export.runtime import pixels_as
from mobileseg.nets.module import build
from mobileseg.nets.spec import read_spec
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.slim.actions import Actions
from mobileseg.slim.steps import apply
from mobileseg.workflow.network import float_graph

spec = read_spec({
    "name": "sharp", "image_size": [32, 48], "classes": 2, "blocks": [
        {"kind": "conv", "name": "stem", "inputs": ["image"], "channels": 16},
        {"kind": "sharpen", "name": "sharp", "inputs": ["stem"]},
        {"kind": "conv", "name": "head", "inputs": ["sharp"], "channels": "classes",
         "norm": False, "activation": "none"},
    ]}, "example")
spec = apply(spec, Actions(width={"stem": 8}), "example")
graph = float_graph(build(spec).eval())
pictures = np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), dtype=np.uint8)
int8 = quantize(graph, calibrate(graph, [pixels_as(pictures, np.dtype(np.float32))]))
for form, write in (("tflite", write_tflite), ("onnx", write_onnx)):
    for made in (graph, int8):
        path = Path(f"sharp.{form}")
        path.write_bytes(write(made))
        assert not check_file(path, made, pictures).problems(), form
"""


def after(mark: str) -> str:
    return README.partition(f"<!-- {mark} -->")[2]


def test_the_block_of_the_example_goes_all_the_way(tmp_path: Path) -> None:
    code = after("block example").partition("```python\n")[2].partition("```")[0]
    script = tmp_path / "example.py"
    script.write_text(code + USE)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("table", ["operator lines", "step lines"])
def test_the_lines_are_in_their_files(table: str) -> None:
    rows = after(table).partition("\n\n")[0]
    found = re.findall(r"^\| [^|]+ \| `([^`]+)` \| `(.+)` \|$", rows, re.MULTILINE)
    assert len(found) >= 3
    for name, line in found:
        file = ROOT / name if name.startswith("tests/") else ROOT / "mobileseg" / name
        lines = {text.strip() for text in file.read_text(encoding="utf-8").splitlines()}
        assert line in lines, f"{name}: {line}"
