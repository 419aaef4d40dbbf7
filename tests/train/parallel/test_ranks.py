"""Two processes get what one gets with the whole batch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.train.parallel.launch import launch
from mobileseg.train.parallel.ranks import ALONE, Ranks
from tests.train.parallel.worker import BASE, TRAININGS, normed, trained

COUNT = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left what they got."""
    made = tmp_path_factory.mktemp("ranks")
    # The last thing that the second one does is to die.
    with pytest.raises(MobilesegError) as error:
        launch(COUNT, [sys.executable, "-m", "tests.train.parallel.worker", str(made)])
    (made / "error.txt").write_text(str(error.value))
    return made


def of(folder: Path, name: str) -> list[dict[str, Tensor]]:
    return [load_file(folder / f"{name}.{rank}.safetensors") for rank in range(COUNT)]


@pytest.mark.parametrize("name", ["norm", "lean", "low"])
def test_norms_see_the_joined_batch(folder: Path, name: str) -> None:
    whole = normed(ALONE, lean=name == "lean", low=name == "low")
    tolerance = 2e-2 if name == "low" else 2e-5
    first, second = of(folder, name)
    for key, want in whole.items():
        if key.startswith("buffer."):
            torch.testing.assert_close(first[key], want, rtol=tolerance, atol=tolerance)
            assert torch.equal(first[key], second[key])
            continue
        found = first[key] + second[key] if "grad" in key else torch.cat([first[key], second[key]])
        scale = float(want.abs().max())
        torch.testing.assert_close(found / scale, want / scale, rtol=0, atol=tolerance, msg=key)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What one process gets."""
    made = tmp_path_factory.mktemp("alone")
    return {name: trained(config, made / name) for name, config in TRAININGS.items()}


def assert_same(found: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """Equal but for the rounding of float64."""
    assert found.keys() == want.keys()
    for key, tensor in want.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-9, atol=1e-9, msg=key)


@pytest.mark.parametrize("name", TRAININGS)
def test_trainings_reach_the_weights_of_one_process(
    folder: Path, alone: dict[str, dict[str, Tensor]], name: str
) -> None:
    first, second = of(folder, name)
    assert_same(first, alone[name])
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), key
    log = folder / name
    assert sorted(path.name for path in (log / "0").iterdir()) == [
        "checkpoint.safetensors",
        "train.jsonl",
    ]
    assert not (log / "1").exists()


def test_what_broke_off_goes_on(folder: Path, alone: dict[str, dict[str, Tensor]]) -> None:
    for found in of(folder, "resumed"):
        assert_same(found, alone["cross_entropy"])


def test_fewer_processes_go_on(folder: Path, alone: dict[str, dict[str, Tensor]]) -> None:
    found = trained(BASE, folder / "left", resume=True)
    assert_same(found, alone["cross_entropy"])


def test_a_part_without_gradient_is_named(folder: Path) -> None:
    for rank in range(COUNT):
        said = (folder / f"odd.{rank}.txt").read_text()
        assert said.startswith("devices: side.weight has no part in the loss")


def test_one_error_says_who_is_gone(folder: Path) -> None:
    assert (folder / "error.txt").read_text() == (
        "devices: process 1 of 2 was ended by signal 9 (SIGKILL); nothing is lost but the steps "
        "since the last checkpoint: the same command goes on from there"
    )


def test_shares_of_a_batch() -> None:
    parts = [Ranks(rank, 3).share(8) for rank in range(3)]
    assert [range(8)[part] for part in parts] == [range(2), range(2, 5), range(5, 8)]
    with pytest.raises(MobilesegError, match=r"batch_size: 2 pictures are too few for 3 devices"):
        Ranks(0, 3).share(2)
