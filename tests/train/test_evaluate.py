"""Executors judged at each mask's own size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

from mobileseg.errors import MobilesegError
from mobileseg.train.augment import normalise
from mobileseg.train.data import pairs
from mobileseg.train.evaluate import EvalSet, evaluate, load_eval, module_predict
from tests.train.pictures import scene, write_list


@pytest.fixture
def evalset(tmp_path: Path) -> EvalSet:
    config = replace(write_list(tmp_path, 5), val=Path("train.txt"))
    picture, mask = scene(9, 61, 53)  # one of another size
    Image.fromarray(picture).save(tmp_path / "images/p3.jpg")
    Image.fromarray(mask).save(tmp_path / "masks/p3.png")
    return load_eval(pairs(config, "val"), config, (30, 26))


def test_masks_keep_their_size(evalset: EvalSet) -> None:
    assert evalset.images.shape == (5, 30, 26, 3)
    assert [mask.shape for mask in evalset.masks] == [(46, 38)] * 3 + [(61, 53), (46, 38)]


def test_an_oracle_is_near_perfect(evalset: EvalSet) -> None:
    calls: list[int] = []

    def oracle(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        calls.append(len(images))
        red = images[..., 0].astype(np.float32) - images[..., 2]
        return np.stack([np.zeros_like(red), red - 60], axis=1)

    seen: list[tuple[int, int]] = []
    scores = evaluate(oracle, evalset, lambda *at: seen.append(at), batch_size=2)
    assert calls == [2, 2, 1]
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert scores.images == 5
    assert scores.confusion.sum() == sum(mask.size for mask in evalset.masks)
    assert scores.miou > 0.85
    assert evaluate(oracle, evalset, boundary=False).boundary_f is None


def test_module_predict_leaves_the_mode(evalset: EvalSet) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    logits = module_predict(module)(evalset.images)
    assert module.training
    assert logits.dtype == np.float32
    with torch.no_grad():
        want = module.eval()(normalise(torch.from_numpy(evalset.images)))
    np.testing.assert_allclose(logits, want.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "fill", "message"),
    [
        ((5, 3, 30, 26), 0.0, r"gives \[5, 3, 30, 26\]; want \[5, 2 classes"),
        ((5, 2), 0.0, r"gives \[5, 2\]"),
        ((5, 2, 4, 4), np.nan, r"NaN or infinity for .*p0\.jpg"),
    ],
)
def test_wrong_logits(evalset: EvalSet, shape: tuple[int, ...], fill: float, message: str) -> None:
    with pytest.raises(MobilesegError, match=message):
        evaluate(lambda _: np.full(shape, fill, np.float32), evalset)


def test_bad_files_are_named(tmp_path: Path) -> None:
    config = replace(write_list(tmp_path, 4), val=Path("train.txt"))
    (tmp_path / "images/p1.jpg").write_bytes(b"no picture")
    with pytest.raises(MobilesegError, match=r"p1\.jpg: damaged"):
        load_eval(pairs(config, "val"), config, (30, 26))
