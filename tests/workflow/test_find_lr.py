"""`mobileseg find-lr` on the shipped pictures."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.workflow.conftest import Call


def test_the_rate_of_a_recipe(call: Call, tmp_path: Path) -> None:
    picture = tmp_path / "rates.png"
    fast = ("--steps", "24", "--set", "train.batch_size=2", "--set", "image_size=[96, 96]")
    said = call("find-lr", "portrait_squeeze", *fast, "--plot", picture, "--json")
    assert said.code == 0, said.err
    found = said.json()
    assert found["step"] == "base"
    assert len(found["tried"]) <= 24
    assert 1e-5 < found["suggested_lr"] < 1
    with Image.open(picture) as drawn:
        assert drawn.width > 600


def test_a_step_that_is_not_trained(call: Call) -> None:
    said = call("find-lr", "portrait_ladder", "--step", "base160")
    assert said.code == 1
    assert "--step: no trained step is named 'base160'" in said.err
    assert call("find-lr", "portrait_ladder", "--from", "1", "--to", "0.1").code == 2


def test_a_device_that_is_not_here(call: Call) -> None:
    said = call("find-lr", "portrait_squeeze", "--compute", "abacus")
    assert said.code == 1
    assert "device 'abacus': is not here; there are: cpu" in said.err
