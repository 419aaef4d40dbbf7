"""Advice, the whole frame and the rest that may be asked of an estimate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Node, Tensor, assemble
from mobileseg.latency.price import price
from mobileseg.reading.saved import save_graph
from mobileseg.recipe import read_recipe
from mobileseg.slim.actions import Actions
from mobileseg.slim.steps import apply
from mobileseg.workflow.advise import saves_no_time
from mobileseg.workflow.device import device, transfer_device
from mobileseg.workflow.forms import Forms
from mobileseg.workflow.frame import parse_frame
from mobileseg.workflow.latency import LatencyOptions, latency
from mobileseg.workflow.network import empty_graph
from mobileseg.workflow.plan import plan

RECIPE = "recipes/portrait_ladder.toml"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    options = LatencyOptions(("pixel4",), "float32", advise=True, frame=(480, 640))
    return latency(RECIPE, options, tmp_path_factory.mktemp("runs"))["devices"][0]  # type: ignore[no-any-return]


def test_every_cut_is_the_edited_network_priced_again(asked: dict[str, Any]) -> None:
    spec = plan(read_recipe(RECIPE), Path("none"))[-1].spec
    cuts = asked["advice"]["cuts"]
    assert [cut["saves_ms"] for cut in cuts] == sorted((c["saves_ms"] for c in cuts), reverse=True)
    chosen = next(cut for cut in cuts if cut["cut"] == 'remove = ["conv5_2"]')
    smaller = apply(spec, Actions(remove=("conv5_2",)), "test")
    after = price(empty_graph(smaller, Forms(False)), device("pixel4")).ms
    assert chosen["ms"] == pytest.approx(after)
    assert chosen["saves_ms"] == pytest.approx(asked["ms"] - after)
    assert chosen["saves_macs"] == spec.macs - smaller.macs
    assert any(cut["cut"].startswith("image_size") for cut in cuts)
    assert any(cut["cut"].startswith("width") for cut in cuts)


def test_cuts_that_do_not_fit_say_why(asked: dict[str, Any]) -> None:
    refused = {cut["cut"]: cut["why"] for cut in asked["advice"]["refused"]}
    assert "is of the decoder" in refused['remove = ["deconv1"]']


def test_blocks_add_up_to_the_network(asked: dict[str, Any]) -> None:
    blocks = asked["advice"]["blocks"]
    assert sum(block["ms"] for block in blocks) == pytest.approx(asked["ms"])
    assert blocks[0]["ms"] == max(block["ms"] for block in blocks)


def test_the_frame_adds_its_steps_and_doubt(asked: dict[str, Any]) -> None:
    frame = asked["frame"]
    steps = [row["step"] for row in frame["rows"]]
    assert steps == ["resize in", "bytes to floats", "resize out", "argmax out"]
    assert all(row["basis"] == "assumed" for row in frame["rows"])
    rest = sum(row["ms"] for row in frame["rows"])
    assert frame["ms"] == pytest.approx(asked["ms"] + rest)
    assert frame["high_ms"] / frame["ms"] > asked["high_ms"] / asked["ms"]


def test_coverage_and_band_are_told(asked: dict[str, Any]) -> None:
    assert sum(asked["coverage"].values()) == pytest.approx(1.0)
    assert asked["band_percent"] == 80


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_other_precisions_are_faster(precision: Any, asked: dict[str, Any], tmp_path: Path) -> None:
    found = latency(RECIPE, LatencyOptions(("pixel4",), precision), tmp_path)["devices"][0]
    assert found["ms"] < asked["ms"]


@pytest.mark.parametrize("text", ["480", "480,", "0,640", "480,640,3", "a,b", "-1,5", "9000,640"])
def test_a_frame_is_two_sizes(text: str) -> None:
    assert parse_frame("480,640") == parse_frame("480x640") == (480, 640)
    with pytest.raises(MobilesegError, match="--frame"):
        parse_frame(text)


def test_a_neural_processor_is_refused_with_the_reason() -> None:
    with pytest.raises(MobilesegError, match="rules of its own"):
        device("pixel6-npu")


def test_a_cut_that_keeps_its_promise_is_not_flagged() -> None:
    assert saves_no_time(90.0, 100.0, 9.9, 10.0)
    assert not saves_no_time(90.0, 100.0, 9.0, 10.0)
    assert not saves_no_time(99.0, 100.0, 10.0, 10.0)


def test_a_network_that_ends_in_argmax_has_its_map_resized(tmp_path: Path) -> None:
    path = tmp_path / "classes.graph.safetensors"
    save_graph(_ending_in(ops.ArgMax()), path)
    options = LatencyOptions(("pixel4",), frame=(480, 640))
    frame = latency(str(path), options, tmp_path)["devices"][0]["frame"]
    steps = [(row["step"], row["kernel"]) for row in frame["rows"]]
    assert steps[-1] == ("resize out", "resize_nearest")
    assert frame["low_ms"] > frame["network_low_ms"] > 0


def test_a_frame_of_several_outputs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.graph.safetensors"
    save_graph(_ending_in(ops.Softmax(), outputs=("a", "y")), path)
    with pytest.raises(MobilesegError, match=r"--frame: the network has 2 outputs \(a, y\)"):
        latency(str(path), LatencyOptions(("pixel4",), frame=(480, 640)), tmp_path)


def _ending_in(op: ops.Op, outputs: tuple[str, ...] = ("y",)) -> Graph:
    x = Tensor("x", (1, 3, 20, 28))
    nodes = [Node(ops.Activation("relu"), ("x",), "a", "stem"), Node(op, ("a",), "y", "head")]
    last = Tensor("y", (), "int32" if isinstance(op, ops.ArgMax) else "float32")
    return assemble([x], nodes, outputs, {"y": last})


@pytest.mark.parametrize(
    ("name", "threads", "found"),
    [
        ("pixel4", None, "pixel4"),
        ("pixel4", 4, "pixel4_4threads"),
        ("pixel4_4threads", 1, "pixel4"),
        ("pixel4_4threads", None, "pixel4_4threads"),
        ("rpi4", None, "rpi4"),
        ("rpi4", 1, "rpi4_1thread"),
    ],
)
def test_threads_choose_among_a_devices_profiles(
    name: str, threads: int | None, found: str
) -> None:
    profile = device(name, threads)
    assert profile.name == found
    assert threads in (None, profile.threads)


def test_threads_that_no_profile_is_for_are_an_error_with_those_there_are() -> None:
    with pytest.raises(MobilesegError, match=r"--threads 2: pixel4 .* 1 \(pixel4\), 4 \(pixel4_4"):
        latency(RECIPE, LatencyOptions(("pixel4",), threads=2), Path("none"))


def test_a_chips_name_is_answered_with_its_phones() -> None:
    with pytest.raises(MobilesegError, match=r"is a chip, not a profile; .*pixel4.*sd855"):
        device("Snapdragon 855")
    assert {device("sd888").soc, device("mi11").soc} == {"Snapdragon 888"}


def test_a_transferred_profile_is_nothing_to_transfer_from(tmp_path: Path) -> None:
    first = tmp_path / "first.toml"
    transfer_device("pixel4", "Snapdragon 730G", first)
    with pytest.raises(MobilesegError, match=r"first.toml was itself transferred.*pixel4"):
        transfer_device(str(first), "Snapdragon 855", tmp_path / "second.toml")
    assert not (tmp_path / "second.toml").exists()


def test_a_profile_that_is_not_there_is_named() -> None:
    with pytest.raises(MobilesegError, match=r"nope.toml: cannot be read"):
        device("nope.toml")


def test_a_transferred_profile_can_be_priced(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    transfer_device("pixel4", "Snapdragon 730G", path)
    found = latency(RECIPE, LatencyOptions((str(path),)), tmp_path)["devices"][0]
    assert found["device"] == "mine"
    assert found["coverage"]["fitted"] == 0.0
