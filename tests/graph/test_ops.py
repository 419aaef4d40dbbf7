"""What is true of an operator everywhere: shape, MACs, float values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mobileseg.errors import MobilesegError
from mobileseg.export.runtime import pixels_as
from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from tests.op_cases import CASES, Case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_shape_and_macs(case: Case) -> None:
    graph = case.graph()
    assert graph["out"].shape == case.shape
    assert graph.macs(graph.producers["out"]) == case.macs


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_float_is_torch(case: Case) -> None:
    graph = case.graph()
    seen: dict[str, torch.Tensor] = {}
    pixels = torch.from_numpy(pixels_as(case.images(), np.dtype(np.float32)))
    out = execute(graph, pixels, seen.__setitem__)
    names = graph.producers["out"].inputs
    values = [seen[n] if n in seen else torch.from_numpy(graph[n].data) for n in names]
    torch.testing.assert_close(out, case.reference(*values), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shapes", "rule"),
    [
        (ops.Conv2d(), [(1, 4, 5, 6), (7, 3, 3, 3)], "weight's input"),
        (ops.Conv2d(groups=2), [(1, 4, 5, 6), (7, 2, 3, 3)], "groups divide"),
        (ops.Conv2d(), [(1, 4, 2, 6), (7, 4, 3, 3)], "kernel fits"),
        (ops.ConvTranspose2d(), [(1, 4, 5, 6), (3, 7, 4, 4)], "first axis"),
        (ops.Add(), [(1, 4, 5, 6), (1, 4, 5, 7)], "equal shapes"),
        (ops.Concat(), [(1, 4, 5, 6), (1, 4, 5, 7)], "all agree"),
        (ops.Crop((3, 0), (3, 6)), [(1, 4, 5, 6)], "window lies inside"),
        (ops.DepthToSpace(2), [(1, 6, 5, 7)], "divides the channels"),
        (ops.Pool("max", (6, 2), (1, 1)), [(1, 4, 5, 6)], "window fits"),
    ],
    ids=lambda value: value.kind if isinstance(value, ops.Op) else "",
)
def test_what_does_not_fit_is_named(op: ops.Op, shapes: list[ops.Shape], rule: str) -> None:
    with pytest.raises(MobilesegError, match=rule):
        op.shape(shapes)
