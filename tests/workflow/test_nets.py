"""`mobileseg nets`, and networks described by a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.nets import zoo
from mobileseg.recipe import read_recipe
from mobileseg.workflow import nets
from mobileseg.workflow.plan import plan
from tests.workflow.conftest import Call

MINE = """
name = "mine"
image_size = [32, 48]
classes = 3

[[blocks]]
kind = "conv"
name = "stem"
inputs = ["image"]
channels = 8
stride = 2

[[blocks]]
kind = "conv"
name = "head"
inputs = ["stem"]
channels = "classes"
kernel = 1
norm = false
activation = "none"

[[blocks]]
kind = "upsample"
name = "wide"
inputs = ["head", "image"]
"""


def test_the_list(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "ZOO", {name: zoo.ZOO[name] for name in ("portrait_lite",)})
    (row,) = call("nets", "--device", "sd855", "--json").json()
    assert (row["name"], row["recipe"], row["device"]) == ("portrait_lite",) * 2 + ("sd855",)
    assert row["params"] == zoo.zoo_net("portrait_lite", (192, 192), 2, "x").params
    assert row["low_ms"] < row["ms"] < row["high_ms"]
    assert row["int8_bytes"] > row["params"]


def test_a_tree_and_a_picture(call: Call, tmp_path: Path) -> None:
    svg = tmp_path / "net.svg"
    done = call("nets", "show", "fast_scnn", "--size", "192,256", "--svg", svg, "--json").json()
    assert done["heads"] == ["aux_classifier"]
    names = [entry.get("group", entry.get("block")) for entry in done["tree"]]
    assert names[:3] == ["down1", "down2", "down3"]
    assert "block1" in names
    assert svg.read_text(encoding="utf-8").startswith("<svg")
    assert "block1_*" in call("nets", "show", "fast_scnn").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nets", "show", "fast_scn"], "did you mean 'fast_scnn'"),
        (["nets", "show", "unet", "--svg", "unet.png"], "ends in .svg"),
        (["nets", "show", "nothing.toml"], "cannot be read"),
    ],
)
def test_mistakes(words: list[str], message: str, call: Call) -> None:
    done = call(*words)
    assert done.code == 1
    assert message in done.err


def test_a_network_of_ones_own(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    shown = call("nets", "show", tmp_path / "mine.toml", "--json").json()
    assert (shown["image_size"], shown["classes"]) == ([32, 48], 3)
    text = call("recipes", "cat", "portrait_lite").out
    text = text.replace('net = "portrait_lite"', 'net = "mine.toml"')
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    (rung,) = plan(read_recipe(str(tmp_path / "recipe.toml")), tmp_path)
    assert (rung.spec.name, rung.spec.image_size, rung.spec.classes) == ("mine", (192, 192), 2)
    assert rung.spec.shapes()["wide"] == (2, 192, 192)
    (tmp_path / "mine.toml").write_text(MINE.replace('"conv"', '"cnov"'), encoding="utf-8")
    with pytest.raises(
        MobilesegError, match=r"mine\.toml: blocks\[1\]: no kind of block"
    ) as caught:
        plan(read_recipe(str(tmp_path / "recipe.toml")), tmp_path)
    # Every mistake at once.
    assert "blocks[2]: no kind of block" in str(caught.value)
    (tmp_path / "mine.toml").write_text(MINE.replace('"classes"', "5"), encoding="utf-8")
    with pytest.raises(MobilesegError, match="gives 5 channels, and there are 2 classes"):
        plan(read_recipe(str(tmp_path / "recipe.toml")), tmp_path)
    taken = call("latency", tmp_path / "mine.toml")
    assert taken.code == 1
    assert "describes a network, and no recipe" in taken.err
