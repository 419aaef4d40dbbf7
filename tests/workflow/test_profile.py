"""`mobileseg profile --train`."""

from __future__ import annotations

import pytest

from mobileseg.nets.zoo import zoo_net
from mobileseg.workflow.memory import _sides
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
        for key in ("sides", "parts"):
            assert sum(each[word] for each in found[key]) == way["kept_bytes"]
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


ENDS = {
    "mobilenet_deconv": ("conv6", "deconv1"),
    "lraspp_mobilenet_v3_small": ("conv_last", "head"),
    "deeplabv3plus_xception65": ("aspp", "decoder_low"),
    "fast_scnn": ("context", "fuse_wide"),
    "hrnet_w18_small": ("stage4_1_to4", "head_wide2"),
    "unet": ("down5_conv2", "up1_wide"),
    "segnet": ("down5_pool", "up5_unpool"),
    "icnet": ("low", "fuse1_wide"),
    "portrait": ("context_gated", "up1_point"),
    "portrait_squeeze": ("deep", "unsure"),
    # It has no decoder but what makes its output wide.
    "pspnet": ("classifier", "upsample"),
}


@pytest.mark.parametrize("name", ENDS)
def test_where_the_encoder_ends(name: str) -> None:
    sides = _sides(zoo_net(name, (192, 256), 3, "test"))
    encoder = [block for block, side in sides.items() if side == "encoder"]
    decoder = [block for block, side in sides.items() if side == "decoder"]
    assert (encoder[-1], decoder[0]) == ENDS[name]
    assert all("aux" in block for block in sides.keys() - {*encoder, *decoder})


def test_shares_of_encoder_and_decoder(call: Call) -> None:
    words = ("--train", "--batch", 1, "--image", "192,256")
    said = call("profile", "fast_scnn", *words, "--json").json()
    assert {row["side"] for row in said["sides"]} == {"encoder", "decoder", "auxiliary heads"}
    shown = call("profile", "fast_scnn", *words).out
    rows = [line.split("│")[1].rstrip() for line in shown.splitlines() if line.startswith("│")]
    assert rows[rows.index(" encoder") + 1] == "   down"


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
