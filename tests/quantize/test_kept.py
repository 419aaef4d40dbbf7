"""Sparse and clustered weights are that still after they were trained as int8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, nn

from mobileseg.graph.passes import normalise
from mobileseg.graph.trace import trace
from mobileseg.nets.module import build
from mobileseg.quantize.qat.kept import Kept
from mobileseg.quantize.qat.module import QatModule
from mobileseg.train.compress.cluster import Clusters
from mobileseg.train.compress.config import Cluster, Sparse
from mobileseg.train.compress.layers import few_values
from mobileseg.train.compress.sparse import Masks
from tests.slim.test_inherit import NETS, trained


def net(sparse: bool, clustered: bool) -> nn.Module:
    spec = NETS["v2.1.5"]
    module = build(spec)
    module.load_state_dict(trained(spec, 1))
    if sparse:
        Masks(module, Sparse(share=0.7, every=1, end=0.5), 2).after_step(2)
    if clustered:
        Clusters(module, Cluster(clusters=6), 0)
    plain = build(spec)
    plain.load_state_dict(module.state_dict())
    return plain


@pytest.mark.parametrize(("sparse", "clustered"), [(True, False), (False, True), (True, True)])
def test_zeros_and_equals_survive_training_as_int8(sparse: bool, clustered: bool) -> None:
    module = net(sparse, clustered)
    assert few_values(module)
    graph = normalise(trace(module, (32, 64)))  # type: ignore[arg-type]
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


def test_others_are_free() -> None:
    module = net(sparse=False, clustered=False)
    assert not few_values(module)
    graph = normalise(trace(module, (32, 64)))  # type: ignore[arg-type]
    assert not Kept(QatModule(graph, dict.fromkeys(graph.tensors, (-8.0, 8.0))).constants)
