"""`mobileseg search` on the shipped pictures: small networks, short trainings, real prices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mobileseg.files import shipped
from mobileseg.recipe import read_recipe
from mobileseg.workflow.ladder import dry_run
from mobileseg.workflow.options import SearchOptions
from tests.workflow.conftest import Call

WORDS = (
    *("search", "portrait_squeeze", "--budget-ms", "0.6", "--epochs", "1", "--rounds", "1"),
    *("--set", "image_size=[96, 96]", "--set", "train.batch_size=4"),
)
BUDGET = 0.6
# A worker's draws are its own: of so many candidates one keeps the budget.
TRIALS = 8


@pytest.fixture
def few(tmp_path: Path) -> tuple[str, ...]:
    """A dozen of the shipped pictures."""
    sample = shipped("assets", "data", "portrait_sample")
    lines = (sample / "train.txt").read_text().splitlines()[:12]
    for split in ("train", "test"):
        paths = (" ".join(str(sample / name) for name in line.split()) for line in lines)
        (tmp_path / f"{split}.txt").write_text("\n".join(paths))
    return (*WORDS, "--data", str(tmp_path))


def test_a_search_ends_in_a_recipe_and_goes_on(
    call: Call, few: tuple[str, ...], tmp_path: Path
) -> None:
    said = call(*few, "--trials", TRIALS, "--runs", tmp_path, "--json")
    assert said.code == 0, said.err
    found = said.json()
    assert found["candidates"] == TRIALS
    # The network itself is over the budget: counted, not trained.
    assert found["trained"] < TRIALS
    assert "candidate 0" in said.err
    assert "over the budget; not trained" in said.err
    recipe = read_recipe(found["recipe"])
    row = dry_run(recipe, tmp_path)[-1]
    assert row["step"] == "found"
    assert row["estimated_ms"]["pixel4"]["int8"]["ms"] == pytest.approx(found["best"]["ms"])
    assert found["best"]["ms"] <= BUDGET
    assert (row["params"], row["macs"]) == (found["best"]["params"], found["best"]["macs"])
    assert recipe.train.batch_size == 4
    with Image.open(found["plot"]) as drawn:
        assert drawn.width > 600
    assert not list((tmp_path / "portrait_squeeze" / "search").glob("candidate-*"))
    again = call(*few, "--trials", TRIALS, "--runs", tmp_path, "--json")
    assert again.json()["front"] == found["front"]
    assert "to go" not in again.err
    more = call(*few, "--trials", TRIALS + 1, "--runs", tmp_path, "--json")
    assert "1 candidates to go" in more.err
    assert more.json()["candidates"] == TRIALS + 1


def test_a_budget_that_nothing_meets(call: Call, tmp_path: Path) -> None:
    said = call(*WORDS, "--trials", "2", "--runs", tmp_path, "--budget-ms", "0.001")
    assert said.code == 1
    assert "no candidate is within 0.001 ms on pixel4" in said.err


def test_a_storage_that_is_none(call: Call, tmp_path: Path) -> None:
    said = call(*WORDS, "--runs", tmp_path, "--storage", f"sqlite:///{tmp_path}/no/such.db")
    assert said.code == 1
    assert "--storage" in said.err
    said = call(*WORDS, "--runs", tmp_path, "--from", "nothing")
    assert said.code == 1
    assert "--from: no step is named 'nothing'" in said.err


def test_rounds_double() -> None:
    options = SearchOptions(Path(), "pixel4", 1.0)
    assert options.schedule() == [2, 4, 8]


@pytest.mark.slow
def test_workers_share_a_study(few: tuple[str, ...], tmp_path: Path) -> None:
    """Two at once, on SQLite or on the database that MOBILESEG_STORAGE names."""
    storage = os.environ.get("MOBILESEG_STORAGE", f"sqlite:///{tmp_path}/study.db")
    words = [*few, "--set", "name=shared", "--trials", "6", "--storage", storage]
    command = [sys.executable, "-m", "mobileseg.cli", *words, "--runs"]
    workers = [
        subprocess.Popen([*command, str(tmp_path / name)], stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    said = [worker.communicate(timeout=900)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    tried = [line.split(":")[0] for text in said for line in text.splitlines() if "ms, " in line]
    # Each did some, and no candidate was anybody's twice.
    assert all("candidate" in text for text in said)
    assert len(set(tried)) == len(tried) >= 6
