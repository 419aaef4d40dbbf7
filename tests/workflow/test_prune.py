"""Pruning steps of a recipe, from a trained step to a narrower one that is trained."""

from __future__ import annotations

import json

import pytest
import torch

from mobileseg.recipe import read_recipe, read_recipe_data
from mobileseg.runs import Run
from mobileseg.slim.prune.config import Budget, Importance, Prune
from mobileseg.workflow.plan import plan
from mobileseg.workflow.prune import prune
from tests.workflow.conftest import Call, Place

CUT = """
[[step]]
name = "cut"
from = "thin"
prune = { how = "sensitivity", to = { macs_share = 0.6 }, multiple_of = 2 }
epochs_share = 0.34
"""
FASTER = """
[[step]]
name = "faster"
from = "thin"
prune = { to = { ms = %s }, device = "pixel1", multiple_of = 4, rounds = 2 }
"""


def with_step(place: Place, text: str) -> Place:
    place.recipe.write_text(place.recipe.read_text() + text)
    return place


def test_a_pruning_step_is_climbed_and_goes_on_where_it_broke_off(copy: Place, call: Call) -> None:
    with_step(copy, CUT)
    said = call("slim", copy.recipe, "--runs", copy.runs, "--step", "cut", "--json")
    assert said.code == 0, said.err
    assert "pruned by sensitivity" in said.err
    rows = {row["step"]: row for row in said.json()["steps"]}
    cut, thin = rows["cut"], rows["thin"]
    assert 0.4 * thin["macs"] < cut["macs"] <= 0.6 * thin["macs"]
    assert cut["inherited_share"] == 1
    assert cut["miou_before_training_percent"] > 0
    net = json.loads((copy.step("cut") / "net.json").read_text())
    widths = {block["name"]: block.get("channels") for block in net["blocks"]}
    for each in cut["pruned"].values():
        assert each["filters"] % 2 == 0 or each["held"] or each["filters"] == each["filters_before"]
        if len(each["blocks"]) == 1 and not each["held"]:
            assert widths[each["blocks"][0]] == each["filters"]
    measured = json.loads((copy.step("cut") / "sensitivity.json").read_text())
    assert len(measured["points_lost"]) == 3 * sum(not g["held"] for g in cut["pruned"].values())

    run = Run(copy.step("cut"))
    trained = run.load_weights()
    run.weights_path.unlink()
    run.report_path.unlink()
    said = call("slim", copy.recipe, "--runs", copy.runs, "--step", "cut")
    assert said.code == 0, said.err
    # What a broken-off training begins with is kept: it is not pruned again.
    assert "pruned by" not in said.err
    again = run.load_weights()
    assert all(torch.equal(again[name], trained[name]) for name in trained)
    copy.recipe.write_text(copy.recipe.read_text().replace("macs_share = 0.6", "macs_share = 0.5"))
    other = call("slim", copy.recipe, "--runs", copy.runs, "--step", "cut")
    assert other.code == 1
    assert "other recipe" in other.err


def test_rounds_are_steps_on_the_way_to_the_budget(copy: Place, call: Call) -> None:
    def dry(recipe: object) -> dict[str, float]:
        said = call("slim", recipe, "--runs", copy.runs, "--dry-run", "--json")
        assert said.code == 0, said.err
        steps = said.json()["steps"]
        return {row["step"]: row["estimated_ms"]["pixel1"]["int8"]["ms"] for row in steps}

    before = dry(copy.recipe)["thin"]
    with_step(copy, FASTER % (0.6 * before))
    ms = dry(copy.recipe)
    assert ms["faster"] <= 0.6 * before
    assert 0.6 * before < ms["faster-1"] <= 0.6**0.5 * before * 1.001
    copy.recipe.write_text(copy.recipe.read_text().replace(f"{0.6 * before}", "1000.0"))
    said = call("slim", copy.recipe, "--runs", copy.runs, "--dry-run")
    assert said.code == 1
    assert "kept already" in said.err


@pytest.mark.parametrize("kind", ["l1", "norm", "taylor"])
def test_what_goes_is_sought_by_price(copy: Place, kind: Importance) -> None:
    recipe = read_recipe(str(copy.recipe), [], copy.folder / "data")
    thin, heard = Run(copy.step("thin")), []
    spec, state = thin.spec(), thin.load_weights()
    wish = Prune(to=Budget(params_share=0.7), device="pixel1", multiple_of=4, importance=kind)
    run = Run(copy.step("faster"))
    pruned = prune(recipe, wish, spec, spec, state, run, heard.append, progress=False)
    assert 0.4 * spec.params < pruned.spec.params <= 0.7 * spec.params
    assert heard[0].startswith("pruned by latency: ")


def test_rounds_go_no_further_than_one(copy: Place) -> None:
    def macs(rounds: int) -> int:
        table = read_recipe("fast_scnn").as_dict()
        table["step"][1]["prune"] = {"to": {"macs_share": 0.49}, "rounds": rounds}
        return plan(read_recipe_data(table, "rounds"), copy.runs)[-1].spec.macs

    once = macs(1)
    # A round undershoots; the next goes less far for it.
    assert 0.95 * once < macs(5) <= once


def test_given_shares_alone(copy: Place, call: Call) -> None:
    with_step(copy, '\n[[step]]\nname = "cut"\nprune = { shares = { "conv3_1" = 0.5 } }\n')
    said = call("slim", copy.recipe, "--runs", copy.runs, "--dry-run", "--json")
    assert said.code == 0, said.err
    before, after = said.json()["steps"][-2:]
    assert after["params"] < before["params"]
    assert after["foreseen"]
    assert not before["foreseen"]
    table = call("slim", copy.recipe, "--runs", copy.runs, "--dry-run").out
    assert "cut ~" in table
