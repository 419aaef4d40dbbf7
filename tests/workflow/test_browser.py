"""A trained run's files in the browser's runtimes, on real photos, beside this machine's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobileseg.export.runtime import load, pixels_as
from mobileseg.files import shipped
from mobileseg.graph.ir import Array
from mobileseg.train.data import read_image, resize_image
from tests.browser.chromium import Job, Ran, missing, run_files
from tests.workflow.conftest import Place, invoke

# A mask's pixel may tip where two classes are equally likely: a rounding away from each other.
SAME_PIXELS = 0.99
FLOAT_TOLERANCE = 1e-5
# wasm's kernels round int8 products their own way: measured 1 at most, of 4 % of the values.
STEPS = 2


@pytest.fixture(scope="module")
def files(trained: Place, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The float32 and the uint8-in files of a trained step, TFLite and ONNX."""
    folder = tmp_path_factory.mktemp("browser")
    for precision in ("float32", "int8"):
        words = ["--precision", precision, "--format", "both", "--out", folder]
        with pytest.MonkeyPatch.context() as patch:
            assert invoke(patch, "export", trained.step("thin"), *words) == 0
    found = sorted([*folder.glob("*.tflite"), *folder.glob("*.onnx")])
    assert len(found) == 4
    return found


def photos(size: tuple[int, int]) -> Array:
    folder = shipped("assets", "data", "public_figures", "images")
    return np.stack([resize_image(read_image(path), size) for path in sorted(folder.iterdir())])


def compared(path: Path, ran: Ran) -> tuple[float, float, str]:
    """Return the share of equal pixels, the largest difference, and both in words."""
    runner = load(path)
    pixels = pixels_as(photos(runner.image_size), runner.input_dtype)
    here = runner(pixels)
    shape = (len(here), *here.shape[2:], here.shape[1])
    there = ran.output.reshape(shape if path.suffix == ".tflite" else here.shape)
    there = np.moveaxis(there, 3, 1) if path.suffix == ".tflite" else there
    away = np.abs(there.astype(np.float64) - here)
    same = float((there.argmax(1) == here.argmax(1)).mean())
    largest = away.max() if here.dtype == np.uint8 else away.max() / np.abs(here).max()
    # A mask of one class would agree with anything.
    assert 0.02 < (here.argmax(1) > 0).mean() < 0.98
    words = f"{100 * same:.3f} % of the pixels as here, largest difference {largest:.2g}"
    return same, float(largest), f"{path.name}: {ran.ms:.1f} ms in the browser, {words}"


@pytest.mark.browser
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_files_run_and_agree(files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    jobs = {}
    for path in files:
        runner = load(path)
        pixels = pixels_as(photos(runner.image_size), runner.input_dtype)
        stored = pixels.transpose(0, 2, 3, 1) if path.suffix == ".tflite" else pixels
        jobs[path.name] = Job(path, stored)
    ran = run_files(list(jobs.values()))
    for path in files:
        same, largest, words = compared(path, ran[path.name])
        with capsys.disabled():
            print(f"\n{words}", end="")
        assert same >= SAME_PIXELS, path.name
        limit = STEPS if "int8" in path.name else FLOAT_TOLERANCE
        assert largest <= limit, path.name
