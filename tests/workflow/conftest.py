"""A real ladder, trained for seconds on the shipped portraits, that the tests here share."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mobileseg import cli
from mobileseg.files import shipped

SAMPLE = shipped("assets", "data", "portrait_sample")

RECIPE = """
# A ladder of seconds.
name = "tiny"
net = "mobilenet_deconv"
image_size = [64, 96]
weights = "mobilenet_v1_1.0"
devices = ["pixel4", "pixel1"]

[data]
root = "data"
test = "test.txt"

[train]
epochs = 3
batch_size = 6
lr = 3e-3
warmup_epochs = 0.5

[quantize]
images = 8
max_drop = 5.0
round_layers = 1

[[step]]
name = "whole"
train = false

[[step]]
name = "thin"
remove = ["conv5_[2-6]", "conv6"]
width = { "conv*" = 0.25 }
deconv = [16, 8]

[[step]]
name = "skips"
skip = { how = "add", sources = ["conv3_2"] }
epochs_share = 0.7
"""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line in this process."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        code = invoke(monkeypatch, *words)
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run


def invoke(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run main() with these words; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["mobileseg", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@dataclass(frozen=True)
class Place:
    """A folder with a recipe, its data, and the runs made of it."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder / "tiny.toml"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def step(self, name: str) -> Path:
        return self.runs / "tiny" / name


def make_place(folder: Path) -> Place:
    """Write the recipe and a few of the shipped portraits, lists included."""
    (folder / "tiny.toml").write_text(RECIPE)
    for split, count in (("train", 20), ("test", 6)):
        lines = (SAMPLE / f"{split}.txt").read_text().splitlines()[:count]
        for name in " ".join(lines).split():
            (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SAMPLE / name, folder / "data" / name)
        (folder / "data" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return Place(folder)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The ladder, climbed once. Tests that change files copy it first."""
    place = make_place(tmp_path_factory.mktemp("ladder"))
    with pytest.MonkeyPatch.context() as patch:
        assert invoke(patch, "slim", place.recipe, "--runs", place.runs) == 0
    yield place


@pytest.fixture
def copy(trained: Place, tmp_path: Path) -> Place:
    """The climbed ladder, to break things in."""
    shutil.copytree(trained.folder, tmp_path / "copy")
    return Place(tmp_path / "copy")
