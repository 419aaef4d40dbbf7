"""What `export --explain` says of the passes and of memory, on a really trained network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from mobileseg.graph.execute import execute
from mobileseg.graph.memory import lower_bound, plan
from mobileseg.latency.place import Job
from mobileseg.nets.module import Net
from mobileseg.reading.tflite.memory_plan import overlaps, read_memory_plan
from mobileseg.report.memory import explain_tables
from mobileseg.runs import Run
from mobileseg.workflow.explain import Stage, explain, stages
from mobileseg.workflow.forms import FOR_INT8
from mobileseg.workflow.network import as_int8, float_graph, load_net
from tests.workflow.conftest import Call, Place

QUICK = Job(rounds=2, warmup=1, ms=5)


@pytest.fixture(scope="module")
def net(trained: Place) -> Net:
    return load_net(Run(trained.step("skips")))


@pytest.fixture(scope="module")
def found(net: Net) -> list[Stage]:
    return stages(net)


def test_every_stage_computes_the_same(net: Net, found: list[Stage]) -> None:
    x = torch.randn(1, 3, *net.spec.image_size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = net(x)
        for stage in found:
            for graph in (stage.graph, stage.writable):
                error = (execute(graph, x) - expected).abs().max() / expected.abs().max()
                assert float(error) < 1e-5, stage.name


def test_the_last_stage_is_what_is_exported(net: Net, found: list[Stage]) -> None:
    assert str(found[-1].graph) == str(found[-1].writable) == str(float_graph(net))


def test_explained(net: Net) -> None:
    exported = as_int8(float_graph(net))
    told = explain(net, exported, "logits", FOR_INT8, lambda _: None, QUICK)
    rows = {row["pass"]: row for row in told["passes"]}
    first, last = told["passes"][0], told["passes"][-1]
    assert rows["fold_batch_norm"]["nodes"] < rows["fold_pad"]["nodes"]
    assert rows["fuse_activation"]["nodes"] < rows["fold_batch_norm"]["nodes"]
    assert not rows["fold_crelu"]["changed"]
    # What changes nothing is not timed again: the figure is the one before.
    assert rows["fold_crelu"]["host_ms"] == rows["fold_pad"]["host_ms"]
    assert last["live_bytes"]["int8"] == lower_bound(exported)
    assert last["live_bytes"]["float32"] < first["live_bytes"]["float32"]
    assert all(row["host_ms"][key] > 0 for row in told["passes"] for key in ("float32", "int8"))
    memory = told["memory"]
    assert min(memory["plans"].values()) == plan(exported).nbytes
    assert memory["lower_bound_bytes"] <= plan(exported).nbytes < memory["apart_bytes"]
    assert memory["litert_bytes"]["plain_addresses"] >= memory["in_place"]["lower_bound_bytes"]
    passes, arena = explain_tables(told)
    changed = [row for row in told["passes"] if row["changed"]]
    assert passes.row_count == len(changed)
    assert arena.row_count == 7 + len(memory["plans"])


def test_a_planned_file_and_its_picture(trained: Place, call: Call, tmp_path: Path) -> None:
    words = ["export", trained.step("skips"), "--int8", "--memory-plan", "--plot", tmp_path]
    said = call(*words, "--out", tmp_path, "--json")
    assert said.code == 0, said.err
    (written,) = said.json()["files"]
    places = read_memory_plan(Path(written["path"]).read_bytes(), "the file")
    assert places is not None and not overlaps(places)
    assert max(place.end for place in places) < sum(place.nbytes for place in places)
    with Image.open(said.json()["explained"]["picture"]) as picture:
        assert min(picture.size) > 500


def test_a_file_says_nothing_of_memory_unless_asked(trained: Place) -> None:
    path = trained.step("skips") / "export" / "tiny-skips-int8.tflite"
    assert read_memory_plan(path.read_bytes(), "the file") is None


def test_a_plan_is_of_tflite_files(trained: Place, call: Call) -> None:
    said = call("export", trained.step("skips"), "--format", "onnx", "--memory-plan")
    assert said.code == 2 and "--memory-plan" in said.err
