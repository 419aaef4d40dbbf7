"""A MobileNetV2-like network with its channels scaled apart: plain int8 collapses, repair mends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mobileseg.export.runtime import pixels_as
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Graph
from mobileseg.quantize.config import QuantizeConfig, RangeBy, Repair
from mobileseg.quantize.repair import post_train
from mobileseg.train.evaluate import EvalSet
from mobileseg.workflow.choose import choose_kept
from mobileseg.workflow.network import graph_predict
from mobileseg.workflow.sensitivity import in_runtime
from mobileseg.workflow.verdict import Judge, Verdict
from tests.quantize.hard import spread, trained

# Two channels of a tensor may be 1024 times apart: many have less than a step of their own.
OCTAVES = 5.0


@pytest.fixture(scope="module")
def case() -> tuple[Graph, EvalSet, Judge]:
    """Return the trained graph, its training pictures, and the float network's answers."""
    graph, train, test = trained()
    return graph, train, Judge(graph_predict(graph), test, "test")


def int8(
    case: tuple[Graph, EvalSet, Judge], graph: Graph, *repair: Repair, ranges: RangeBy = "mean"
) -> Verdict:
    _, train, judge = case
    batches = [pixels_as(train.images[:32], np.dtype(np.float32))]
    made = post_train(graph, batches, QuantizeConfig(repair=repair, ranges=ranges))
    return judge.verdict(in_runtime(made.graph), 1.0)


def test_plain_int8_collapses_and_repair_recovers(case: tuple[Graph, EvalSet, Judge]) -> None:
    graph, train, judge = case
    hard = spread(graph, OCTAVES)
    with torch.inference_mode():
        x = torch.from_numpy(pixels_as(train.images[:4], np.dtype(np.float32)))
        torch.testing.assert_close(execute(hard, x), execute(graph, x), atol=1e-4, rtol=1e-5)
    assert judge.scores.miou > 0.6
    assert int8(case, graph).passed
    assert int8(case, hard, ranges="minmax").drop > 10
    assert int8(case, hard).drop > 10
    assert int8(case, hard, "equalise").passed
    assert int8(case, hard, "equalise", "bias").passed


def test_the_fewest_layers_stay_in_float(case: tuple[Graph, EvalSet, Judge]) -> None:
    graph, train, judge = case
    # The wide channels inside one block: its expansion makes and its depthwise layer reads them.
    (inside,) = (node.output for node in graph.nodes if node.layer == "deep.0.expand.0")
    hard = spread(graph, 2 * OCTAVES, only=inside)
    config = QuantizeConfig()
    batches = [pixels_as(train.images[:32], np.dtype(np.float32))]
    made = post_train(hard, batches, config)
    assert not judge.verdict(in_runtime(made.graph), config.max_drop).passed
    kept = choose_kept(made, config, judge)
    assert kept == ("deep.0.expand.0", "deep.0.dw.0")
    mended = post_train(hard, batches, replace(config, keep_float=kept))
    assert judge.verdict(in_runtime(mended.graph), config.max_drop).passed
