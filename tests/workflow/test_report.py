"""`mobileseg report` on a real ladder: what it holds, and what it names where something is gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.demo.chromium import browser
from tests.report.reader import missing, problems
from tests.workflow.conftest import Call, Place

IN_A_BROWSER = {
    "sha256": "0" * 64,
    "device": "Pixel 4",
    "browser": "Chrome 130",
    "backend": "wasm",
    "threads": 4,
    "runs": 50,
    "median_ms": 3.21,
    "p90_ms": 4.0,
    "clock_ms": 0.1,
    "file": "tiny-thin-int8.tflite",
    "runtime": "LiteRT.js",
    "time": "2026-01-01T00:00:00+00:00",
}
ALONE = {
    "layer": "conv1.conv",
    "kind": "convolution",
    "sqnr_db": 31.5,
    "drop_points": 0.0,
    "disagreement_percent": 0.1,
}


def test_the_ladder_in_one_file(trained: Place, copy: Place, call: Call) -> None:
    done = call("report", "tiny", "--runs", copy.runs, "--pictures", "4", "--json")
    assert done.code == 0
    said = done.json()
    file = copy.runs / "tiny" / "report.html"
    assert said["report"] == str(file)
    assert said["bytes"] == file.stat().st_size < 1_000_000
    parts = {"ladder": 3, "layers": 3, "files": 3, "training": 2, "pictures": 2}
    assert said["parts"] == parts | {"measured": 0, "sensitivity": 0}
    assert {(each["part"], each["run"]) for each in said["missing"]} == {
        ("ladder", "whole"),
        ("files", "whole"),
        ("training", "whole"),
        ("pictures", "whole"),
        ("int8", "all"),
    }
    text = file.read_text(encoding="utf-8")
    assert "over 6 pictures of the test split" in text
    for words in (
        "Accuracy against estimated time on pixel4",
        "Roofline of skips",
        "whole and skips",
    ):
        assert words in text
    # Both commands, word for word: the one that climbed, and this one.
    assert f"mobileseg slim {trained.recipe} --runs {trained.runs}" in text
    assert f"mobileseg report tiny --runs {copy.runs} --pictures 4 --json" in text
    # Two steps, three pictures each: truth, float, int8 and heat; and a heat map per step.
    assert text.count("data:image/webp") == 2 * (3 * 4 + 1)


@pytest.mark.browser
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_its_readers_can_read_it(trained: Place, tmp_path: Path, call: Call) -> None:
    file = tmp_path / "report.html"
    words = ("--runs", trained.runs, "--pictures", "4", "--out", file)
    assert call("report", "tiny", *words).code == 0
    with browser() as page:
        assert problems(page, file) == []


def test_one_run_and_its_measured_time(copy: Place, call: Call) -> None:
    run = copy.step("thin")
    assert call("latency", run, "--int8", "--measure").code == 0
    (run / "latency" / "browser.json").write_text(json.dumps([IN_A_BROWSER]))
    (run / "quantize").mkdir()
    (run / "quantize" / "report.json").write_text(json.dumps({"sensitivity": [ALONE]}))
    done = call("report", run, "--no-pictures", "--json")
    assert done.code == 0
    said = done.json()
    assert said["report"] == str(run / "report.html")
    assert said["parts"]["measured"] == 2 and said["parts"]["pictures"] == 0
    measured = json.loads((run / "latency" / "int8.json").read_text())["measured"]
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "measured, ms" in text
    longest = max(time for time in measured["operators_ms"] if isinstance(time, float))
    assert f"{longest:.3f}" in text
    assert f"{measured['median_ms']:.2f}" in text and "Accuracy against measured time" in text
    assert "were not asked for" in text
    assert "in Chrome 130 on Pixel 4" in text and "3.21" in text
    assert "SQNR with one layer in int8" in text and "conv1.conv, thin: 31.5" in text


def test_what_is_gone_is_named_and_all_else_is_there(copy: Place, call: Call) -> None:
    thin, skips = copy.step("thin"), copy.step("skips")
    (thin / "train.jsonl").unlink()
    shutil.rmtree(thin / "export")
    (skips / "train.jsonl").write_text("{broken\n")
    recipe = json.loads((skips / "recipe.json").read_text())
    recipe["train"]["of_another_version"] = 1
    (skips / "recipe.json").write_text(json.dumps(recipe))
    done = call("report", "tiny", "--runs", copy.runs, "--json")
    assert done.code == 0, done.err
    missing = {(each["part"], each["run"]): each["why"] for each in done.json()["missing"]}
    assert "of_another_version" in missing["ladder", "skips"]
    assert "train.jsonl" in missing["training", "thin"]
    assert "no readable log" in missing["training", "skips"]
    assert "mobileseg export" in missing["files", "thin"]
    assert "no int8 .tflite file" in missing["pictures", "thin"]
    assert "of_another_version" in missing["pictures", "skips"]
    # What was counted when the step was made still stands.
    assert done.json()["parts"]["ladder"] == 3
    # Without a file the float net's worst are still shown: truth and float of three.
    assert done.json()["parts"]["pictures"] == 1
    text = (copy.runs / "tiny" / "report.html").read_text(encoding="utf-8")
    assert "of_another_version" in text and "no readable log" in text
    assert text.count("data:image/webp") == 6


def test_pictures_that_are_gone_are_named(copy: Place, call: Call) -> None:
    done = call("report", copy.step("thin"), "--data", copy.folder / "gone", "--json")
    assert done.code == 0
    (why,) = [each["why"] for each in done.json()["missing"] if each["part"] == "pictures"]
    assert str(copy.folder / "gone") in why


def test_runs_of_one_name_in_two_places(copy: Place, call: Call) -> None:
    other = copy.folder / "other" / "tiny" / "thin"
    shutil.copytree(copy.step("thin"), other)
    report = json.loads((other / "report.json").read_text())
    (other / "report.json").write_text(json.dumps(report | {"miou_percent": 12.34}))
    out = copy.folder / "both.html"
    done = call("report", copy.step("thin"), other, "--no-pictures", "--out", out)
    assert done.code == 0, done.err
    text = out.read_text(encoding="utf-8")
    assert str(other) in text and "12.34" in text and f"{report['miou_percent']:.2f}" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tiny", "--out", "{runs}"], "is a folder"),
        (["{runs}/tiny/thin", "{runs}/other/thin"], "several ladders"),
        (["nothing"], "is no run"),
    ],
)
def test_what_cannot_be_written_is_refused(
    copy: Place, call: Call, words: list[str], said: str
) -> None:
    shutil.copytree(copy.runs / "tiny", copy.runs / "other")
    done = call("report", *(word.format(runs=copy.runs) for word in words), "--runs", copy.runs)
    assert done.code == 1 and said in done.err
    assert not list(copy.runs.rglob("*.html"))
