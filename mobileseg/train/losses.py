"""Losses over logits [N, C, H, W] and masks [N, H, W] with `IGNORE` for ignored pixels.

Every loss is the mean over what counts, and 0 for a batch in which nothing counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.train.config import IGNORE, DataConfig, LossConfig, TrainConfig
from mobileseg.train.data import Dataset

_TINY = torch.finfo(torch.float32).tiny
# Of OHEM: what is no longer hard, and the least that is taken for hard, a share of all.
_HARD, _LEAST_HARD = 0.7, 16

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Whole:
    """What the loss of a part of a batch has to know of the whole batch.

    counted: what `Losses.counted` says of all its masks together. share: the part's pictures among
    all of them.
    """

    counted: Tensor
    share: float


@dataclass(frozen=True)
class Pixels:
    """How pixels count: by class `weights` [C], with label `smoothing`, together `counted`."""

    weights: Tensor | None
    smoothing: float
    counted: Tensor

    def mean(self, total: Tensor) -> Tensor:
        """Return a sum over pixels by what they count together; 0 where none counts."""
        return total / self.counted.clamp(min=_TINY)

    def entropy(self, logits: Tensor, masks: Tensor, reduction: str) -> Tensor:
        """Return the weighted cross entropy of the pixels, or its sum."""
        return F.cross_entropy(
            logits,
            masks,
            self.weights,
            ignore_index=IGNORE,
            reduction=reduction,
            label_smoothing=self.smoothing,
        )


_Term: TypeAlias = Callable[[Tensor, Tensor, Pixels], Tensor]


@dataclass(frozen=True)
class Losses:
    """A weighted sum of losses, of a batch or of a part of one."""

    terms: tuple[tuple[float, _Term], ...]
    class_weights: Tensor | None
    smoothing: float

    def __call__(self, logits: Tensor, masks: Tensor, whole: Whole | None = None) -> Tensor:
        """Return the loss of a batch; with `whole`, what a part of that batch adds to its loss."""
        logits = logits.float()
        whole = whole or Whole(self.counted(masks), 1.0)
        pixels = Pixels(self.class_weights, self.smoothing, whole.counted)
        parts = [
            weight * term(logits, masks, pixels) * (1 if term in _ADD_UP else whole.share)
            for weight, term in self.terms
        ]
        return torch.stack(parts).sum()

    @property
    def adds_up(self) -> bool:
        """Whether the parts of a batch add up to its loss: some losses are no sums over pixels.

        Dice and Lovász compare whole masks, and OHEM chooses pixels by their rank. Their parts make
        the mean over the parts, not what the whole batch would give.
        """
        return all(term in _ADD_UP for _, term in self.terms)

    def counted(self, masks: Tensor) -> Tensor:
        """Return what cross entropy divides by: the pixels that count, by their class weight."""
        return _counted(masks, self.class_weights)


def make_loss(
    config: LossConfig, class_weights: Tensor | None = None, label_smoothing: float = 0.0
) -> Losses:
    """Return the weighted sum that `config` names.

    `class_weights` [C] scale the pixels of cross entropy; Dice and Lovász weigh classes alike.
    """
    terms = ((getattr(config, name), term) for name, term in LOSSES.items())
    used = tuple((weight, term) for weight, term in terms if weight > 0)
    return Losses(used, class_weights, label_smoothing)


def cross_entropy(logits: Tensor, masks: Tensor, pixels: Pixels) -> Tensor:
    """Return cross entropy, averaged over pixels by their class weight."""
    return pixels.mean(pixels.entropy(logits, masks, "sum"))


def _counted(masks: Tensor, weights: Tensor | None) -> Tensor:
    valid = masks != IGNORE
    return valid.sum() if weights is None else (weights[masks.where(valid, 0)] * valid).sum()


def focal(logits: Tensor, masks: Tensor, pixels: Pixels) -> Tensor:
    """Return cross entropy in which a pixel counts by how far off it is, (1 - p)^2.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017, equation 4 with gamma 2.
    """
    each = pixels.entropy(logits, masks, "none")
    return pixels.mean(((1 - _of_truth(logits, masks)).square() * each).sum())


def ohem(logits: Tensor, masks: Tensor, pixels: Pixels) -> Tensor:
    """Return cross entropy of the hard pixels alone: p < 0.7, a sixteenth of all at least.

    Source: Shrivastava et al., Training Region-based Object Detectors with Online Hard Example
    Mining, 2016; for pixels, with this threshold, Yuan and Wang, OCNet, 2018, section 4.1.
    """
    each = pixels.entropy(logits, masks, "none")
    valid = masks != IGNORE
    with torch.no_grad():
        sure = _of_truth(logits, masks).masked_fill(~valid, 2.0).flatten()
        least = max(1, int(valid.sum()) // _LEAST_HARD)
        hard = (sure < sure.kthvalue(least).values.clamp(min=_HARD)).view_as(masks) & valid
    return (each * hard).sum() / _counted(masks.where(hard, IGNORE), pixels.weights).clamp(
        min=_TINY
    )


def bce(logits: Tensor, masks: Tensor, pixels: Pixels) -> Tensor:
    """Return the binary cross entropy of each class against the rest, averaged over the classes.

    A class is told from the rest as the softmax does: of two classes both say the same.
    """
    truth = F.one_hot(masks.where(masks != IGNORE, 0), logits.shape[1]).permute(0, 3, 1, 2).float()
    truth = truth * (1 - pixels.smoothing) + pixels.smoothing / 2
    each = F.binary_cross_entropy_with_logits(_margins(logits), truth, reduction="none").mean(1)
    each = each * (masks != IGNORE)
    if pixels.weights is not None:
        each = each * pixels.weights[masks.where(masks != IGNORE, 0)]
    return pixels.mean(each.sum())


def _of_truth(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the probability of each pixel's class [N, H, W]; anything where ignored."""
    truth = masks.where(masks != IGNORE, 0).unsqueeze(1)
    return logits.softmax(1).gather(1, truth).squeeze(1)


def _margins(logits: Tensor) -> Tensor:
    """Return log p / (1 - p) of the softmax's probabilities, exact where p is near 0 or 1."""
    others = [
        torch.cat([logits[:, :c], logits[:, c + 1 :]], 1).logsumexp(1)
        for c in range(logits.shape[1])
    ]
    return logits - torch.stack(others, 1)


def dice(logits: Tensor, masks: Tensor, pixels: Pixels) -> Tensor:
    """Return 1 - Dice of the soft masks over the batch, averaged over the classes present.

    Source: Milletari et al., V-Net, 2016, section 3, with |p| for |p|^2.
    """
    del pixels
    probabilities, truth, present = _one_against_rest(logits, masks)
    overlap = (probabilities * truth).sum(1)
    sizes = probabilities.sum(1) + truth.sum(1)
    return _mean_present(1 - 2 * overlap / sizes.clamp(min=1e-6), present)


def lovasz(logits: Tensor, masks: Tensor, pixels: Pixels) -> Tensor:
    """Return the Lovász extension of 1 - IoU over the batch, averaged over the classes present.

    Source: Berman et al., The Lovász-Softmax loss, CVPR 2018, algorithm 1 and section 3.1.
    """
    del pixels
    probabilities, truth, present = _one_against_rest(logits, masks)
    # an ignored pixel has error 0 here: it is sorted behind every error and adds nothing
    errors, order = (truth - probabilities).abs().sort(dim=1, descending=True)
    with torch.no_grad():
        gradient = _jaccard_gradient(truth.gather(1, order))
    return _mean_present((errors * gradient).sum(1), present)


def lovasz_hinge(logits: Tensor, masks: Tensor, pixels: Pixels) -> Tensor:
    """Return the Lovász hinge of each class against the rest, averaged over the classes present.

    Source: Berman et al., The Lovász-Softmax loss, CVPR 2018, section 3.2.
    """
    del pixels
    valid = (masks != IGNORE).flatten()
    _, truth, present = _one_against_rest(logits, masks)
    margins = _margins(logits).transpose(0, 1).flatten(1)
    # an ignored pixel has no error: it is sorted behind every error and adds nothing
    errors = (1 - margins * (2 * truth - 1)).clamp(min=0) * valid
    errors, order = errors.sort(dim=1, descending=True)
    with torch.no_grad():
        gradient = _jaccard_gradient(truth.gather(1, order))
    return _mean_present((errors * gradient).sum(1), present)


def edges(logits: Tensor, masks: Tensor) -> Tensor:
    """Return the binary cross entropy of where classes meet; edges and the rest weigh alike.

    logits: [N, 1, H, W]. A pixel is of an edge where one beside it has another class; where one
    is ignored, nothing is said.
    """
    near = F.unfold(F.pad(masks.unsqueeze(1).float(), (1, 1, 1, 1), mode="replicate"), 3)
    near = near.view(len(masks), 9, *masks.shape[1:])
    known = (near != IGNORE).all(1)
    edge = (near.amin(1) != near.amax(1)) & known
    each = F.binary_cross_entropy_with_logits(logits[:, 0].float(), edge.float(), reduction="none")
    parts = [(each * where).sum() / where.sum().clamp(min=1) for where in (edge, ~edge & known)]
    return torch.stack(parts).mean()


def class_weights(
    train: Dataset, data: DataConfig, config: TrainConfig, device: torch.device
) -> Tensor | None:
    """Return the weight of each class in cross entropy; None where none are given.

    Raises MobilesegError where there are not as many as classes.
    """
    given = config.class_weights
    if given == "none":
        return None
    if given == "median_frequency":
        weights = median_frequency(train.class_pixels(len(data.classes)))
        return torch.from_numpy(weights**config.class_weights_power).to(device)
    if len(given) != len(data.classes):
        raise MobilesegError(
            f"train.class_weights: {len(given)} numbers for {len(data.classes)} classes"
        )
    return torch.tensor(given, dtype=torch.float32, device=device)


def median_frequency(class_pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return class weights [C] from pixels of each class in each mask [N, C].

    frequency = pixels of the class / pixels of the masks that hold it; weight = median of the
    frequencies / frequency. Source: Eigen and Fergus, ICCV 2015, section 6.3.2; SegNet.
    """
    totals = (class_pixels.sum(1, keepdims=True) * (class_pixels > 0)).sum(0)
    if (totals == 0).any():
        empty = np.flatnonzero(totals == 0).tolist()
        raise MobilesegError(
            f"train.class_weights: classes {empty} have no pixels, so no frequency"
        )
    frequency = class_pixels.sum(0) / totals
    return np.asarray(np.median(frequency) / frequency, np.float32)


def _one_against_rest(logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities and truth [C, N*H*W], both 0 where ignored, and present [C]."""
    classes = logits.shape[1]
    valid = (masks != IGNORE).flatten()
    probabilities = logits.softmax(1).transpose(0, 1).flatten(1) * valid
    numbers = torch.arange(classes, device=masks.device).unsqueeze(1)
    truth = (masks.flatten() == numbers).to(probabilities.dtype)
    return probabilities, truth, truth.amax(1)


def _mean_present(values: Tensor, present: Tensor) -> Tensor:
    return (values * present).sum() / present.sum().clamp(min=1)


def _jaccard_gradient(truth: Tensor) -> Tensor:
    """Return the gradient of the Lovász extension for truth [C, P] sorted by falling error.

    The paper takes differences of neighbouring Jaccard losses, which drown in float32's rounding
    for a million pixels. Written out they are 1 / union for a pixel of the class (the
    intersection loses one) and intersection / (union * (union - 1)) for any other (the union
    gains one).
    """
    total = truth.sum(1, keepdim=True)
    intersection = total - truth.cumsum(1)
    union = total + (1 - truth).cumsum(1)
    other = intersection / (union * (union - 1)).clamp(min=1)
    return torch.where(truth > 0, 1 / union.clamp(min=1), other)


LOSSES: dict[str, _Term] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "ohem": ohem,
    "bce": bce,
    "dice": dice,
    "lovasz": lovasz,
    "lovasz_hinge": lovasz_hinge,
}
_ADD_UP = (cross_entropy, focal, bce)
