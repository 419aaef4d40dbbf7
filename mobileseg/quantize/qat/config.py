"""What a recipe may say about quantization-aware training. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from mobileseg.validate import Table


@dataclass(frozen=True)
class QatConfig(Table):
    """Fine-tuning of a trained step's graph as int8; data, batches and losses are the recipe's.

    It starts from what [quantize] makes, no layer kept in float: repair = ["equalise"] there gives
    it an equalised net.

    lr: the share of its channel's largest weight, of its output's range or of a range's end that
    an update moves a number by, at most. ranges: "learned" by gradient, or the "moving_average" of
    what training shows, frozen for the second half. distill: weight of the divergence from the
    float net's probabilities, beside the loss of [train]. ema: of weights and ranges. max_drop:
    points of class-mean mIoU that the result may lose against the float net.
    """

    epochs: Annotated[int, Gt(0), Le(100_000)] = 5
    lr: Annotated[float, Gt(0), Lt(1)] = 3e-4
    ranges: Literal["learned", "moving_average"] = "learned"
    distill: Annotated[float, Ge(0)] = 1.0
    ema: Annotated[float, Ge(0), Lt(1)] = 0.98
    max_drop: Annotated[float, Gt(-100), Le(100)] = 0.2
