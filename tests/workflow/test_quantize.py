"""The verdict on int8: judged, written down, and failed where it must be."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from mobileseg.quantize.config import RangeBy, Repair
from tests.workflow.conftest import Call, Place


def test_quantize_judges(copy: Place, call: Call) -> None:
    said = call("quantize", "tiny/skips", "--runs", copy.runs, "--max-drop", 50, "--json")
    assert said.code == 0, said.err
    verdict = said.json()["verdict"]
    drop = verdict["float"]["miou_percent"] - verdict["int8"]["miou_percent"]
    assert verdict["drop_points"] == pytest.approx(drop)
    assert set(verdict["int8"]["iou_percent"]) == {"background", "person"}
    assert verdict["split"] == "val" and verdict["int8"]["images"] == 2
    assert 50 < verdict["agreement_percent"] <= 100
    losses = [row["float_miou_percent"] - row["int8_miou_percent"] for row in verdict["worst"]]
    assert losses == sorted(losses, reverse=True)
    assert not verdict["blamed"]
    path = copy.step("skips") / "quantize" / "report.json"
    assert json.loads(path.read_text()) == said.json()


def test_a_drop_that_is_too_large_names_layers(copy: Place, call: Call) -> None:
    said = call("quantize", "tiny/skips", "--runs", copy.runs, "--max-drop", -90)
    assert said.code == 3
    assert "FAILED" in said.err and "most of it in " in said.err
    report = json.loads((copy.step("skips") / "quantize" / "report.json").read_text())
    blamed = report["verdict"]["blamed"]
    assert len(blamed) == 3 and all(layer in said.err for layer in blamed)


def test_export_judges_int8(copy: Place, call: Call) -> None:
    words = ["export", "tiny/skips", "--int8", "--runs", copy.runs]
    said = call(*words, "--max-drop", -90)
    assert said.code == 3
    assert "Pictures that lose most" in said.out and "most of it in " in said.err
    said = call(*words, "--format", "both", "--max-drop", 50, "--json")
    exported, of_onnx = said.json()["verdicts"]
    words = ["quantize", "tiny/skips", "--runs", copy.runs, "--max-drop", 50, "--json"]
    assert call(*words).json()["verdict"] == exported
    assert of_onnx["int8"]["images"] == 2 and abs(of_onnx["drop_points"]) < 50
    assert said.json()["files_agreement"] > 0.99
    assert "tiny-skips-int8.onnx: passed: int8" in said.err


def test_float_files_have_no_verdict(copy: Place, call: Call) -> None:
    said = call("export", "tiny/skips", "--runs", copy.runs, "--json")
    assert said.json()["verdicts"] == []
    assert call("export", "tiny/skips", "--runs", copy.runs, "--max-drop", 1).code == 2


def test_eval_takes_the_repaired_graph_of_the_export(copy: Place, call: Call) -> None:
    words = ["tiny/skips", "--runs", copy.runs, "--json"]
    said = call("export", *words, "--int8", "--repair", "relu6,equalise,bias")
    assert said.code == 0, said.err
    (file,) = said.json()["files"]
    assert not file["check"]["problems"]
    name = "tiny-skips-int8-relu6+equalise+bias.tflite"
    assert Path(file["path"]).name == name
    said = call("eval", *words, "--file", file["path"])
    rows = {row["executor"]: row["scores"] for row in said.json()["executors"]}
    assert rows["int8 graph"] == rows[name]
    rows = {row["executor"]: row["scores"] for row in call("eval", *words).json()["executors"]}
    assert rows["int8 graph"] == rows["tiny-skips-int8.tflite"] != rows[name]


def test_a_repair_that_there_is_not(trained: Place, call: Call) -> None:
    said = call("quantize", "tiny/skips", "--runs", trained.runs, "--repair", "equalize")
    assert said.code == 1
    assert "quantize: repair[1]" in said.err and "'equalise'" in said.err


def test_layers_kept_in_float(copy: Place, call: Call, tmp_path: Path) -> None:
    """The mixed graph runs in both runtimes as in ours, and says what it costs."""
    words = ["tiny/skips", "--runs", copy.runs, "--json", "--keep-float", "deconv1*,conv2_1.dw"]
    said = call("export", *words, "--int8", "--format", "both", "--repair", "bias")
    assert said.code == 0, said.err
    for file in said.json()["files"]:
        assert not file["check"]["problems"]
        assert file["check"]["kept_float"] > 1 and file["check"]["float_operators"]
    said = call("quantize", *words, "--sensitivity", "--plot", tmp_path)
    assert said.code == 0, said.err
    done = said.json()
    assert {cost["where"] for cost in done["costs"]} == {"pixel4", "pixel1", "measured here"}
    assert all(cost["mixed_ms"] > 0 for cost in done["costs"])
    rows = done["sensitivity"]
    assert len({row["layer"] for row in rows}) == len(rows) > 10
    assert all(10 < row["sqnr_db"] < 100 for row in rows)
    with Image.open(tmp_path / "tiny-skips-sensitivity.png") as picture:
        assert picture.width > 500
    said = call("export", "tiny/skips", "--runs", copy.runs, "--int8", "--keep-float", "conv99")
    assert said.code == 1 and "no layer is named 'conv99'" in said.err


def test_auto_chooses_by_trial(copy: Place, call: Call) -> None:
    words = ["quantize", "tiny/skips", "--runs", copy.runs, "--json"]
    done = call(*words, "--repair", "auto", "--keep-float", "auto").json()
    trials = done["trials"]
    assert {trial["ranges"] for trial in trials} == set(get_args(RangeBy))
    for repair in get_args(Repair):
        assert [repair] in [trial["repair"] for trial in trials]
    assert [list(get_args(Repair))] == [t["repair"] for t in trials if len(t["repair"]) > 3][:1]
    taken = done["quantize"]
    singles = [trial["repair"] for trial in trials if len(trial["repair"]) == 1]
    assert len(singles) == len(get_args(Repair))
    (row,) = [t for t in trials if all(t[key] == taken[key] for key in ("ranges", "repair"))]
    assert row["agreement_percent"] >= max(t["agreement_percent"] for t in trials) - 0.02
    assert taken["keep_float"] == []


def test_what_comes_next_exports_what_was_judged(copy: Place, call: Call) -> None:
    words = ["--images", 5, "--max-drop", 40, "--repair", "none", "--data", copy.folder / "data"]
    folder = copy.step("skips")
    said = call("quantize", folder, *words)
    assert said.code == 0, said.err
    line = said.err.splitlines()[-1]
    assert line == (
        f"next: mobileseg export {folder} --int8 --ranges mean --max-drop 40.0 --images 5 "
        f"--repair none --data {copy.folder / 'data'}"
    )
    said = call(*shlex.split(line)[2:])
    assert said.code == 0, said.err
    said = call("quantize", "tiny/skips", "--runs", copy.runs, "--keep-float", "sum*")
    assert f"export tiny/skips --runs {copy.runs} --int8" in said.err.splitlines()[-1]


def test_mends_that_were_tried_are_not_proposed(copy: Place, call: Call) -> None:
    words = ["tiny/skips", "--runs", copy.runs, "--max-drop", -90]
    said = call("quantize", *words)
    assert "a gain of 90 is asked" in said.err and said.err.strip().endswith("--repair auto")
    said = call("export", *words, "--int8", "--repair", "auto")
    assert said.err.strip().endswith("--repair auto --keep-float auto")


def test_int16_activations(copy: Place, call: Call) -> None:
    """16x8 in LiteRT's plain kernels: judged, checked, timed; what has no such kernel is named."""
    words = ["tiny/skips", "--runs", copy.runs, "--activations", "int16", "--json"]
    said = call("export", *words, "--int8", "--repair", "bias")
    assert said.code == 0, said.err
    (file,) = said.json()["files"]
    assert Path(file["path"]).name == "tiny-skips-int8-int16-bias.tflite"
    assert not file["check"]["problems"]
    assert file["check"]["partitions"] == 0 and not file["check"]["kinds"].get("DEPTH_TO_SPACE")
    rows = {
        row["executor"]: row["scores"]
        for row in call("eval", *words[:3], "--file", file["path"], "--json").json()["executors"]
    }
    said = call("export", *words, "--int8", "--output", "softmax")
    assert said.code == 0 and said.json()["files"][0]["check"]["max_steps"] <= 64
    fine, of_file = (rows[name]["miou_percent"] for name in ("int8 graph", Path(file["path"]).name))
    assert fine == pytest.approx(of_file, abs=0.05)
    done = call("quantize", *words, "--max-drop", 50).json()
    assert [cost["where"] for cost in done["costs"]] == ["measured here"]
    assert done["verdict"]["agreement_percent"] > 99
    for more, named in (
        (["--rewrite", "deconv_to_conv"], "no int16 kernel for DepthToSpace"),
        (["--format", "both"], "is of TFLite files only; leave out --format"),
        (["--output", "argmax"], "leave out --output argmax"),
    ):
        said = call("export", *words, "--int8", *more)
        assert said.code == 1 and named in said.err
