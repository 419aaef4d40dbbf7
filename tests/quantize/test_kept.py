"""Sparse and clustered weights are that still after they were trained as int8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, nn

from mobileseg.graph.execute_int8 import execute_int8
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import normalise
from mobileseg.graph.trace import trace
from mobileseg.nets.module import build
from mobileseg.quantize.config import QuantizeConfig
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.qat.kept import Kept
from mobileseg.quantize.qat.module import QatModule
from mobileseg.quantize.repair import post_train
from mobileseg.train.compress.cluster import Clusters
from mobileseg.train.compress.config import Cluster, Sparse
from mobileseg.train.compress.layers import few_values
from mobileseg.train.compress.sparse import Masks
from mobileseg.workflow.choose import fitting
from tests.slim.test_inherit import NETS, trained

SEVENTY = Sparse(share=0.7, every=1, end=0.5)


def net(sparse: Sparse | None, clustered: bool) -> nn.Module:
    spec = NETS["v2.1.5"]
    module = build(spec)
    module.load_state_dict(trained(spec, 1))
    if sparse:
        Masks(module, sparse, 2).after_step(2)
    if clustered:
        Clusters(module, Cluster(clusters=6), 0)
    plain = build(spec)
    plain.load_state_dict(module.state_dict())
    return plain


def graph_of(module: nn.Module) -> Graph:
    return normalise(trace(module, (32, 64)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sparse", "clustered"),
    [
        (SEVENTY, False),
        (Sparse(share=0.2, every=1, end=0.5), False),
        (Sparse(share=0.05, every=1, end=0.5), False),
        (Sparse(pattern="7:8", every=1, end=0.5), False),
        (None, True),
        (SEVENTY, True),
    ],
)
def test_zeros_and_equals_survive_training_as_int8(sparse: Sparse | None, clustered: bool) -> None:
    module = net(sparse, clustered)
    assert few_values(module)
    graph = graph_of(module)
    tuned = QatModule(graph, dict.fromkeys(graph.tensors, (-8.0, 8.0)))
    kept = Kept(tuned.constants)
    before = {name: tuned.constants.value(name).detach() for name in tuned.constants.trained}
    optimizer = torch.optim.Adam(tuned.parameters(), lr=1e-3)
    x = torch.rand(1, 3, 32, 64, generator=Generator().manual_seed(2)) - 0.5
    for done in (1, 2, 3):
        optimizer.zero_grad()
        tuned(x).square().mean().backward()
        optimizer.step()
        kept.after_step(done)
    after = {name: tuned.constants.value(name).detach() for name in before}
    weights = [name for name, value in before.items() if value.ndim == 4]
    moved = [name for name in weights if not torch.equal(after[name], before[name])]
    assert len(moved) > len(weights) // 2
    final = tuned.trained_graph()
    for name in weights:
        if sparse:
            assert bool((after[name][before[name] == 0] == 0).all())
        if clustered and len(before[name].unique()) <= 6:
            assert len(after[name].unique()) <= 6
        assert np.array_equal(np.asarray(final[name].data), after[name].numpy())
    # What was trained is what quantize makes of it.
    int8 = quantize(final, tuned.ranges(), "float32")
    with torch.no_grad():
        assert np.array_equal(execute_int8(int8, x.numpy()), tuned.eval()(x).numpy())


def test_others_are_free() -> None:
    module = net(sparse=None, clustered=False)
    assert not few_values(module)
    graph = graph_of(module)
    assert not Kept(QatModule(graph, dict.fromkeys(graph.tensors, (-8.0, 8.0))).constants)


@pytest.mark.parametrize("sparse", [SEVENTY, None])
@pytest.mark.parametrize("clustered", [True, False])
def test_repairs_keep_zeros_and_equals(sparse: Sparse | None, clustered: bool) -> None:
    """Those that would not are left out, and that is said; zeros alone stay zeros with any."""
    graph = graph_of(net(sparse, clustered))
    asked = QuantizeConfig(repair=("relu6", "equalise", "round", "bias"), round_layers=99)
    said: list[str] = []
    config = fitting(graph, asked, said.append)
    if clustered:
        assert config.repair == ("relu6", "bias")
        assert said == [
            "quantize.repair: equalise, round left out, to keep the weights' few values"
        ]
    else:
        assert config == asked and not said
    images = np.random.default_rng(0).integers(-128, 128, (4, 3, 32, 64)) / np.float32(128)
    made = post_train(graph, [images.astype(np.float32)], config)
    weights = [t for t in graph.tensors.values() if t.data is not None and t.data.ndim == 4]
    assert len(weights) > 20
    held = 0
    for weight in weights:
        before, real = (np.asarray(each[weight.name].data) for each in (graph, made.source))
        int8 = made.graph[f"{weight.name}_int8"]
        steps = np.asarray(int8.data)
        assert not real[before == 0].any() and not steps[before == 0].any()
        # Depthwise layers were not clustered.
        if clustered and len(np.unique(before)) <= 6:
            # In the bytes, too, of all channels together.
            assert len(np.unique(steps)) <= 6
            held += 1
    assert not clustered or held > 10
