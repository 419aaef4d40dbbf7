"""`mobileseg latency` on anybody's files, and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.export.onnx import write_onnx
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.ir import Graph
from mobileseg.latency.apart import measure_apart
from mobileseg.latency.price import price
from mobileseg.latency.profile import DeviceProfile
from mobileseg.nets.zoo import ZOO
from mobileseg.workflow.device import device, devices
from mobileseg.workflow.forms import Forms
from mobileseg.workflow.network import as_int8, empty_graph
from tests.reading.foreign import TFLite
from tests.workflow.conftest import Call, Place

# The first of these makes torch's part of the work, the second must not need it.
_NO_TORCH = """
import sys
from mobileseg.cli import main
sys.argv = ["mobileseg", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = {"torch", "onnxruntime", "onnxsim", "ai_edge_litert.interpreter"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    graph = empty_graph(ZOO["mobilenet_deconv"]((64, 96), 2))
    return {"float32": graph, "int8": as_int8(graph)}


@pytest.fixture(scope="module")
def folder(graphs: dict[str, Graph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    for name, graph in graphs.items():
        (made / f"{name}.tflite").write_bytes(write_tflite(graph))
        (made / f"{name}.onnx").write_bytes(write_onnx(graph))
    return made


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_tflite_file_is_priced_as_the_graph_it_was_written_from(
    precision: str, graphs: dict[str, Graph], folder: Path, call: Call
) -> None:
    done = call("latency", folder / f"{precision}.tflite", "--json").json()
    expected = price(graphs[precision], device("pixel4"))
    (priced,) = done["devices"]
    assert done["precision"] == precision
    assert done["image_size"] == [64, 96]
    assert done["macs"] == graphs[precision].total_macs
    assert priced["ms"] == pytest.approx(expected.ms)
    assert [row["kernel"] for row in priced["rows"]] == [row.kernel for row in expected.rows]


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_onnx_file_costs_about_as_much(
    precision: str, graphs: dict[str, Graph], folder: Path, call: Call
) -> None:
    done = call("latency", folder / f"{precision}.onnx", "--json").json()
    assert done["precision"] == precision
    expected = price(graphs[precision], device("pixel4"))
    assert done["devices"][0]["ms"] == pytest.approx(expected.ms, rel=0.02)


@pytest.mark.parametrize("name", ["float32.tflite", "int8.tflite", "float32.onnx"])
def test_the_file_itself_is_measured(name: str, folder: Path, call: Call) -> None:
    done = call("latency", folder / name, "--measure", "--json").json()
    measured = done["measured"]
    assert measured["file"] == name
    assert 0 < measured["median_ms"] <= measured["p90_ms"]
    rows = done["devices"][0]["rows"]
    assert len(measured["operators_ms"]) == len(rows)
    timed = [each for each in measured["operators_ms"] if isinstance(each, float)]
    assert len(timed) > len(rows) / 2


def test_a_saved_graph_is_priced_by_its_name(copy: Place, call: Call) -> None:
    path = copy.step("skips") / "latency" / "int8.graph.safetensors"
    run = call("latency", "tiny/skips", "--runs", copy.runs, "--int8", "--json").json()
    words = [sys.executable, "-c", _NO_TORCH, "latency", str(path), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["precision"] == "int8"
    assert found["devices"][0] == run["devices"][0]
    for wrong, told in (("--input-size", "a size of its own"), ("--step", "has no steps")):
        assert told in call("latency", path, wrong, "8,8").err
    weights = copy.step("skips") / "weights.safetensors"
    assert "is no saved graph; a run's" in call("latency", weights).err


def test_times_kept_once_stand_beside_an_estimate(
    graphs: dict[str, Graph], folder: Path, tmp_path: Path, call: Call
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(call("latency", folder / "int8.tflite", "--measure", "--json").out)
    done = call("latency", folder / "int8.tflite", "--against", kept, "--json").json()
    found = done["devices"][0]["against"]
    times = [each for each in json.loads(kept.read_text())["measured"]["operators_ms"] if each]
    timed = [each for each in times if isinstance(each, float)]
    assert found["operators_ms"] == pytest.approx(sum(timed))
    assert len(found["rows"]) + found["fused"] == len(graphs["int8"].nodes)
    other = call("latency", folder / "float32.tflite", "--against", kept).err
    assert "was measured in int8, and float32 is asked for" in other


def test_a_file_that_kills_its_runtime(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(200))
    with pytest.raises(MobilesegError, match=r"net\.tflite"):
        measure_apart(path)


@pytest.mark.parametrize("name", ["float32.tflite", "int8.tflite", "float32.onnx", "int8.onnx"])
def test_files_need_no_torch(name: str, folder: Path) -> None:
    words = [sys.executable, "-c", _NO_TORCH, "latency", str(folder / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "estimated" in done.stdout


@pytest.mark.parametrize("int8", [False, True])
def test_trained_runs_need_no_torch(int8: bool, trained: Place) -> None:
    where = ["latency", "tiny/skips", "--runs", str(trained.runs), "--json"]
    words = [sys.executable, "-c", _NO_TORCH, *where, *(["--int8"] if int8 else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["precision"] == ("int8" if int8 else "float32")


def test_a_damaged_or_old_graph_is_built_again(copy: Place, call: Call) -> None:
    path = copy.step("skips") / "latency" / "float32.graph.safetensors"
    words = ["latency", "tiny/skips", "--runs", copy.runs, "--json"]
    before, kept = call(*words).json(), path.read_bytes()
    for damage in (b"", kept[:100]):
        path.write_bytes(damage)
        assert call(*words).json() == before
        assert path.read_bytes() == kept
    spec = copy.step("skips") / "net.json"
    spec.write_text(spec.read_text().replace('"classes": 2', '"classes": 3'))
    assert call(*words).json()["macs"] > before["macs"]


@pytest.mark.parametrize("net", ["hrnet_w18", "deeplabv3plus_xception65"])
def test_prices_of_the_largest_networks_for_all_devices_in_no_time(net: str) -> None:
    """What is worked out once per device, and not once per network, takes a second and more."""
    graph = empty_graph(ZOO[net]((256, 512), 2), Forms(int8=False, rewrite="none"))
    profiles = [device(name) for name in devices()]
    best = min(_seconds(graph, profiles) for _ in range(5))
    print(f"{net}: {len(graph.nodes)} operators for {len(profiles)} devices in {best:.3f} s")
    assert best < 0.3


def _seconds(graph: Graph, profiles: list[DeviceProfile]) -> float:
    """Of this process alone: others may be busy. On a graph of which nothing is known yet."""
    fresh = replace(graph)
    begin = time.process_time()
    for profile in profiles:
        price(fresh, profile)
    return time.process_time() - begin


@pytest.mark.parametrize("name", ["float32.tflite", "int8.onnx"])
def test_a_file_is_told_what_slows_it_down_but_not_what_cuts_save(
    name: str, folder: Path, call: Call
) -> None:
    done = call("latency", folder / name, "--advise")
    assert done.code == 0, done.err
    assert "a file cannot be cut" in done.out
    (told,) = call("latency", folder / name, "--advise", "--json").json()["devices"][:1]
    times = [layer["ms"] for layer in told["advice"]["layers"]]
    assert times == sorted(times, reverse=True)
    assert sum(times) == pytest.approx(told["ms"])


def unknown_file() -> bytes:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    file.tensor("[/out]", (1, 4, 5, 3))
    file.add("TANH", ["image"], ["[/out]"])
    return file.write(["image"], ["[/out]"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["unknown.tflite"], "TANH (1 time, first at '[/out]')"),
        (["damaged.tflite"], "is damaged"),
        (["damaged.onnx"], "is damaged"),
        (["empty.onnx"], "is damaged"),
        (["missing.onnx"], "there is no such file"),
        (["float32.tflite", "--int8"], "is a float file"),
        (["float32.tflite", "--step", "v1"], "has no steps"),
        (["float32.tflite", "--rewrite", "all"], "--rewrite"),
        (["float32.tflite", "--input-size", "32,32"], "is fixed to 64x96"),
        (["float32.onnx", "--input-size", "32,32"], "is fixed to 64x96"),
    ],
)
def test_errors(words: list[str], said: str, folder: Path, call: Call) -> None:
    (folder / "unknown.tflite").write_bytes(unknown_file())
    (folder / "damaged.tflite").write_bytes((folder / "int8.tflite").read_bytes()[:5000])
    (folder / "damaged.onnx").write_bytes((folder / "int8.onnx").read_bytes()[:5000])
    (folder / "empty.onnx").write_bytes(b"")
    result = call("latency", folder / words[0], *words[1:])
    assert result.code == 1
    assert said in result.err
    assert result.err.count("\n") == 1


def test_a_size_that_is_none(folder: Path, call: Call) -> None:
    assert call("latency", folder / "float32.onnx", "--input-size", "32").code == 2
    said = call("latency", "portrait", "--input-size", "32,32")
    assert said.code == 1
    assert "image_size" in said.err


def test_names_with_brackets_are_shown(tmp_path: Path, call: Call) -> None:
    file = TFLite()
    file.tensor("image", (1, 4, 5, 3))
    file.tensor("[/b]:smile:[red]", (1, 4, 5, 3))
    file.add("RELU", ["image"], ["[/b]:smile:[red]"])
    path = tmp_path / "net.tflite"
    path.write_bytes(file.write(["image"], ["[/b]:smile:[red]"]))
    assert "[/b]:smile:[red]" in call("latency", path).out
