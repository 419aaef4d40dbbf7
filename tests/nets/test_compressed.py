"""Every network of the zoo after each method of compression: to int8, and what it won still there.

At a quarter of the width: what a method may break is a layer's kind, not its width.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from mobileseg.export.runtime import pixels_as
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import normalise
from mobileseg.graph.trace import trace
from mobileseg.nets.module import Net, build
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.slim.inherit import inherit
from mobileseg.slim.prune.groups import groups, narrowed
from mobileseg.slim.prune.importance import importance
from mobileseg.train.compress.cluster import Clusters
from mobileseg.train.compress.config import Cluster, Sparse
from mobileseg.train.compress.sparse import Masks
from mobileseg.workflow.forms import FOR_INT8, choose
from tests.nets.test_zoo import EACH, SIZE, checked, fitted, pictures
from tests.slim.test_prune import thin

CLUSTERS = 8


def pruned(net: Net) -> Net:
    """Half the filters of every group go."""
    spec = net.spec
    found = groups(spec)
    state: dict[str, Tensor] = dict(net.state_dict())
    scores = importance(spec, state, "l1")
    child = narrowed(spec, found, {g.name: -(-len(g) // 2) for g in found if not g.held})
    assert child.params < spec.params
    slim = build(child)
    slim.load_state_dict(inherit(spec, state, child, slim.state_dict(), scores).state)
    return slim.eval()


def sparse(net: Net) -> Net:
    Masks(net, Sparse(share=0.75, every=1, end=0.5), 2).after_step(2)
    return net


def clustered(net: Net) -> Net:
    Clusters(net, Cluster(clusters=CLUSTERS), 0)
    plain = build(net.spec)
    plain.load_state_dict(net.state_dict())
    return plain.eval()


def weights(graph: Graph) -> list[Array]:
    """A graph's int8 weights, the axis of their scales first."""
    found = [tensor for tensor in graph.tensors.values() if tensor.dtype == "int8"]
    return [
        np.moveaxis(each.data, each.quant.axis, 0)
        for each in found
        if each.data is not None and each.quant and each.quant.axis is not None
    ]


def as_narrow(net: Net, graph: Graph) -> None:
    """Not exactly: a rewrite may add zeros, and biases are no weights."""
    assert sum(each.size for each in weights(graph)) < 1.2 * net.spec.params


def as_sparse(net: Net, graph: Graph) -> None:
    alive = [each for name, each in net.named_parameters() if name.split(".")[0] in net.live]
    zeros = sum(int((each == 0).sum()) for each in alive if each.ndim == 4)
    assert sum(int((each == 0).sum()) for each in weights(graph)) >= zeros > 0


def as_clustered(net: Net, graph: Graph) -> None:  # noqa: ARG001
    # Depthwise filters, which have one input, stay as they are.
    many = [each for weight in weights(graph) for each in weight if each.shape[0] > 1]
    filters = [each for each in many if each.size > 2 * CLUSTERS]
    # Room for layers that cannot hold their norm, and are left as they are.
    assert np.mean([len(np.unique(each)) <= CLUSTERS for each in filters]) >= 0.95


@pytest.mark.parametrize(
    ("method", "holds"),
    [(pruned, as_narrow), (sparse, as_sparse), (clustered, as_clustered)],
    ids=lambda each: each.__name__,
)
@pytest.mark.parametrize("name", EACH)
def test_compressed_to_int8(
    name: str,
    method: Callable[[Net], Net],
    holds: Callable[[Net, Graph], None],
    tmp_path: Path,
) -> None:
    images = pixels_as(pictures(), np.dtype(np.float32))
    net = method(fitted(thin(name), images))
    plain = normalise(trace(net, SIZE))
    before = choose(plain, FOR_INT8)(plain)
    int8 = quantize(before, calibrate(before, [images]))
    check = checked(tmp_path, int8, "tflite")
    assert check.problems() == []
    assert check.float_operators == {}
    holds(net, int8)
