"""Figures of merit over a data set. numpy only, so that any executor can be judged anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from mobileseg.errors import MobilesegError
from mobileseg.train.config import IGNORE

U8: TypeAlias = npt.NDArray[np.uint8]
Bool: TypeAlias = npt.NDArray[np.bool_]

BOUNDARY_TOLERANCE = 0.0075
"""Share of the image diagonal by which a boundary may be off (Csurka et al., BMVC 2013)."""


class Scores:
    """One confusion matrix over a data set, per-image foreground IoU and boundary F-scores.

    All figures are shares in [0, 1]. Ignored pixels count nowhere. A class that is in neither
    truth nor prediction has no IoU (`nan` in `iou`) and is left out of `miou`.
    """

    def __init__(self, classes: Sequence[str], boundary: bool = True) -> None:
        self.classes = tuple(classes)
        self.confusion = np.zeros((len(self.classes), len(self.classes)), np.int64)
        self._images: list[npt.NDArray[np.int64]] = []
        self._boundary: list[npt.NDArray[np.float64]] | None = [] if boundary else None

    def add(self, truth: U8, prediction: U8) -> None:
        """Count one image: class numbers [H, W]; `IGNORE` in `truth` is left out."""
        if truth.shape != prediction.shape:
            raise MobilesegError(f"scores: prediction is {prediction.shape}, mask {truth.shape}")
        count = len(self.classes)
        valid = truth != IGNORE
        codes = truth[valid].astype(np.intp) * count + prediction[valid]
        confusion = np.bincount(codes, minlength=count * count)
        if confusion.size > count * count:
            raise MobilesegError(f"scores: a class number above {count - 1} in mask or prediction")
        confusion = confusion.reshape(count, count)
        self.confusion += confusion
        self._images.append(confusion)
        if self._boundary is not None:
            masked = np.where(valid, prediction, np.uint8(IGNORE))
            self._boundary.append(boundary_scores(truth, masked, count))

    @property
    def images(self) -> int:
        """How many were counted."""
        return len(self._images)

    @property
    def miou_per_image(self) -> list[float]:
        """Mean of the class IoUs in each image; nan where all of it is ignored."""
        return [_mean(_iou(confusion)) for confusion in self._images]

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """IoU per class over the data set; row: truth, column: prediction of `confusion`."""
        return _iou(self.confusion)

    @property
    def miou(self) -> float:
        """Mean of the class IoUs over the data set."""
        return _mean(self.iou)

    @property
    def accuracy(self) -> float:
        """Share of the pixels that have the right class."""
        total = int(self.confusion.sum())
        return int(np.trace(self.confusion)) / total if total else math.nan

    @property
    def foreground_iou(self) -> float | None:
        """IoU of class 1 over the data set; None unless there are two classes."""
        return float(self.iou[1]) if len(self.classes) == 2 else None

    @property
    def foreground_iou_per_image(self) -> float | None:
        """IoU of class 1, averaged over the images that hold or are given some of it."""
        if len(self.classes) != 2:
            return None
        return _mean(np.array([_iou(confusion)[1] for confusion in self._images]))

    @property
    def boundary_f(self) -> float | None:
        """Boundary F-score: mean over classes of the mean over images; None if not measured."""
        if self._boundary is None:
            return None
        if not self._boundary:
            return math.nan
        table = np.stack(self._boundary)
        return _mean(np.array([_mean(column) for column in table.T]))

    def as_dict(self) -> dict[str, object]:
        """Return every figure in percent, for reports; null where there is none."""
        return {
            "miou_percent": percent(self.miou),
            "foreground_iou_percent": percent(self.foreground_iou),
            "foreground_iou_per_image_percent": percent(self.foreground_iou_per_image),
            "accuracy_percent": percent(self.accuracy),
            "boundary_f_percent": percent(self.boundary_f),
            "boundary_tolerance_percent_of_diagonal": 100 * BOUNDARY_TOLERANCE,
            "iou_percent": {
                name: percent(float(value))
                for name, value in zip(self.classes, self.iou, strict=True)
            },
            "images": self.images,
        }


def boundary_scores(truth: U8, prediction: U8, classes: int) -> npt.NDArray[np.float64]:
    """Return the boundary F-score of each class in one image, nan where neither has a boundary.

    Both hold class numbers [H, W] with `IGNORE` at the same pixels. A boundary pixel has a
    4-neighbour of another class; it is right if the other's boundary comes within the tolerance.
    Source: Csurka et al., What is a good evaluation measure for semantic segmentation?, 2013.
    """
    offsets, radius = _disc(BOUNDARY_TOLERANCE * math.hypot(*truth.shape), truth.shape[1])
    changes_truth, changes_prediction = _changes(truth), _changes(prediction)
    scores = np.full(classes, np.nan)
    for number in range(classes):
        ours = np.pad(changes_prediction & (prediction == number), radius)
        theirs = np.pad(changes_truth & (truth == number), radius)
        total_ours, total_theirs = np.count_nonzero(ours), np.count_nonzero(theirs)
        if not total_ours and not total_theirs:
            continue
        hits_ours, hits_theirs = _near(ours, theirs, offsets), _near(theirs, ours, offsets)
        precision = hits_ours / total_ours if total_ours else 0.0
        recall = hits_theirs / total_theirs if total_theirs else 0.0
        both = precision + recall
        scores[number] = 2 * precision * recall / both if both else 0.0
    return scores


def _changes(labels: U8) -> Bool:
    """Return where a 4-neighbour has another class; next to ignored pixels is no boundary."""
    known = labels != IGNORE
    changes = np.zeros(labels.shape, bool)
    down = (labels[1:] != labels[:-1]) & known[1:] & known[:-1]
    right = (labels[:, 1:] != labels[:, :-1]) & known[:, 1:] & known[:, :-1]
    changes[1:] |= down
    changes[:-1] |= down
    changes[:, 1:] |= right
    changes[:, :-1] |= right
    return changes


def _disc(tolerance: float, width: int) -> tuple[list[int], int]:
    """Return offsets into a flat, padded image of `width`, nearest first, and the padding."""
    radius = max(1, round(tolerance))
    span = range(-radius, radius + 1)
    disc = [(y * y + x * x, y, x) for y in span for x in span if y * y + x * x <= radius**2]
    return [y * (width + 2 * radius) + x for _, y, x in sorted(disc)], radius


def _near(points: Bool, target: Bool, offsets: list[int]) -> int:
    """Return how many of `points` have a `target` at one of the offsets.

    Good predictions hit at the first offsets, so few points are left for the others.
    """
    flat = target.ravel()
    left = np.flatnonzero(points)
    total = left.size
    for offset in offsets:
        left = left[~flat[left + offset]]
        if not left.size:
            break
    return int(total - left.size)


def _iou(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    hits = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def _mean(values: npt.NDArray[np.float64]) -> float:
    """Return the mean of what is a number; nan if nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else math.nan


def percent(value: float | None) -> float | None:
    """Return a share in percent; None for None and nan, which JSON has no word for."""
    return None if value is None or math.isnan(value) else 100 * value
