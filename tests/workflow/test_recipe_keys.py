"""The reference of a recipe's keys: whole, and the one that is in the repository."""

from __future__ import annotations

import json
import tomllib

from mobileseg.files import shipped
from mobileseg.recipe import read_recipe_data
from mobileseg.report.recipe_keys import ABSENT, NEEDED, sections
from mobileseg.report.recipe_page import keys_page
from tests.workflow.conftest import Call


def test_the_page_is_what_the_dataclasses_say() -> None:
    page = shipped("recipes", "README.md").read_text(encoding="utf-8")
    assert page == keys_page(sections()), (
        "run mobileseg recipes keys --markdown > recipes/README.md"
    )


def test_what_one_key_says() -> None:
    (share, _, pattern, *_) = sections("step.sparse")[0].keys
    assert (share.name, share.values, share.default) == ("share", "number > 0, < 1", ABSENT)
    assert share.says.startswith("of the weights that are zero in the end")
    assert "`" not in pattern.default and pattern.default == '"free"'
    step = {key.name: key for key in sections("step")[0].keys}
    assert step["name"].default == NEEDED
    assert step["crelu"].says == "separable blocks that become CReLU blocks."  # a base class's word
    assert "from" in step and "parent" not in step


def test_the_defaults_are_values_that_a_recipe_takes() -> None:
    recipe = {
        "name": "keys",
        "net": "portrait_lite",
        "image_size": [96, 96],
        "data": {},
        "step": [{"name": "base"}],
    }
    for section in sections():
        if section.place.startswith("[[") or section.place.count(".") or not section.place:
            continue
        table = recipe.setdefault(section.place.strip("[]"), {})
        assert isinstance(table, dict)
        for key in section.keys:
            if key.default not in (NEEDED, ABSENT):
                table[key.name] = tomllib.loads(f"it = {key.default}")["it"]
    assert read_recipe_data(recipe, "test").train.epochs == 30


def test_the_verb(call: Call) -> None:
    assert "chance of a mirror image" in call("recipes", "keys", "augment").out
    assert json.loads(call("recipes", "keys", "qat", "--json").out)[0]["place"] == "[qat]"
    wrong = call("recipes", "keys", "augmant")
    assert wrong.code == 1 and "did you mean 'augment'" in wrong.err
