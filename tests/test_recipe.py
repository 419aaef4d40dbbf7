"""Recipes, good and bad: every mistake is one clear error with its place; nothing is written."""

from __future__ import annotations

import copy
import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileseg.errors import MobilesegError
from mobileseg.recipe import read_recipe, read_recipe_data, shipped_recipes
from mobileseg.workflow.forms import FOR_FLOAT
from mobileseg.workflow.plan import plan
from mobileseg.workflow.structure import spec_graph

GOOD: dict[str, Any] = {
    "name": "faces",
    "net": "mobilenet_deconv",
    "image_size": [96, 64],
    "data": {"root": "pictures", "test": "test.txt"},
    "train": {"epochs": 3, "loss": {"dice": 1.0}},
    "step": [
        {"name": "base"},
        {"name": "thin", "width": {"conv5_*": 0.5}},
        {"name": "low", "from": "base", "image_size": [64, 32]},
    ],
}


def bad(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(GOOD) | changes


def error(table: object) -> str:
    with pytest.raises(MobilesegError) as caught:
        read_recipe_data(table, "faces.toml")
    return str(caught.value)


def test_good_recipe_reads_and_writes_back() -> None:
    recipe = read_recipe_data(GOOD, "faces.toml")
    assert recipe.parent(recipe["thin"]) == recipe["base"]
    assert recipe.parent(recipe["low"]) == recipe["base"]
    assert read_recipe_data(json.loads(json.dumps(recipe.as_dict())), "again") == recipe


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_shipped_recipes_plan(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(name)
    assert [rung.step.name for rung in plan(recipe, tmp_path)] == [s.name for s in recipe.step]
    assert not list(tmp_path.iterdir())


SHARE = {"to": {"macs_share": 0.5}}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (bad(clases=3), ["faces.toml: clases:", "no such key"]),
        (bad(train={"epoch": 3}), ["train.epoch:", "did you mean 'epochs'"]),
        (bad(train={"epochs": "3"}), ["train.epochs:", '"3"']),
        (bad(train={"epochs": -3}), ["train.epochs:", "-3"]),
        (bad(train={"lr": float("nan")}), ["train.lr:"]),
        (bad(image_size=[96]), ["image_size"]),
        (bad(image_size=[0, 64]), ["image_size[1]:", "0"]),
        (bad(data={"classes": ["one"]}), ["data.classes:"]),
        (bad(step=[]), ["step:"]),
        (bad(step=[{"name": "../up"}]), ["step[1].name:", "'../up'"]),
        (bad(name="/etc/passwd"), ["name:", "'/etc/passwd'"]),
        (bad(name=".."), ["name:", "'..'"]),
        (bad(step=[{"name": "a"}, {"name": "a"}]), ["step[2].name:", "taken by step[1]"]),
        (bad(step=[{"name": "a", "from": "a"}]), ["step[1].from:", "no step above"]),
        (
            bad(step=[{"name": "a", "from": "b"}, {"name": "b", "from": "a"}]),
            ["step[1].from:", "'b'"],
        ),
        (bad(step=[{"name": "a", "parent": "b"}]), ["step[1]", "no such key"]),
        (bad(step=[{"name": "a", "widht": {}}]), ["step[1].widht:", "did you mean 'width'"]),
        (bad(step=[{"name": "a", "prune": SHARE}]), ["step[1].prune:", "train the network"]),
        (
            bad(step=[{"name": "a"}, {"name": "b", "prune": SHARE, "remove": ["x"]}]),
            ["step[2].prune:", "remove", "a step of their own"],
        ),
        (bad(step=[{"name": "a", "prune": {"to": {}}}]), ["step[1].prune.to:", "not 0"]),
        (["no", "table"], ["faces.toml"]),
    ],
)
def test_mistakes_name_their_place(table: object, words: list[str]) -> None:
    said = error(table)
    for word in words:
        assert word in said


def test_a_pruning_in_rounds_is_steps() -> None:
    cut = {"name": "cut", "prune": SHARE | {"rounds": 3}, "epochs_share": 0.6}
    recipe = read_recipe_data(bad(step=[{"name": "a"}, cut]), "faces.toml")
    assert [(s.name, s.parent) for s in recipe.step] == [
        ("a", None),
        ("cut-1", None),
        ("cut-2", "cut-1"),
        ("cut", "cut-2"),
    ]
    left = []
    for step in recipe.step[1:]:
        assert step.prune is not None and step.prune.to is not None
        assert step.prune.to.of == "a"
        left.append(step.prune.to.most(1000.0))
        assert step.epochs_share == pytest.approx(0.2)
    assert left == pytest.approx([1000 * 0.5 ** (number / 3) for number in (1, 2, 3)])
    assert read_recipe_data(recipe.as_dict(), "again") == recipe


def test_all_mistakes_at_once() -> None:
    said = error(bad(clases=3, train={"epochs": -1, "lr": "fast"}))
    assert len(said.splitlines()) == 3


def one_step(**changes: Any) -> dict[str, Any]:
    return bad(step=[{"name": "base"}, {"name": "cut", **changes}])


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (
            one_step(deconv=[0]),
            "step[2].deconv[1]: 0: input should be greater than 0 or 'classes'",
        ),
        (
            one_step(deconv=[10**9]),
            "step[2].deconv[1]: 1000000000: input should be less than or equal to 16384 "
            "or 'classes'",
        ),
        (
            one_step(width={"int": "x"}),
            'step[2].width.int: "x": input should be a valid integer or a valid number',
        ),
        (
            one_step(image_size="big"),
            'step[2].image_size: "big": input should be a valid array',
        ),
        (
            one_step(multiple_of=10**7),
            "step[2].multiple_of: 10000000: input should be less than or equal to 1024",
        ),
        (
            bad(seed=10**23),
            "seed: a number beyond 9223372036854775807; take a smaller one",
        ),
        (bad(train={"lr": float("inf")}), "train.lr: Infinity: input should be a finite number"),
        (
            bad(train={"class_weights": [1.0, 0.0]}),
            "train.class_weights[2]: 0.0: input should be greater than 0",
        ),
        (
            bad(name=datetime.date(2020, 1, 1)),
            "name: 2020-01-01: a date is no value here; write text in quotes",
        ),
        (
            bad(data={"root": datetime.time(7, 32)}),
            "data.root: 07:32:00: a time is no value here; write text in quotes",
        ),
        (
            bad(weights=datetime.datetime(2020, 1, 1, 7, 32)),
            "weights: 2020-01-01 07:32:00: a date is no value here; write text in quotes",
        ),
        (
            bad(data={"classes": ["a", "a"]}),
            "data: classes: a name occurs twice in ['a', 'a']",
        ),
    ],
)
def test_a_mistake_is_one_line(table: object, line: str) -> None:
    assert error(table) == f"faces.toml: {line}"


def test_missing_keys_are_named() -> None:
    said = error({"name": "faces"})
    for key in ("net", "image_size", "data", "step"):
        assert f"{key}: this key is needed" in said


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = st.sampled_from([*GOOD, "augment", "quantize", "weights", "seed", "devices", "stepp"])


@given(changes=st.dictionaries(KEYS, JSON, min_size=1, max_size=3))
def test_any_value_reads_or_is_one_error(changes: dict[str, Any]) -> None:
    try:
        recipe = read_recipe_data(bad(**changes), "faces.toml")
    except MobilesegError as caught:
        assert all(line.startswith("faces.toml: ") for line in str(caught).splitlines())
    else:
        assert recipe.step


STEP_KEYS = st.sampled_from(
    [
        "image_size",
        "remove",
        "width",
        "multiple_of",
        "deconv",
        "crelu",
        "skip",
        "depthwise",
        "epochs_share",
        "from",
    ]
)


# Values of the right type, so that steps get as far as a network; most too large or too small.
WHOLE = st.sampled_from([0, 1, 3, 8, 21, 64, 1000, 16384, 16385, 10**9])
FACTORS = st.floats(0, 5) | WHOLE
BLOCK = st.sampled_from(["conv5_*", "conv5_1", "conv1", "*", "deconv1", "nothing"])
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "image_size": st.tuples(WHOLE, WHOLE),
        "remove": st.lists(BLOCK, max_size=2),
        "width": st.dictionaries(BLOCK, FACTORS, max_size=2),
        "multiple_of": WHOLE,
        "depthwise": st.dictionaries(BLOCK, WHOLE, max_size=1),
        "deconv": st.lists(WHOLE | st.just("classes"), max_size=5),
        "crelu": st.lists(BLOCK, max_size=1),
    },
)


@settings(max_examples=150)
@given(changes=st.dictionaries(STEP_KEYS, JSON, min_size=1, max_size=3) | CHANGES)
def test_any_step_plans_or_is_one_error(changes: dict[str, Any]) -> None:
    try:
        rungs = plan(read_recipe_data(one_step(**changes), "faces.toml"), Path("nowhere"))
    except MobilesegError as caught:
        assert str(caught)
    else:
        spec = rungs[-1].spec
        assert 0 < spec.params <= 250_000_000
        assert spec.macs > 0
        if spec.params < 4_000_000:
            graph = spec_graph(spec, FOR_FLOAT)
            assert graph.tensors[graph.inputs[0]].shape[2:] == spec.image_size
    assert not Path("nowhere").exists()


def test_networks_that_no_phone_holds_are_one_error() -> None:
    for changes in ({"deconv": [16384, 16384]}, {"width": {"*": 16384}}):
        with pytest.raises(MobilesegError, match=r"step 'cut': .* parameters, more than"):
            plan(read_recipe_data(one_step(**changes), "faces.toml"), Path("nowhere"))


def test_file_errors_are_clear(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("name = [")
    with pytest.raises(MobilesegError, match=r"broken\.toml: is no TOML"):
        read_recipe(str(broken))
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MobilesegError, match="is no TOML"):
        read_recipe(str(broken))
    with pytest.raises(MobilesegError, match=r"there is no such file.*portrait"):
        read_recipe("portrai")


def test_overrides_and_data_root(tmp_path: Path) -> None:
    recipe = read_recipe("portrait", ["train.epochs=2", "train.loss.dice=0.5"], tmp_path)
    assert recipe.train.epochs == 2
    assert recipe.train.loss.dice == 0.5
    assert recipe.data.root == tmp_path.resolve()
    assert read_recipe("portrait").data.root.is_dir()
    for wrong in ("train.epochs", "=3", "name.x=3"):
        with pytest.raises(MobilesegError, match="--set"):
            read_recipe("portrait", [wrong])
