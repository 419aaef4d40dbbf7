"""`mobileseg qat` and `[qat]`: trained, kept, judged, and used by the other verbs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mobileseg.runs import Run
from tests.workflow.conftest import SAMPLE, Call, Place
from tests.workflow.test_resume import wait_for

QUICK = ("--set", "qat.epochs=1", "--set", "qat.max_drop=100")


def test_a_run_is_trained_on_and_the_result_is_used(copy: Place, call: Call) -> None:
    runs = ("--runs", copy.runs)
    done = call("qat", "tiny/skips", *QUICK, *runs, "--json").json()
    assert done["epochs"] == 1 and done["trained"]["float"] == done["post_training"]["float"]
    check = done["file"]["check"]
    assert check["max_steps"] <= 1 and check["float_operators"] == {}

    said = call("export", "tiny/skips", "--int8", "--max-drop", "100", *runs)
    assert said.code == 0 and "int8 as trained" in said.err
    plain = call("export", "tiny/skips", "--int8", "--max-drop", "100", "--no-qat", *runs)
    assert plain.code == 0 and "int8 as trained" not in plain.err
    files = (
        (copy.step("skips") / f"export/tiny-skips{word}-int8.tflite").read_bytes()
        for word in ("-qat", "")
    )
    assert len(set(files)) == 2

    rows = call("eval", "tiny/skips", *runs, "--json").json()["executors"]
    miou = {row["executor"]: row["scores"]["miou_percent"] for row in rows}
    assert miou["qat graph"] == miou["tiny-skips-qat-int8.tflite"]
    assert miou["qat graph"] == done["trained"]["int8"]["miou_percent"]

    priced = call("latency", "tiny/skips", "--int8", *runs, "--json").json()
    assert "int8 as trained" in priced["notes"][0]
    assert len(priced["devices"][0]["rows"]) == check["operators"]
    other = call("latency", "tiny/skips", "--int8", "--no-qat", *runs, "--json").json()
    assert other["notes"] == []

    photo = next((SAMPLE / "images").iterdir())
    assert "int8 as trained" in call("predict", "tiny/skips", photo, *runs).err
    assert "int8 as trained" not in call("predict", "tiny/skips", photo, "--no-qat", *runs).err


def test_what_is_done_is_kept_until_it_is_made_of_something_else(copy: Place, call: Call) -> None:
    runs = ("--runs", copy.runs)
    first = call("qat", "tiny/thin", *QUICK, *runs, "--json")
    kept = call("qat", "tiny/thin", *QUICK, *runs, "--json")
    assert kept.json() == first.json() and "kept" in kept.err
    failed = call("qat", "tiny/thin", *QUICK, "--set", "qat.max_drop=-99", *runs)
    assert failed.code == 3 and "kept" in failed.err and "-99 are allowed" in failed.err
    other = call("qat", "tiny/thin", *QUICK, "--set", "qat.lr=0.01", *runs)
    assert other.code == 1 and "was made with other qat; use --restart" in other.err
    odd = ("--rewrite", "none", "--images", 4)
    refused = call("export", "tiny/thin", "--int8", *odd, *runs)
    assert refused.code == 1 and "--images, --rewrite would change" in refused.err
    anew = call("qat", "tiny/thin", *QUICK, "--set", "qat.lr=0.01", "--restart", *runs, "--json")
    assert anew.code == 0 and anew.json()["trained"] != first.json()["trained"]

    run = Run(copy.step("thin"))
    weights = run.load_weights()
    run.save_weights({name: 1.001 * value for name, value in weights.items()})
    stale = call("export", "tiny/thin", "--int8", *runs)
    assert stale.code == 1 and "trained from other weights" in stale.err


def test_slim_trains_every_step_where_the_recipe_says_so(copy: Place, call: Call) -> None:
    said = call("slim", copy.recipe, *QUICK, "--runs", copy.runs, "--json")
    done = said.json()
    assert "thin: done before, kept" in said.err
    trained = {step["step"]: step.get("miou_qat_percent") for step in done["steps"]}
    assert trained["whole"] is None and trained["thin"] > 0 and trained["skips"] > 0
    assert Path(done["exported"][0]["path"]).name == "tiny-skips-qat-int8.tflite"
    rows = call("compare", "tiny", "--runs", copy.runs, "--json").json()["steps"]
    assert [row["miou_qat_percent"] for row in rows] == [trained["thin"], trained["skips"]]


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["learned", "moving_average"])
def test_killed_and_resumed_is_the_same_to_the_bit(ranges: str, copy: Place, call: Call) -> None:
    words = ["qat", "tiny/thin", "--runs", str(copy.runs), "--set", f"qat.ranges={ranges}"]
    # Checkpoints after every step, so that the kill lands between two of them.
    words += ["--set", "train.checkpoint_seconds=0", "--set", "qat.max_drop=100"]
    run = Run(copy.step("thin"))
    command = [sys.executable, "-m", "mobileseg.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for(run.qat.folder / "train.jsonl", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not run.qat.ranges_path.exists()
    assert call(*words).code == 0
    resumed = [path.read_bytes() for path in (run.qat.graph_path, run.qat.ranges_path)]
    assert call(*words, "--set", "qat.distill=0.5", "--restart").code == 0
    other = run.qat.graph_path.read_bytes()
    assert call(*words, "--restart").code == 0
    whole = [path.read_bytes() for path in (run.qat.graph_path, run.qat.ranges_path)]
    assert resumed == whole and other != whole[0]
