"""Steps of a recipe whose weights compress well, from training to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobileseg.runs import Run
from tests.workflow.conftest import Call, Place

STEPS = """
[[step]]
name = "zeros"
from = "thin"
sparse = { share = 0.75, every = 1, layers = "alike" }
epochs_share = 0.34

[[step]]
name = "few"
cluster = { clusters = 8 }
epochs_share = 0.34
lr = 1e-4
"""


def test_zeros_and_few_values_reach_the_files(copy: Place, call: Call) -> None:
    copy.recipe.write_text(copy.recipe.read_text() + STEPS)
    said = call("slim", copy.recipe, "--runs", copy.runs, "--step", "few", "--json")
    assert said.code in {0, 3}, said.err
    rows = {row["step"]: row for row in said.json()["steps"]}
    for kind in ("float32", "float16", "int8"):
        thin, zeros, few = (rows[name][f"{kind}_gzip_bytes"] for name in ("thin", "zeros", "few"))
        assert thin > zeros > few
    assert all(rows[name]["macs"] == rows["thin"]["macs"] for name in ("zeros", "few"))
    assert all(abs(rows[name]["zero_weights_percent"] - 75) < 1 for name in ("zeros", "few"))
    weights = [Run(copy.step(name)).load_weights() for name in ("zeros", "few")]
    for name in ("conv2_1.pw.weight", "deconv1.deconv.weight"):
        sparse, clustered = (np.asarray(each[name]) for each in weights)
        assert abs((sparse == 0).mean() - 0.75) < 0.01
        assert np.array_equal(sparse == 0, clustered == 0)
        assert len(np.unique(clustered)) <= 8

    words = ("tiny/few", "--runs", copy.runs, "--max-drop", 100, "--json")
    files = []
    for repair in ("none", "equalise,round"):
        said = call("export", *words, "--int8", "--repair", repair)
        assert said.code == 0, said.err
        assert ("repair: equalise, round left out" in said.err) == (repair != "none")
        files.append(Path(said.json()["files"][0]["path"]).read_bytes())
    assert files[0] == files[1]
    auto = call("quantize", *words, "--repair", "auto")
    tried = {repair for trial in auto.json()["trials"] for repair in trial["repair"]}
    assert tried == {"relu6", "bias"} and "left out" not in auto.err
