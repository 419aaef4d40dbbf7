"""Exported files of a trained net in MediaPipe and Task Library: their masks are ours."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import grid_sample, interpolate

from mobileseg.export.runtime import load
from mobileseg.graph.ir import Array
from mobileseg.train.pictures import read_image, resize_image
from mobileseg.workflow.network import file_predict
from tests.consumers import Answers, ask, consumers_python
from tests.workflow.conftest import SAMPLE, Place, invoke

PHOTOS = sorted((SAMPLE / "images").glob("*.jpg"))[:12]
FILES = {
    "mediapipe float32": "tiny-skips-float32-mediapipe",
    "mediapipe int8": "tiny-skips-int8-mediapipe",
    "task float32": "tiny-skips-float32-softmax-task",
    "task int8": "tiny-skips-int8-softmax-task",
}


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    consumers_python()
    # Trained only where the consumers are there.
    trained: Place = request.getfixturevalue("trained")
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        for name in FILES:
            target, precision = name.split()
            # Training of seconds: what int8 loses of it is not the matter here.
            rest = ("--max-drop", "100") if precision == "int8" else ()
            words = ("--precision", precision, "--target", target, "--out", folder, *rest)
            assert invoke(patch, "export", trained.step("skips"), *words) == 0
    return folder


@pytest.fixture(scope="module")
def photos(exported: Path) -> dict[str, Array]:
    """Photos as they are, and at the network's size."""
    size = load(next(exported.glob("*.tflite"))).image_size
    whole = {path.stem: read_image(path) for path in PHOTOS}
    return whole | {f"{name} small": resize_image(each, size) for name, each in whole.items()}


@pytest.fixture(scope="module")
def answers(exported: Path, photos: dict[str, Array]) -> Answers:
    return ask(exported, photos)


def agreement(
    ours: Callable[[Array], Array], photos: Mapping[str, Array], theirs: Mapping[str, Array]
) -> float:
    return float(np.mean([(ours(photo) == theirs[name]).mean() for name, photo in photos.items()]))


@pytest.mark.consumers
@pytest.mark.parametrize("name", FILES)
def test_masks_of_photos_at_the_network_s_size(
    name: str, exported: Path, photos: dict[str, Array], answers: Answers
) -> None:
    assert answers.said[FILES[name]][name.split(maxsplit=1)[0]] == "ok"
    predict = file_predict(load(exported / f"{FILES[name]}.tflite"))
    held = answers.held(FILES[name], name.split(maxsplit=1)[0])
    small = {key: photo for key, photo in photos.items() if key.endswith(" small")}
    assert agreement(lambda photo: predict(photo[None])[0].argmax(0), small, held) >= 0.999
    assert any(len(np.unique(held[key])) > 1 for key in small)


@pytest.mark.consumers
@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("mediapipe")])
def test_masks_of_whole_photos(
    name: str, exported: Path, photos: dict[str, Array], answers: Answers
) -> None:
    """MediaPipe shrinks without averaging, from corners, and stretches scores corner to corner."""
    runner = load(exported / f"{FILES[name]}.tflite")
    predict = file_predict(runner)

    def mask(photo: Array) -> Array:
        scores = torch.from_numpy(predict(from_corner(photo, runner.image_size)[None]))
        whole = interpolate(scores, photo.shape[:2], mode="bilinear", align_corners=True)
        found: Array = whole[0].argmax(0).numpy()
        return found

    large = {key: photo for key, photo in photos.items() if not key.endswith(" small")}
    held = answers.held(FILES[name], "mediapipe")
    assert agreement(mask, large, held) >= 0.99


def from_corner(photo: Array, size: tuple[int, int]) -> Array:
    """Return the photo at `size`: pixel i is the photo's at i * scale, between its neighbours."""
    height, width = photo.shape[:2]
    rows = (torch.arange(size[0]) * (height / size[0]) + 0.5) / height * 2 - 1
    columns = (torch.arange(size[1]) * (width / size[1]) + 0.5) / width * 2 - 1
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    reals = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
    places = torch.stack([x, y], -1)[None].float()
    taken = grid_sample(reals, places, padding_mode="border", align_corners=False)
    found: Array = taken[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
    return np.ascontiguousarray(found)


@pytest.mark.consumers
def test_the_snippet_for_mediapipe_runs(exported: Path, tmp_path: Path) -> None:
    snippet = exported / f"{FILES['mediapipe int8']}.tflite.py"
    mask = tmp_path / "mask.png"
    command = [consumers_python(), str(snippet), str(PHOTOS[0]), str(mask)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "person: " in done.stdout
    with Image.open(mask) as found:
        assert found.size[::-1] == read_image(PHOTOS[0]).shape[:2]
