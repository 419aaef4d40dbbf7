"""Losses over logits [N, C, H, W] and masks [N, H, W] with `IGNORE` for ignored pixels.

Every loss is the mean over what counts, and 0 for a batch in which nothing counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.train.config import IGNORE, DataConfig, LossConfig, TrainConfig
from mobileseg.train.data import Dataset

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class _Term(Protocol):
    def __call__(
        self,
        logits: Tensor,
        masks: Tensor,
        *,
        weights: Tensor | None,
        smoothing: float,
        whole: Whole | None = None,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Whole:
    """What the loss of a part of a batch has to know of the whole batch.

    counted: what `Losses.counted` says of all its masks together. share: the part's pictures among
    all of them.
    """

    counted: Tensor
    share: float


@dataclass(frozen=True)
class Losses:
    """A weighted sum of losses, of a batch or of a part of one."""

    terms: tuple[tuple[float, _Term], ...]
    class_weights: Tensor | None
    smoothing: float

    def __call__(self, logits: Tensor, masks: Tensor, whole: Whole | None = None) -> Tensor:
        """Return the loss of a batch; with `whole`, what a part of that batch adds to its loss."""
        logits = logits.float()
        parts = [
            weight
            * term(logits, masks, weights=self.class_weights, smoothing=self.smoothing, whole=whole)
            for weight, term in self.terms
        ]
        return torch.stack(parts).sum()

    @property
    def adds_up(self) -> bool:
        """Whether the parts of a batch add up to its loss: those of Dice and Lovász do not.

        These two compare whole masks. Their parts make the mean over the parts, not what the whole
        batch would give.
        """
        return all(term is cross_entropy for _, term in self.terms)

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


def cross_entropy(
    logits: Tensor,
    masks: Tensor,
    *,
    weights: Tensor | None,
    smoothing: float,
    whole: Whole | None = None,
) -> Tensor:
    """Return cross entropy, averaged over pixels by their class weight."""
    total = F.cross_entropy(
        logits, masks, weights, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing
    )
    counted = _counted(masks, weights) if whole is None else whole.counted
    # A class may weigh little; without weights the least is one pixel.
    least = 1 if weights is None else torch.finfo(torch.float32).tiny
    return total / counted.clamp(min=least)


def _counted(masks: Tensor, weights: Tensor | None) -> Tensor:
    valid = masks != IGNORE
    return valid.sum() if weights is None else (weights[masks.where(valid, 0)] * valid).sum()


def dice(
    logits: Tensor,
    masks: Tensor,
    *,
    weights: Tensor | None,
    smoothing: float,
    whole: Whole | None = None,
) -> Tensor:
    """Return 1 - Dice of the soft masks over the batch, averaged over the classes present.

    Source: Milletari et al., V-Net, 2016, section 3, with |p| for |p|^2.
    """
    del weights, smoothing
    probabilities, truth, present = _one_against_rest(logits, masks)
    overlap = (probabilities * truth).sum(1)
    sizes = probabilities.sum(1) + truth.sum(1)
    found = _mean_present(1 - 2 * overlap / sizes.clamp(min=1e-6), present)
    return found if whole is None else found * whole.share


def lovasz(
    logits: Tensor,
    masks: Tensor,
    *,
    weights: Tensor | None,
    smoothing: float,
    whole: Whole | None = None,
) -> Tensor:
    """Return the Lovász extension of 1 - IoU over the batch, averaged over the classes present.

    Source: Berman et al., The Lovász-Softmax loss, CVPR 2018, algorithm 1 and section 3.1.
    """
    del weights, smoothing
    probabilities, truth, present = _one_against_rest(logits, masks)
    # an ignored pixel has error 0 here: it is sorted behind every error and adds nothing
    errors, order = (truth - probabilities).abs().sort(dim=1, descending=True)
    with torch.no_grad():
        gradient = _jaccard_gradient(truth.gather(1, order))
    found = _mean_present((errors * gradient).sum(1), present)
    return found if whole is None else found * whole.share


def divergence(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean over pixels of the divergence from the teacher's probabilities.

    teacher: logits of the same shape. Both are divided by the temperature; the gradient keeps its
    size. Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    wanted = F.log_softmax(teacher.float() / temperature, dim=1)
    found = F.log_softmax(logits.float() / temperature, dim=1)
    apart = F.kl_div(found, wanted, reduction="sum", log_target=True)
    return temperature**2 * apart / logits[:, :1].numel()


def channel_divergence(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean over pictures and classes of the divergence of where a class is seen.

    Of each class the logits over all places are made a distribution. Source: Shu et al.,
    Channel-wise Knowledge Distillation for Dense Prediction, 2021, equations 3 and 4.
    """
    wanted = F.log_softmax(teacher.float().flatten(2) / temperature, dim=2)
    found = F.log_softmax(logits.float().flatten(2) / temperature, dim=2)
    apart = F.kl_div(found, wanted, reduction="sum", log_target=True)
    return temperature**2 * apart / (logits.shape[0] * logits.shape[1])


def attention_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean over pictures of the squared distance between two maps of attention.

    found, wanted: features [N, C, h, w] of any numbers of channels and sizes; a map is the mean of
    their squares over the channels, of unit length, at the smaller of both sizes. Source:
    Zagoruyko and Komodakis, Paying More Attention to Attention, 2017, equation 2.
    """
    height, width = (min(a, b) for a, b in zip(found.shape[2:], wanted.shape[2:], strict=True))

    def attention(features: Tensor) -> Tensor:
        energy = features.float().square().mean(1, keepdim=True)
        return F.normalize(F.adaptive_avg_pool2d(energy, (height, width)).flatten(1), dim=1)

    return (attention(found) - attention(wanted)).square().sum(1).mean()


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
        return torch.from_numpy(weights).to(device)
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


LOSSES: dict[str, _Term] = {"cross_entropy": cross_entropy, "dice": dice, "lovasz": lovasz}
