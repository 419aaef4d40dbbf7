"""Our files in the oldest runtime that they must load in: tflite-runtime 2.14."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from mobileseg.export.check import kind_of
from mobileseg.export.runtime import pixels_as
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8, quant_of
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import FOR_TFLITE, float16_weights, hard_swish_to_mul, run_passes
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.rules import NO_INT16
from tests.export import small
from tests.op_cases import CASES, EVEN

HERE = Path(__file__).parent
# 2.14 runs int8 in TFLite's plain kernels, which round fixed-point products twice: up to 4 steps
# from XNNPACK behind one operator. Float runs in XNNPACK there too.
OPERATOR_STEPS = 4
# Behind the small network: measured 3 at most, 0.32 in the mean.
NETWORK_STEPS, MEAN_STEPS = 4, 0.5
FLOAT_TOLERANCE = 1e-5
# Of int16's 65536: softmax by a table.
FINE_STEPS = 3


@pytest.fixture(scope="module")
def python() -> str:
    path = os.environ.get("MOBILESEG_FLOOR")
    if not path:
        pytest.skip(
            "MOBILESEG_FLOOR is not set; `sh tests/floor.sh DIR` makes the environment and says it"
        )
    return path


def expected(graph: Graph, pixels: Array) -> Array:
    if kind_of(graph) == "int8":
        return execute_int8(graph, pixels)
    with torch.inference_mode():
        return execute(graph, torch.from_numpy(pixels)).numpy()


def run(python: str, folder: Path, graphs: dict[str, Graph], images: Array) -> dict[str, Array]:
    """Return the difference of each graph's file there from our execution, in steps or reals."""
    wanted = {}
    for name, graph in graphs.items():
        pixels = pixels_as(images, np.dtype(graph[graph.inputs[0]].dtype))
        wanted[name] = expected(graph, pixels)
        (folder / f"{name}.tflite").write_bytes(write_tflite(graph))
        np.save(folder / f"{name}.npy", pixels.transpose(0, 2, 3, 1))
    done = subprocess.run(
        [python, str(HERE / "floor_runner.py"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]} {done.stderr[-500:]}"
    differences = {}
    for name, ours in wanted.items():
        theirs = np.load(folder / f"{name}.npy")
        theirs = theirs.transpose(0, 3, 1, 2) if theirs.ndim == 4 else theirs
        differences[name] = np.abs(theirs.astype(np.float64) - ours.astype(np.float64))
    return differences


@pytest.mark.floor
def test_the_environment_is_the_floor(python: str) -> None:
    code = "import importlib.metadata as m; print(m.version('tflite-runtime'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2.14.0"


@pytest.mark.floor
def test_every_operator(python: str, tmp_path: Path) -> None:
    graphs = {}
    cases = [case for case in CASES if case.image == EVEN]
    images = cases[0].images()
    for case in cases:
        graph = run_passes(case.graph(), FOR_TFLITE)
        graphs[f"{case.name}-float32"] = graph
        ranges = calibrate(graph, [pixels_as(images, np.dtype(np.float32))])
        graphs[f"{case.name}-int8"] = quantize(graph, ranges, "int8")
    for name, difference in run(python, tmp_path, graphs, images).items():
        limit = OPERATOR_STEPS if name.endswith("int8") else FLOAT_TOLERANCE
        assert difference.max() <= limit, name


@pytest.mark.floor
def test_every_operator_of_16x8(python: str, tmp_path: Path) -> None:
    """2.14 has the same plain kernels, but none from uint8 to int16: the interface is float32."""
    graphs = {}
    cases = [case for case in CASES if case.image == EVEN and type(case.op) not in NO_INT16]
    images = cases[0].images()
    for case in cases:
        graph = run_passes(case.graph(), (*FOR_TFLITE, hard_swish_to_mul))
        ranges = calibrate(graph, [pixels_as(images, np.dtype(np.float32))])
        graphs[case.name] = quantize(graph, ranges, "float32", activations="int16")
    for name, difference in run(python, tmp_path, graphs, images).items():
        steps = difference / quant_of(graphs[name]["out_int8"]).scale[0]
        assert steps.max() < FINE_STEPS + 0.5, name


@pytest.mark.floor
def test_networks(python: str, tmp_path: Path) -> None:
    graphs = {}
    for word, rewrite in (("rewritten", True), ("plain", False)):
        graphs[f"float32-{word}"] = small.float_graph(rewrite)
        graphs[f"float16-{word}"] = float16_weights(graphs[f"float32-{word}"])
        for interface in ("uint8", "int8", "float32"):
            graphs[f"int8-{interface}-{word}"] = small.int8_graph(rewrite, interface)
    step = float(quant_of(graphs["int8-int8-plain"]["logits"]).scale[0])
    for name, difference in run(python, tmp_path, graphs, small.pictures()).items():
        if not name.startswith("int8"):
            assert difference.max() <= FLOAT_TOLERANCE, name
            continue
        steps = difference / step if "-float32-" in name else difference
        assert steps.max() <= NETWORK_STEPS, name
        assert steps.mean() <= MEAN_STEPS, name


def test_the_script_says_how_it_is_used() -> None:
    script = HERE.parent / "floor.sh"
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: sh tests/floor.sh DIR" in done.stderr
