"""`mobileseg profile --train`."""

from __future__ import annotations

from tests.workflow.conftest import Call, Place


def test_parts_and_blocks_add_up_and_steps_are_measured(trained: Place, call: Call) -> None:
    said = call(
        "profile", trained.recipe, "--train", "--step", "thin", "--batch", 4, "--measure", "--json"
    )
    assert said.code == 0, said.err
    found = said.json()
    ways = {way["way"]: way for way in found["ways"]}
    assert list(ways)[:4] == ["plain", "lean", "recompute", "lean, recompute"]
    for word, way in ways.items():
        assert sum(each[word] for each in found["parts"]) == way["kept_bytes"]
        assert sum(each[word] for each in found["blocks"]) == way["kept_bytes"]
        assert way["kept_bytes"] < way["peak_bytes"]
    plain = ways["plain"]["kept_bytes"]
    assert ways["lean"]["kept_bytes"] < 0.6 * plain
    assert ways["recompute"]["kept_bytes"] < 0.6 * plain
    assert ways["bfloat16"]["kept_bytes"] < 0.6 * plain
    assert abs(2 * ways["2 parts"]["kept_bytes"] / plain - 1) < 0.01
    assert (
        ways["lean, recompute, bfloat16, 2 parts"]["peak_bytes"] < 0.5 * ways["plain"]["peak_bytes"]
    )
    measured = {way["way"]: way for way in found["measured"]["ways"]}
    assert measured.keys() == ways.keys()
    assert all(way["seconds"] > 0 for way in measured.values())
    assert measured["plain"]["counted_bytes"] == ways["plain"]["peak_bytes"]


def test_the_recipes_own_way_is_shown(trained: Place, call: Call) -> None:
    said = call(
        "profile",
        trained.recipe,
        "--train",
        "--batch",
        1,
        "--json",
        "--set",
        'train.recompute=["conv*"]',
        "--set",
        "train.precision=float16",
    )
    way = said.json()["ways"][-1]
    assert (way["way"], way["recompute"]) == ("recompute, float16", ["conv*"])


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
