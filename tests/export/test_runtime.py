"""Loading: right files run, damaged ones end in one error with the file's name."""

from __future__ import annotations

from pathlib import Path

import ai_edge_litert.schema_py_generated as fb
import flatbuffers
import numpy as np
import pytest

from mobileseg.errors import MobilesegError
from mobileseg.export import runtime
from mobileseg.export.onnx import write_onnx
from mobileseg.export.runtime import load, pixels_as
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph
from tests.graph.build import graph

IMAGE = (1, 3, 6, 8)


def net() -> Graph:
    constants = {"w": (5, 3, 3, 3), "b": (5,)}
    return graph(IMAGE, ("y", ops.Conv2d((2, 2), (0, 0, 1, 1)), "image", constants))


WRITERS = {"tflite": write_tflite, "onnx": write_onnx}
both = pytest.mark.parametrize("ending", WRITERS)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {ending: write(net()) for ending, write in WRITERS.items()}


@both
def test_images_run_one_by_one(ending: str, files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / f"net.{ending}"
    path.write_bytes(files[ending])
    runner = load(path)
    images = np.random.default_rng(0).normal(size=(3, *IMAGE[1:])).astype(np.float32)
    together = runner(images)
    assert together.shape == (3, 5, 3, 4)
    assert runner.image_size == (6, 8)
    np.testing.assert_array_equal(together[1:2], runner(images[1:2]))


@both
@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 3, 8, 6), "float32"), ((2, 3, 6, 8), "uint8"), ((3, 6, 8), "float32")]
)
def test_images_that_do_not_fit(
    ending: str, shape: tuple[int, ...], dtype: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / f"net.{ending}"
    path.write_bytes(files[ending])
    with pytest.raises(MobilesegError, match=r"takes float32 images \(N, 3, 6, 8\)"):
        load(path)(np.zeros(shape, dtype))


@both
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_a_truncated_file(
    ending: str, share: float, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / f"net.{ending}"
    path.write_bytes(files[ending][: int(share * len(files[ending]))])
    with pytest.raises(MobilesegError, match=rf"net\.{ending}"):
        load(path)


@both
def test_a_file_of_something_else(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{ending}"
    path.write_bytes(b"<html>not found</html>" * 50)
    with pytest.raises(MobilesegError, match=rf"net\.{ending}: .*; export it again"):
        load(path)


@both
def test_flipped_bytes_never_end_the_process(
    ending: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    """Each either loads, for what was flipped is a weight or a name, or is one error."""
    random = np.random.default_rng(1)
    path = tmp_path / f"net.{ending}"
    for _ in range(12):
        data = bytearray(files[ending])
        for position in random.integers(0, len(data), 3):
            data[position] = random.integers(0, 256)
        path.write_bytes(data)
        try:
            load(path)(np.zeros(IMAGE, np.float32))
        except MobilesegError as error:
            assert f"net.{ending}" in str(error) or "takes" in str(error)


def test_a_hostile_file_does_not_end_the_process(tmp_path: Path) -> None:
    """A stride of zero: LiteRT divides by it."""
    model = fb.ModelT.InitFromPackedBuf(write_tflite(net()))
    model.subgraphs[0].operators[0].builtinOptions.strideH = 0
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "net.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(MobilesegError, match=r"net\.tflite: LiteRT cannot run it"):
        load(path)


def test_a_file_that_never_ends(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(files["tflite"])
    monkeypatch.setitem(runtime._TRIALS, ".tflite", "while True: pass")
    monkeypatch.setattr(runtime, "_TRIAL_SECONDS", 0.2)
    with pytest.raises(MobilesegError, match=r"no end after 0\.2 s"):
        load(path)


def test_no_file_and_no_ending(tmp_path: Path) -> None:
    with pytest.raises(MobilesegError, match="there is no such file"):
        load(tmp_path / "net.tflite")
    path = tmp_path / "net.pb"
    path.write_bytes(b"")
    with pytest.raises(MobilesegError, match=r"neither \.tflite nor \.onnx"):
        load(path)


@both
def test_a_net_of_other_images(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"net.{ending}"
    grey = graph((1, 1, 6, 8), ("y", ops.Activation("relu"), "image"))
    path.write_bytes(WRITERS[ending](grey))
    with pytest.raises(MobilesegError, match="a segmenter takes"):
        load(path)


def test_pixels() -> None:
    images = np.array([[[[0, 128, 255]]]], np.uint8)
    for dtype, values in (
        ("uint8", [0, 128, 255]),
        ("int8", [-128, 0, 127]),
        ("float32", [-1, 0, 127 / 128]),
    ):
        given = pixels_as(images, np.dtype(dtype))
        assert given.shape == (1, 3, 1, 1) and given.dtype == dtype
        assert given.ravel().tolist() == values
