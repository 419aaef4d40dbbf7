"""`mobileseg profile --train`."""

from __future__ import annotations

from tests.workflow.conftest import Call, Place


def test_parts_and_blocks_add_up_and_a_step_is_measured(trained: Place, call: Call) -> None:
    said = call(
        "profile", trained.recipe, "--train", "--step", "thin", "--batch", 4, "--measure", "--json"
    )
    assert said.code == 0, said.err
    found = said.json()
    for word in ("plain", "lean"):
        total = found[f"{word}_bytes"]
        assert sum(each[word] for each in found["parts"]) == total
        assert sum(each[word] for each in found["blocks"]) == total
        assert found["measured"][word]["seconds"] > 0
    assert found["lean_bytes"] < 0.6 * found["plain_bytes"]
    one = call(
        "profile", trained.recipe, "--train", "--step", "thin", "--batch", 1, "--json"
    ).json()
    assert abs(4 * one["plain_bytes"] / found["plain_bytes"] - 1) < 0.01


def test_a_ladder_trains_lean(copy: Place, call: Call) -> None:
    said = call(
        "slim",
        copy.recipe,
        "--runs",
        copy.runs,
        "--step",
        "thin",
        "--restart",
        "--set",
        "train.memory=lean",
        "--set",
        'train.recompute=["conv*"]',
        "--set",
        "train.accumulate=2",
    )
    assert said.code == 0, said.err
    assert "thin: training" in said.err


def test_what_is_not_asked_is_said(trained: Place, call: Call) -> None:
    assert "say --train" in call("profile", trained.recipe).err
    assert "no step is named 'x'" in call("profile", trained.recipe, "--train", "--step", "x").err
