"""Any executor (float net, int8 graph, file in its runtime) against the masks' own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from mobileseg.errors import MobilesegError
from mobileseg.train.augment import normalise
from mobileseg.train.config import DataConfig
from mobileseg.train.data import Pair, Progress, read_pairs, resize_image, resize_mask
from mobileseg.train.metrics import Scores

U8: TypeAlias = npt.NDArray[np.uint8]

Predict: TypeAlias = Callable[[U8], npt.NDArray[np.float32]]
"""uint8 RGB [N, H, W, 3] at the net's size -> logits float32 [N, C, h, w], of any h and w; or
class numbers [N, h, w]."""


@dataclass(frozen=True)
class EvalSet:
    """Decoded once for all executors: images uint8 [N, H, W, 3], masks each at its own size."""

    pairs: tuple[Pair, ...]
    images: U8
    masks: tuple[U8, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pairs)


def load_eval(
    pairs: Sequence[Pair],
    config: DataConfig,
    size: tuple[int, int],
    progress: Progress | None = None,
) -> EvalSet:
    """Return pairs decoded, images resized to `size` (height, width), masks left as they are."""
    images = np.empty((len(pairs), *size, 3), np.uint8)
    masks: dict[int, U8] = {}

    def put(number: int, image: U8, mask: U8) -> None:
        images[number], masks[number] = resize_image(image, size), mask

    read_pairs(pairs, config, put, progress)
    return EvalSet(tuple(pairs), images, tuple(masks[i] for i in range(len(pairs))), config.classes)


def evaluate(
    predict: Predict,
    evalset: EvalSet,
    progress: Progress | None = None,
    batch_size: int = 16,
    boundary: bool = True,
) -> Scores:
    """Return the scores of an executor.

    Logits are resized to each mask's own size (bilinear, half-pixel centres), then the largest
    is taken; class numbers are resized to the nearest. `boundary=False` leaves out the boundary
    F-score, the dearest figure.
    """
    scores = Scores(evalset.classes, boundary)
    for start in range(0, len(evalset), batch_size):
        images = evalset.images[start : start + batch_size]
        logits = predict(images)
        _check(logits, len(images), evalset, start)
        for i, plane in enumerate(logits, start):
            scores.add(evalset.masks[i], labels_at(plane, evalset.masks[i].shape))
        if progress:
            progress(start + len(images), len(evalset))
    return scores


def module_predict(module: nn.Module, device: torch.device | str = "cpu") -> Predict:
    """Return a module as an executor: in eval mode, its mode put back after each call."""

    def predict(images: U8) -> npt.NDArray[np.float32]:
        training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                logits = module(normalise(torch.from_numpy(np.array(images)).to(device)))
        finally:
            module.train(training)
        array: npt.NDArray[np.float32] = logits.float().cpu().numpy()
        return array

    return predict


def labels_at(logits: npt.NDArray[np.float32], size: tuple[int, ...]) -> U8:
    """Return class numbers [H, W] at `size` from logits [C, h, w] or class numbers [h, w].

    Class numbers have no mean: the nearest is taken.
    """
    if logits.ndim == 2:
        return resize_mask(logits.astype(np.uint8), (size[0], size[1]))
    if logits.ndim != 3:
        raise MobilesegError(
            f"the net gives {list(logits.shape)} per picture; want [classes, h, w] or class "
            "numbers [h, w]"
        )
    plane = torch.from_numpy(np.ascontiguousarray(logits, np.float32)).unsqueeze(0)
    if plane.shape[2:] != size:
        plane = F.interpolate(plane, size, mode="bilinear", align_corners=False)
    labels: U8 = plane.argmax(1).squeeze(0).to(torch.uint8).numpy()
    return labels


def _check(logits: npt.NDArray[np.float32], count: int, evalset: EvalSet, start: int) -> None:
    classes = len(evalset.classes)
    numbers = logits.ndim == 3 and len(logits) == count
    if not numbers and (logits.ndim != 4 or logits.shape[:2] != (count, classes)):
        raise MobilesegError(
            f"evaluate: the net gives {list(logits.shape)}; want [{count}, {classes} classes, h, w]"
            f" or class numbers [{count}, h, w]"
        )
    finite = np.isfinite(logits).reshape(count, -1).all(axis=1)
    if not finite.all():
        worst = evalset.pairs[start + int(np.argmin(finite))].image
        raise MobilesegError(f"evaluate: the net gives NaN or infinity for {worst}")
    if numbers and not ((logits >= 0) & (logits < classes)).all():
        raise MobilesegError(
            f"evaluate: the net gives class {logits.max():g}; the recipe has {classes} classes"
        )
