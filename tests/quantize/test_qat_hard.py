"""Training on as int8, with real figures: the hard case, from its collapse and from its repair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from mobileseg.export.runtime import pixels_as
from mobileseg.graph.execute import execute
from mobileseg.quantize.config import QuantizeConfig, Repair
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.qat.module import QatModule
from mobileseg.quantize.repair import post_train
from mobileseg.train.config import AugmentConfig, LossConfig, TrainConfig
from mobileseg.train.data import load
from mobileseg.train.distill import divergence
from mobileseg.train.loop import fit
from mobileseg.workflow.network import graph_predict
from mobileseg.workflow.sensitivity import in_runtime
from mobileseg.workflow.verdict import Judge
from tests.quantize.hard import DATA, SIZE, spread, trained
from tests.quantize.test_hard_case import OCTAVES

# The teacher alone: nothing is learned of the masks, so that no gain hides a loss.
CONFIG = TrainConfig(
    epochs=12, lr=3e-4, weight_decay=0.0, ema=0.98, loss=LossConfig(cross_entropy=1e-6)
)


@pytest.mark.slow
def test_training_takes_back_what_int8_loses(tmp_path: Path) -> None:
    graph, images, val = trained()
    judge = Judge(graph_predict(graph), val, "val")
    hard = spread(graph, OCTAVES)
    train = load(DATA, "train", SIZE)

    def teach(inputs: Tensor, logits: Tensor) -> Tensor:
        return divergence(logits, execute(graph, inputs))

    def drops(name: str, *repair: Repair) -> tuple[float, float]:
        """Return what int8 loses before the training and after it, in points."""
        batches = [pixels_as(images.images[:32], np.dtype(np.float32))]
        start = post_train(hard, batches, QuantizeConfig(repair=repair))
        module = QatModule(start.source, start.ranges)
        folder = tmp_path / name
        fit(module, train, None, DATA, CONFIG, AugmentConfig(), SIZE, folder, seed=1, teach=teach)
        int8 = quantize(module.trained_graph(), module.ranges())
        before, after = (judge.verdict(in_runtime(each), 0.2).drop for each in (start.graph, int8))
        return before, after

    before, after = drops("collapsed")
    assert before > 20 and after < before / 2
    before, after = drops("equalised", "equalise")
    assert after <= 0.2
