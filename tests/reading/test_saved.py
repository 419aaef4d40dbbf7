"""Saved graphs come back as they were, with their constants or with zeros."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import FOR_TFLITE, run_passes
from mobileseg.quantize.convert import quantize
from mobileseg.reading.saved import load_graph, save_graph
from tests.op_cases import CASES, Case
from tests.reading.foreign import assert_equal

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def int8(case: Case) -> Graph:
    graph = run_passes(case.graph(), FOR_TFLITE)
    return quantize(graph, dict.fromkeys(graph.tensors, (-1.0, 1.0)))


@all_cases
def test_round_trip(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    for graph in (case.graph(), int8(case)):
        save_graph(graph, path)
        found = load_graph(path)
        assert_equal(graph, found)
        assert [n.layer for n in found.nodes] == [n.layer for n in graph.nodes]


@all_cases
def test_without_constants(case: Case, tmp_path: Path) -> None:
    path, graph = tmp_path / "graph.safetensors", int8(case)
    save_graph(graph, path, constants=False)
    found = load_graph(path)
    assert str(found) == str(graph)
    assert found.total_macs == graph.total_macs
    for tensor in found.tensors.values():
        assert tensor.data is None or not tensor.data.any()


def test_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    save_graph(CASES[0].graph(), path, source="one")
    assert load_graph(path, "one").nodes
    with pytest.raises(MobilesegError, match="another network"):
        load_graph(path, "two")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"Conv2d"', '"Conv3d"', "did you mean 'Conv2d'"),
        ('"stride": [1, 1]', '"stride": [1, "1"]', "stride"),
        ('"stride": [1, 1]', '"stride": [0, 0]', "make it again"),
        ('"version": 1', '"version": 2', "version 2"),
        ('"version": 1', '"versions": 1', "did you mean 'version'"),
        ('"float32"', '"float31"', "float31"),
        ('"constant": true', '"constant": false', "before any node"),
    ],
)
def test_damaged_structure(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.safetensors"
    save_graph(CASES[0].graph(), path)
    header = json.loads(path.read_bytes()[8:].partition(b"}}")[0] + b"}}")["__metadata__"]
    text = header["mobileseg_graph"]
    assert old in text
    save_file(load_file(path), path, {"mobileseg_graph": text.replace(old, new)})
    with pytest.raises(MobilesegError, match=said):
        load_graph(path)


def test_other_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(MobilesegError, match="is no saved graph"):
        load_graph(path)
