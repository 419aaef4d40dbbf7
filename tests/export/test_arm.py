"""Our files on Arm kernels under emulation, and what is said where that cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mobileseg.errors import MobilesegError
from mobileseg.export.arm.emulator import CORES, Core, Emulator, Job
from mobileseg.export.arm.setup import find_emulator, set_up
from mobileseg.export.check import FLOAT_TOLERANCE, kind_of
from mobileseg.export.onnx import write_onnx
from mobileseg.export.runtime import load, pixels_as
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8, quant_of
from mobileseg.graph.ir import Array, Graph
from tests.export import small

# A kernel may round the other way at an exact half.
STEPS = 1

linux = pytest.mark.skipif(sys.platform != "linux", reason="the emulator is for Linux")


@linux
def test_says_how_it_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(
        MobilesegError,
        match=r"^--arm: (the emulator is not set up; add --setup|cannot be set up here)",
    ):
        find_emulator()
    assert not list(tmp_path.iterdir())


@linux
@pytest.mark.parametrize("ask", [find_emulator, set_up])
def test_says_what_the_machine_lacks(
    ask: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert callable(ask)
    with pytest.raises(MobilesegError, match=r"cannot be set up here: .*(no apt-get|takes Linux)"):
        ask()
    assert not list(tmp_path.iterdir())


@linux
def test_a_step_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apt-get that refuses, as without a network."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("apt-get", "echo E: no route >&2; exit 100"), ("dpkg-deb", "exit 0")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MobilesegError, match=r"apt-get failed: E: no route|cannot be set up here"):
        set_up()
    assert not list((tmp_path / "cache").rglob("*arm-*"))


@pytest.fixture(scope="module")
def emulator() -> Emulator:
    try:
        return find_emulator()
    except MobilesegError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Graph]:
    """Files with every kind of block, in every form that they are written in."""
    folder = tmp_path_factory.mktemp("arm")
    float_graph, int8 = small.float_graph(), small.int8_graph()
    made = {
        folder / "float32.tflite": float_graph,
        folder / "int8.tflite": int8,
        folder / "plain.tflite": small.int8_graph(rewrite=False),
        folder / "int8io.tflite": small.int8_graph(interface="int8"),
        folder / "floatio.tflite": small.int8_graph(interface="float32"),
        folder / "float32.onnx": float_graph,
        folder / "int8.onnx": int8,
    }
    for path, graph in made.items():
        path.write_bytes(write_tflite(graph) if path.suffix == ".tflite" else write_onnx(graph))
    return made


def pixels(graph: Graph) -> Array:
    return pixels_as(small.pictures(3), np.dtype(graph[graph.inputs[0]].dtype))


def ours(graph: Graph) -> Array:
    if kind_of(graph) == "int8":
        return execute_int8(graph, pixels(graph))
    with torch.inference_mode():
        return execute(graph, torch.from_numpy(pixels(graph))).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
def test_our_files(emulator: Emulator, files: dict[Path, Graph], core: Core) -> None:
    runs = emulator.run(core, [Job(path, pixels(graph)) for path, graph in files.items()])
    step = float(quant_of(small.int8_graph()["logits"]).scale[0])
    for (path, graph), done in zip(files.items(), runs, strict=True):
        expected, here = ours(graph), load(path)(pixels(graph))
        away = np.abs(done.output.astype(np.float64) - expected)
        assert done.output.dtype == here.dtype
        assert done.instructions > 10_000
        if kind_of(graph) == "int8":
            steps = away / step if done.output.dtype == np.float32 else away
            assert np.rint(steps).max() <= STEPS, path.name
            # ONNX Runtime resizes int8 in float, which rounds differently there.
            assert path.suffix == ".onnx" or np.array_equal(done.output, here), path.name
        else:
            assert away.max() <= FLOAT_TOLERANCE * np.abs(expected).max(), path.name


@pytest.mark.slow
def test_instructions_tell_kernels_apart(emulator: Emulator, files: dict[Path, Graph]) -> None:
    """Dot products need fewer instructions, and the same run needs the same."""
    (path,) = (path for path in files if path.name == "int8.tflite")
    job = Job(path, pixels(files[path]))
    counts = {
        core.name: [r.instructions for r in emulator.run(core, [job, job])]
        for core in CORES.values()
    }
    assert counts["neoverse-n1"][0] < counts["cortex-a72"][0]
    for first, second in counts.values():
        assert first == pytest.approx(second, rel=0.01)


@pytest.mark.slow
def test_names_the_file_that_does_not_run(
    emulator: Emulator, files: dict[Path, Graph], tmp_path: Path
) -> None:
    good = next(iter(files))
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(good.read_bytes()[:2000])
    jobs = [Job(path, pixels(files[good])) for path in (good, bad)]
    with pytest.raises(MobilesegError, match=r"bad\.tflite: does not run on cortex-a72"):
        emulator.run(CORES["cortex-a72"], jobs)
