"""What a ladder keeps, makes anew and says of its steps when something about it changes."""

from __future__ import annotations

import json

from PIL import Image

from tests.workflow.conftest import Call, Place


def test_other_pictures_are_noticed(copy: Place, call: Call) -> None:
    train = copy.folder / "data" / "train.txt"
    train.write_text("".join(train.read_text().splitlines(keepends=True)[:-1]))
    said = call("slim", copy.recipe, "--runs", copy.runs)
    assert said.code == 1
    assert "made from other data" in said.err


def test_restart_makes_anew_only_what_changed(copy: Place, call: Call) -> None:
    thin = copy.step("thin") / "weights.safetensors"
    skips = copy.step("skips") / "weights.safetensors"
    before = thin.stat().st_mtime_ns, skips.read_bytes()
    (copy.step("skips") / "export" / "stale.tflite").write_bytes(b"")
    copy.recipe.write_text(copy.recipe.read_text().replace("epochs_share = 0.7", "lr = 1e-3"))
    said = call("slim", copy.recipe, "--runs", copy.runs)
    assert said.code == 1
    assert "other recipe" in said.err
    said = call("slim", copy.recipe, "--runs", copy.runs, "--restart")
    assert said.code == 0, said.err
    assert "thin: done before, kept" in said.err
    assert (thin.stat().st_mtime_ns, skips.read_bytes()) != before
    assert thin.stat().st_mtime_ns == before[0]
    assert not (copy.step("skips") / "export" / "stale.tflite").exists()


def test_a_step_may_have_its_own_augmentation(copy: Place, call: Call) -> None:
    last = copy.step("skips") / "weights.safetensors"
    before = last.read_bytes()
    with copy.recipe.open("a") as recipe:
        recipe.write("[step.augment]\nflip = 0.0\nscale = [1, 1]\n")
    said = call("slim", copy.recipe, "--runs", copy.runs, "--restart")
    assert said.code == 0, said.err
    assert "thin: done before, kept" in said.err
    # With the same seed only other pictures make other weights.
    assert last.read_bytes() != before


def test_one_step_leaves_the_others_in_the_report(copy: Place, call: Call) -> None:
    said = call("slim", copy.recipe, "--runs", copy.runs, "--step", "thin")
    assert said.code == 0, said.err
    report = json.loads((copy.runs / "tiny" / "report.json").read_text())
    steps = {step["step"]: step for step in report["steps"]}
    assert set(steps) == {"whole", "thin", "skips"}
    assert "miou_percent" in steps["skips"]


def test_compare_knows_parents(trained: Place, call: Call) -> None:
    rows = call("compare", "tiny", "--runs", trained.runs, "--json").json()["steps"]
    assert [row["parent"] for row in rows] == ["tiny/whole", "tiny/thin"]
    assert rows[1]["change_parent_points"] == rows[1]["change_base_points"]


def test_compare_draws_what_was_measured_too(copy: Place, call: Call) -> None:
    for precision in ("--int8", "--precision=float32"):
        call("latency", "tiny/skips", precision, "--measure", "--runs", copy.runs)
    path = copy.folder / "out" / "ladder.png"
    said = call("compare", "tiny", "--runs", copy.runs, "--plot", path)
    assert said.code == 0, said.err
    assert "measured int8, ms" in said.out and "measured float32, ms" in said.out
    with Image.open(path) as picture:
        # Three panels: by estimated time, by measured, by size.
        assert picture.width > 3.2 * picture.height
    refused = call("compare", "tiny", "--runs", copy.runs, "--plot", "ladder.jpg")
    assert refused.code == 2
    assert "is a .png file" in refused.err


def test_copies_of_steps_do_not_get_in_the_way(copy: Place, call: Call) -> None:
    copy.step("skips").rename(copy.step("old"))
    rows = call("compare", "tiny", "--runs", copy.runs, "--json").json()["steps"]
    assert [row["step"] for row in rows] == ["tiny/thin"]
    said = call("eval", "nothing", "--runs", copy.runs)
    assert "tiny/old" in said.err


def test_a_recipe_to_start_from_works_anywhere(trained: Place, call: Call) -> None:
    text = call("recipes", "cat", trained.recipe).out
    mine = trained.folder / "elsewhere" / "mine.toml"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text(text)
    assert call("recipes", "validate", mine).code == 0
    mine.write_text(text.replace(str(trained.folder / "data"), "gone"))
    assert call("recipes", "validate", mine).code == 1
