"""Bring your own: a trained file of torch's exporter goes the way of our own runs."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileseg.train.pictures import read_image, resize_image
from tests.workflow.conftest import SAMPLE, Call, Place

SIZE = (64, 96)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def unit(into: int, out: int, kernel: int, act: type[nn.Module], **words: Any) -> nn.Sequential:
    conv = nn.Conv2d(into, out, kernel, padding=kernel // 2, bias=False, **words)
    return nn.Sequential(conv, nn.BatchNorm2d(out), act())


class Plain(nn.Module):
    """Nobody's network of ours: what people write in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = unit(3, 12, 3, nn.ReLU6, stride=2)
        self.dw = unit(12, 12, 3, nn.ReLU6, stride=2, groups=12)
        self.pw = unit(12, 24, 1, nn.Hardswish)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 8, 1), nn.ReLU(), nn.Conv2d(8, 24, 1)
        )
        self.deep = unit(24, 24, 3, nn.ReLU6)
        self.up, self.norm = nn.ConvTranspose2d(24, 16, 4, 2, 1), nn.BatchNorm2d(16)
        self.left = nn.Conv2d(12, 8, 1)
        self.head = nn.Conv2d(28, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.stem(x)
        deep = self.pw(self.dw(wide))
        deep = deep * F.hardsigmoid(self.squeeze(deep))
        deep = self.norm(self.up(deep + self.deep(deep)))
        side, other = torch.relu(self.left(wide)).split([4, 4], dim=1)
        joined = torch.cat([F.relu(deep), other, side, wide[:, :4]], dim=1)
        out: Tensor = self.head(joined)
        return F.interpolate(out, x.shape[2:], mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class Data:
    """A few of the shipped portraits, lists included."""

    folder: Path

    def pairs(self) -> tuple[Tensor, Tensor]:
        lines = (self.folder / "train.txt").read_text().splitlines()
        images, masks = zip(*(line.split() for line in lines), strict=True)
        x = np.stack([resize_image(read_image(self.folder / name), SIZE) for name in images])
        y = np.stack([resize_image(read_image(self.folder / name), SIZE)[..., 0] for name in masks])
        taken = (x.astype(np.float32) - np.float32(MEAN)) / np.float32(STD)
        return torch.from_numpy(taken).permute(0, 3, 1, 2), torch.from_numpy((y == 1).astype(int))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("pairs")
    for split, count in (("train", 16), ("val", 4), ("test", 4)):
        source = "train" if split == "val" else split
        lines = (SAMPLE / f"{source}.txt").read_text().splitlines()
        chosen = lines[-count:] if split == "val" else lines[:count]
        for name in " ".join(chosen).split():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SAMPLE / name, folder / name)
        (folder / f"{split}.txt").write_text("\n".join(chosen) + "\n")
    return Data(folder)


@pytest.fixture(scope="module")
def file(data: Data) -> Path:
    """The network, trained for seconds, as torch writes it: its batch and size are left open."""
    torch.manual_seed(0)
    net, (x, y) = Plain(), data.pairs()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(25):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    path = data.folder / "plain.onnx"
    words: dict[str, Any] = {"dynamo": False, "opset_version": 17, "input_names": ["x"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (x[:1],),
            path,
            output_names=["y"],
            dynamic_axes={"x": {0: "n", 2: "h", 3: "w"}, "y": {0: "n"}},
            **words,
        )
    return path


def taken(data: Data) -> list[object]:
    return ["--data", data.folder, "--pixels", "imagenet", "--input-size", "64,96"]


def test_a_file_is_scored_beside_our_graphs_of_it(file: Path, data: Data, call: Call) -> None:
    said = call("eval", file, *taken(data), "--split", "train", "--json")
    theirs, ours, int8 = said.json()["executors"]
    assert theirs["executor"] == "plain.onnx"
    assert theirs["scores"]["miou_percent"] > 55
    assert ours["scores"]["miou_percent"] == pytest.approx(
        theirs["scores"]["miou_percent"], abs=0.01
    )
    assert ours["agreement"] > 0.9999
    assert int8["agreement"] > 0.97


def test_what_a_pixel_is_must_be_said_and_tells(file: Path, data: Data, call: Call) -> None:
    words = ["--data", data.folder, "--input-size", "64,96", "--split", "train"]
    silent = call("eval", file, *words)
    assert silent.code == 1
    assert "does not say what it takes of a pixel" in silent.err
    said = {
        pixels: call("eval", file, *words, "--pixels", pixels, "--json").json()["executors"][0]
        for pixels in ("imagenet", "bytes", "123.675,116.28,103.53/58.395,57.12,57.375")
    }
    scores = [each["scores"]["miou_percent"] for each in said.values()]
    assert scores[0] == scores[2] > scores[1] + 5


@pytest.mark.parametrize("pixels", ["imagenets", "1/2/3", "1,2/3", "0/0", "nan/1"])
def test_pixels_that_are_none(pixels: str, file: Path, data: Data, call: Call) -> None:
    said = call("eval", file, "--data", data.folder, "--pixels", pixels, "--input-size", "64,96")
    assert said.code == 1
    assert f"--pixels {pixels}" in said.err


def test_a_file_is_judged_in_int8(file: Path, data: Data, call: Call) -> None:
    said = call("quantize", file, *taken(data), "--max-drop", 5, "--repair", "bias", "--json")
    assert said.code == 0
    assert said.json()["verdict"]["agreement_percent"] > 97
    assert "mobileseg export" in said.err and "--pixels imagenet" in said.err
    assert call("quantize", file, *taken(data), "--max-drop", -50).code == 3


def test_a_file_becomes_int8_files(file: Path, data: Data, call: Call, tmp_path: Path) -> None:
    words = ["--int8", "--format", "both", "--out", tmp_path, "--max-drop", 5, "--json"]
    said = call("export", file, *taken(data), *words)
    assert said.code == 0
    made = said.json()
    assert made["verdicts"][0]["agreement_percent"] > 97
    for each in made["files"]:
        assert each["check"]["problems"] == []
    tflite = next(Path(each["path"]) for each in made["files"] if each["path"].endswith("tflite"))
    # It is of ours now, and says what it takes: nothing need be said of it.
    scored = call("eval", tflite, "--data", data.folder, "--split", "val", "--json").json()
    (alone,) = scored["executors"]
    judged = made["verdicts"][0]["int8"]["miou_percent"]
    assert alone["scores"]["miou_percent"] == pytest.approx(judged, abs=0.01)
    refused = call("quantize", tflite, "--data", data.folder)
    assert refused.code == 1
    assert "is quantized already" in refused.err


def test_a_folder_of_pictures_calibrates(
    file: Path, data: Data, call: Call, tmp_path: Path
) -> None:
    words = ["--pixels", "imagenet", "--input-size", "64,96", "--out", tmp_path]
    images = ["--images", data.folder / "images"]
    said = call("export", file, "--int8", *images, *words, "--json")
    assert said.code == 0
    assert said.json()["verdicts"] == []
    share = float(said.err.split("int8 calls ")[1].split(" %")[0])
    assert share > 97
    for wrong, says in (
        ([], "int8 is calibrated on pictures"),
        ([*images, "--data", data.folder], "name one"),
        ([*images, "--repair", "auto"], "auto is chosen by masks"),
    ):
        refused = call("export", file, "--int8", *words, *wrong)
        assert refused.code == 1
        assert says in refused.err


def test_masks_are_predicted_from_any_file(
    file: Path, data: Data, call: Call, tmp_path: Path
) -> None:
    picture = next((data.folder / "images").iterdir())
    words = ["--pixels", "imagenet", "--input-size", "64,96", "--out", tmp_path]
    assert call("predict", file, picture, *words).code == 0
    assert (tmp_path / f"{picture.stem}_mask.png").is_file()
    assert call("predict", file, picture, "--out", tmp_path).code == 1


@pytest.mark.parametrize("ending", ["onnx", "tflite"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_our_own_float_files_come_back(
    precision: str, ending: str, trained: Place, call: Call, tmp_path: Path
) -> None:
    form = ["--precision", precision, "--format", ending, "--out", tmp_path]
    said = call("export", "tiny/skips", *form, "--runs", trained.runs, "--json")
    path = Path(said.json()["files"][0]["path"])
    data = ["--data", trained.folder / "data"]
    theirs, ours, int8 = call("eval", path, *data, "--json").json()["executors"]
    # Two sums in another order: a pixel of thousands may tip.
    assert theirs["agreement"] == 1 >= ours["agreement"] > 0.999
    assert int8["agreement"] > 0.97
    again = call("export", path, *data, "--int8", "--max-drop", 5, "--out", tmp_path, "--json")
    assert again.json()["files"][0]["check"]["problems"] == []


def test_a_file_that_gives_classes(trained: Place, call: Call, tmp_path: Path) -> None:
    form = ["--precision", "float32", "--format", "onnx", "--output", "argmax", "--out", tmp_path]
    said = call("export", "tiny/skips", *form, "--runs", trained.runs, "--json")
    path = Path(said.json()["files"][0]["path"])
    silent = call("eval", path, "--data", trained.folder / "data")
    assert silent.code == 1 and "--recipe" in silent.err
    again = ["--recipe", trained.recipe, "--int8", "--max-drop", 5, "--out", tmp_path, "--json"]
    made = call("export", path, *again).json()
    assert made["files"][0]["check"]["problems"] == []
    assert made["verdicts"][0]["agreement_percent"] > 97


def test_what_is_of_files_is_refused_for_runs(trained: Place, call: Call) -> None:
    said = call("eval", "tiny/skips", "--pixels", "unit", "--runs", trained.runs)
    assert said.code == 2
    assert "--pixels: of .onnx and .tflite files" in said.err
