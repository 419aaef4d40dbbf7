"""`mobileseg find-lr` on the shipped pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mobileseg.recipe import recipe_text
from tests.workflow.conftest import Call

LADDER = """
[[step]]
name = "cut"
prune = { to = { macs_share = 0.6 } }

[[step]]
name = "after"
"""
SPARSE = """
[[step]]
name = "sparse"
sparse = { share = 0.5 }
"""


def test_the_rate_of_a_recipe(call: Call, tmp_path: Path) -> None:
    picture = tmp_path / "rates.png"
    fast = ("--steps", "24", "--set", "train.batch_size=2", "--set", "image_size=[96, 96]")
    said = call("find-lr", "portrait_squeeze", *fast, "--plot", picture, "--json")
    assert said.code == 0, said.err
    found = said.json()
    assert found["step"] == "base"
    assert found["left_out"] == []
    assert "plain training" not in said.err
    assert len(found["tried"]) <= 24
    assert 1e-5 < found["suggested_lr"] < 1
    with Image.open(picture) as drawn:
        assert drawn.width > 600


def test_a_step_that_is_not_trained(call: Call) -> None:
    said = call("find-lr", "portrait_ladder", "--step", "base160")
    assert said.code == 1
    assert "--step: no trained step is named 'base160'" in said.err


@pytest.mark.parametrize(("low", "high"), [("1", "0.1"), ("1e-6", "inf"), ("nan", "1")])
def test_rates_that_are_none(call: Call, low: str, high: str) -> None:
    said = call("find-lr", "portrait_ladder", "--from", low, "--to", high)
    assert said.code == 2
    # Typer refuses NaN in its own words.
    words = " ".join(said.err.replace("│", "").split())
    assert low == "nan" or "give two numbers, the lower first" in words


def test_a_step_that_is_not_pruned_yet(call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "cut.toml"
    recipe.write_text(recipe_text("portrait_squeeze") + LADDER)
    for step in ("cut", "after"):
        said = call("find-lr", recipe, "--step", step, "--runs", tmp_path)
        assert said.code == 1
        assert "step 'cut' of this recipe is not pruned yet; climb to it first:" in said.err
        assert "mobileseg slim RECIPE --step cut" in said.err


def test_what_a_step_learns_beside_is_left_out(call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "sparse.toml"
    recipe.write_text(recipe_text("portrait_squeeze") + SPARSE)
    fast = ("--steps", "10", "--set", "train.batch_size=2", "--set", "image_size=[96, 96]")
    said = call("find-lr", recipe, "--step", "sparse", *fast, "--runs", tmp_path, "--json")
    assert said.code == 0, said.err
    assert said.json()["left_out"] == ["sparse"]
    assert "as plain training, without the step's sparse" in said.err


def test_a_device_that_is_not_here(call: Call) -> None:
    said = call("find-lr", "portrait_squeeze", "--compute", "abacus")
    assert said.code == 1
    assert "device 'abacus': is not here; there are: cpu" in said.err
