"""The verdict on an int8 network: what it loses against the float one, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import GateError
from mobileseg.quantize.config import QuantizeConfig
from mobileseg.reading.read import ENDINGS
from mobileseg.report.int8 import change
from mobileseg.train.evaluate import EvalSet, evaluate
from mobileseg.train.metrics import Scores, percent
from mobileseg.workflow.network import Pictures, Predict

Labels: TypeAlias = NDArray[np.int64]

# So many of the worst pictures are shown: enough to look at, few enough to be looked at.
_WORST = 5


@dataclass(frozen=True)
class Picture:
    """What one picture loses: mIoU over its own classes, and the pixels called otherwise."""

    image: Path
    float_miou: float
    int8_miou: float
    agreement: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "image": str(self.image),
            "float_miou_percent": percent(self.float_miou),
            "int8_miou_percent": percent(self.int8_miou),
            "agreement_percent": 100 * self.agreement,
        }


@dataclass(frozen=True)
class Verdict:
    """Float and int8 on the same pictures; `worst` are those that lose most.

    `agreement` is the share of pixels, at the network's size, that both call alike. `blamed` are
    layers, the worst first; empty where nothing is to blame. `mend`: what to try next, there.
    """

    split: str
    float_scores: Scores
    int8_scores: Scores
    agreement: float
    worst: tuple[Picture, ...]
    max_drop: float
    blamed: tuple[str, ...] = ()
    mend: str = ""

    @property
    def drop(self) -> float:
        """Points of class-mean mIoU that int8 loses; negative where it gains."""
        return 100 * (self.float_scores.miou - self.int8_scores.miou)

    @property
    def passed(self) -> bool:
        """Whether int8 loses no more than is allowed."""
        return self.drop <= self.max_drop

    def require(self, where: str) -> None:
        """Raise GateError naming the layers to blame, if int8 loses too much."""
        if self.passed:
            return
        named = f"; most of it in {', '.join(self.blamed)}" if self.blamed else ""
        tried = f"; {self.mend}" if self.mend else ""
        said = change(self.drop, self.max_drop, f" on {self.split}")
        raise GateError(f"{where}: int8 {said}{named}{tried}")

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "split": self.split,
            "float": self.float_scores.as_dict(),
            "int8": self.int8_scores.as_dict(),
            "drop_points": self.drop,
            "max_drop_points": self.max_drop,
            "passed": self.passed,
            "agreement_percent": 100 * self.agreement,
            "worst": [picture.as_dict() for picture in self.worst],
            "blamed": list(self.blamed),
            "mend": self.mend,
        }


def next_mend(where: str, config: QuantizeConfig, trained: bool = False) -> str:
    """Return what to try against a loss, the cheapest that was not asked for yet.

    where: a run, or a file. trained: the loss is that of quantization-aware training.
    """
    if trained:
        return f"train longer: mobileseg qat {where} --restart --set qat.epochs=20"
    if config.repair != "auto":
        return "try --repair auto"
    if config.keep_float != "auto":
        return "try --repair auto --keep-float auto"
    if Path(where).suffix in ENDINGS:
        return "try --activations int16, or train it as int8 where it was made"
    return f"train it as int8: mobileseg qat {where}"


class Judge:
    """A float network's answers on a split, to hold int8 ones against: computed once for many."""

    def __init__(self, predict: Predict, evalset: EvalSet, split: str) -> None:
        self._predict, self.evalset, self.split = predict, evalset, split
        self.labels: list[Labels] = []
        self.scores = evaluate(recorded(predict, self.labels), evalset, boundary=False)

    def of_first(self, count: int) -> Judge:
        """Return a judge on the first pictures, where each of many trials costs time."""
        if len(self.evalset) <= count:
            return self
        whole = self.evalset
        few = EvalSet(whole.pairs[:count], whole.images[:count], whole.masks[:count], whole.classes)
        return Judge(self._predict, few, self.split)

    def verdict(self, predict: Predict, max_drop: float) -> Verdict:
        """Return the verdict on an int8 executor."""
        labels: list[Labels] = []
        scores = evaluate(recorded(predict, labels), self.evalset, boundary=False)
        shares = agreements(labels, self.labels)
        pictures = [
            Picture(pair.image, *figures)
            for pair, *figures in zip(
                self.evalset.pairs,
                self.scores.miou_per_image,
                scores.miou_per_image,
                shares,
                strict=True,
            )
        ]
        worst = sorted(pictures, key=_loss, reverse=True)[:_WORST]
        return Verdict(
            self.split, self.scores, scores, float(np.mean(shares)), tuple(worst), max_drop
        )


def _loss(picture: Picture) -> float:
    """What a picture loses; one without any truth loses nothing."""
    return float(np.nan_to_num(picture.float_miou - picture.int8_miou))


def recorded(predict: Predict, labels: list[Labels]) -> Predict:
    """Return the executor, which also leaves its classes at the network's size in `labels`."""

    def run(images: Pictures) -> NDArray[np.float32]:
        logits = predict(images)
        labels.append(logits.argmax(1) if logits.ndim == 4 else logits.astype(np.int64))
        return logits

    return run


def agreements(labels: Sequence[Labels], others: Sequence[Labels]) -> list[float]:
    """Return per picture the share of pixels that two executors call alike."""
    return [
        float(np.mean(a == b))
        for batch, other in zip(labels, others, strict=True)
        for a, b in zip(batch, other, strict=True)
    ]
