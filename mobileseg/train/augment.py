"""A batch of uint8 pictures to a batch of net inputs, changed at random.

All geometry is one affine map per picture and so one sampling of the batch; brightness,
contrast and saturation are one 3x3 matrix per picture and so one matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mobileseg.train.config import IGNORE, AugmentConfig

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_NOISY = 0.25  # normal numbers are the dearest part: draw them for a quarter of the pictures


@dataclass(frozen=True)
class Part:
    """The pictures `start` to `stop` (excluded) of a batch of `count`."""

    start: int
    stop: int
    count: int

    def needed(self, config: AugmentConfig) -> npt.NDArray[np.int64]:
        """Return the numbers of the pictures that these are made of, in their batch.

        Where others are pasted behind them, the one before the first comes first.
        """
        before = bool(config.paste) and self.stop - self.start < self.count
        return np.arange(self.start - before, self.stop) % self.count


def normalise(images: Tensor) -> Tensor:
    """Return uint8 [N, H, W, 3] as float32 [N, 3, H, W], (x - 128) / 128, channels last."""
    return images.permute(0, 3, 1, 2).float().sub_(128).mul_(1 / 128)


def augment(
    images: Tensor,
    masks: Tensor,
    size: tuple[int, int],
    config: AugmentConfig,
    generator: Generator,
    part: Part | None = None,
) -> tuple[Tensor, Tensor]:
    """Return inputs float32 [N, 3, *size] and masks int64 [N, *size].

    images uint8 [N, H, W, 3], masks uint8 [N, H, W]. What lies outside the picture is mid-grey
    and ignored. Random numbers come from `generator`, on the CPU, in a fixed order: the same
    state gives the same batch.

    part: images and masks are those that it needs of a batch, and it comes back as the whole batch
    would hold it: all numbers of the batch are drawn.
    """
    height, width = masks.shape[1:]
    part = part or Part(0, len(masks), len(masks))
    needed = torch.from_numpy(part.needed(config))
    affine = _affine(part.count, height / width, config, generator)[needed]
    changed = normalise(images)
    labels = masks
    if size != (height, width) or not torch.equal(affine, torch.eye(2, 3).expand_as(affine)):
        grid = _grid(affine.to(images.device), size)
        changed = F.grid_sample(changed, grid, "bilinear", "zeros", align_corners=False)
        # sampling pads with 0: shift so that 0 means ignored
        shifted = masks.unsqueeze(1).float() - IGNORE
        labels = F.grid_sample(shifted, grid, "nearest", "zeros", align_corners=False)
        labels = labels.squeeze(1) + IGNORE
    labels = labels.long()
    if config.paste:
        changed, labels = _paste(changed, labels, config.paste, generator, part)
    changed = _photometric(changed.contiguous(), config, generator, part)
    return changed.contiguous(memory_format=torch.channels_last), labels


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    return torch.rand(count, generator=generator) * (high - low) + low


def _affine(count: int, aspect: float, config: AugmentConfig, generator: Generator) -> Tensor:
    """Return [N, 2, 3]: from output to input, both in [-1, 1] as affine_grid wants it.

    Output point -> mirror -> zoom -> turn -> shift -> into the crop window. `aspect` is height /
    width: a turn is a turn in pixels, not in [-1, 1] of unequal sides.
    """
    low, high = (math.log(factor) for factor in config.scale)
    zoom = torch.exp(-_uniform(count, low, high, generator))
    turn = math.radians(config.rotate_degrees)
    angle = _uniform(count, -turn, turn, generator)
    shift = 2 * config.translate * _uniform(2 * count, -1, 1, generator).view(count, 2)
    window = _uniform(2 * count, config.crop, 1, generator).view(count, 2)
    centre = (1 - window) * _uniform(2 * count, -1, 1, generator).view(count, 2)
    mirror = torch.where(torch.rand(count, generator=generator) < config.flip, -1.0, 1.0)

    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack(
        [
            torch.stack([cos * mirror, -sin * aspect, shift[:, 0]], dim=1),
            torch.stack([sin * mirror / aspect, cos, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    rows = rows * window.unsqueeze(2)
    rows[:, :, 2] += centre
    return rows


def _grid(affine: Tensor, size: tuple[int, int]) -> Tensor:
    """Return [N, *size, 2], where to sample; as F.affine_grid, a tenth of its time on a CPU."""
    height, width = size
    x = (torch.arange(width, device=affine.device) * 2 + 1) / width - 1
    y = (torch.arange(height, device=affine.device) * 2 + 1) / height - 1
    across, down, shift = affine.view(-1, 1, 1, 2, 3).unbind(4)
    return across * x.view(1, 1, -1, 1) + (down * y.view(1, -1, 1, 1) + shift)


def _paste(
    x: Tensor, labels: Tensor, chance: float, generator: Generator, part: Part
) -> tuple[Tensor, Tensor]:
    """Return batches in which some pictures' background (class 0) is the next picture.

    What is there besides, ignored pixels too, stays in front, with an edge of soft pixels: a hard
    one would tell the network where to cut. One batch in random order is both sides.
    Source: Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation, 2021.
    """
    chosen = (torch.rand(part.count, generator=generator) < chance).to(x.device)
    behind, theirs = x.roll(1, dims=0), labels.roll(1, dims=0)
    # A part of a batch comes with the picture before it, which is wanted behind only.
    own = slice(len(x) - (part.stop - part.start), None)
    x, labels, behind, theirs = x[own], labels[own], behind[own], theirs[own]
    front = (labels != 0) | ~chosen[part.start : part.stop].view(-1, 1, 1)
    soft = F.avg_pool2d(front.unsqueeze(1).float(), 3, 1, 1, count_include_pad=False)
    return torch.lerp(behind, x, soft), torch.where(front, labels, theirs)


def _photometric(x: Tensor, config: AugmentConfig, generator: Generator, part: Part) -> Tensor:
    """Return float [N, 3, H, W] in [-1, 1) with changed light and colour."""
    count, own = part.count, slice(part.start, part.stop)
    matrix, bias = _colour_matrix(count, config, generator)
    growth = math.log1p(config.gamma)
    gamma = torch.exp(_uniform(count, -growth, growth, generator))
    blurred = torch.rand(count, generator=generator) < config.blur
    strength = torch.rand(count, generator=generator)
    noisy = torch.rand(count, generator=generator) < _NOISY
    deviation = 2 * config.noise * torch.rand(count, generator=generator)

    if config.brightness or config.contrast or config.saturation:
        flat = torch.baddbmm(bias[own].to(x.device), matrix[own].to(x.device), x.flatten(2))
        x = flat.view_as(x).clamp_(-1, 127 / 128)
    if config.gamma:
        unit = x.add(1).mul_(
            128 / 255
        )  # unit ** gamma, twice as fast on a CPU; log(0) ends as 0 too
        power = gamma[own].to(x.device).view(-1, 1, 1, 1)
        x = unit.log_().mul_(power).exp_().mul_(255 / 128).sub_(1)
    x = _blur(x, blurred[own].nonzero().squeeze(1), strength[own])
    if config.noise:
        x = _noise(x, noisy.nonzero().squeeze(1), deviation, generator, part)
    return x


def _colour_matrix(
    count: int, config: AugmentConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Return [N, 3, 3] and [N, 3, 1]: saturation, then contrast about mid-grey, then brightness."""
    saturation = 1 + config.saturation * _uniform(count, -1, 1, generator).view(-1, 1, 1)
    contrast = 1 + config.contrast * _uniform(count, -1, 1, generator).view(-1, 1, 1)
    bias = 2 * config.brightness * _uniform(count, -1, 1, generator).view(-1, 1, 1)
    grey = torch.tensor(_GREY).expand(3, 3)
    return contrast * (saturation * torch.eye(3) + (1 - saturation) * grey), bias.expand(-1, 3, 1)


def _blur(x: Tensor, chosen: Tensor, strength: Tensor) -> Tensor:
    if not len(chosen):
        return x
    chosen, strength = chosen.to(x.device), strength[chosen].to(x.device)
    sharp = x[chosen]
    planes = F.pad(sharp.flatten(0, 1).unsqueeze(1), (2, 2, 2, 2), mode="replicate")
    kernel = torch.tensor(_BINOMIAL, device=x.device)
    planes = F.conv2d(planes, kernel.view(1, 1, 5, 1))
    soft = F.conv2d(planes, kernel.view(1, 1, 1, 5)).view_as(sharp)
    return x.index_copy(0, chosen, torch.lerp(sharp, soft, strength.view(-1, 1, 1, 1)))


def _noise(
    x: Tensor, chosen: Tensor, deviation: Tensor, generator: Generator, part: Part
) -> Tensor:
    """chosen: the numbers of the pictures with noise, in the whole batch."""
    noise = torch.randn((len(chosen), *x.shape[1:]), generator=generator)
    own = (chosen >= part.start) & (chosen < part.stop)
    noise, chosen = noise[own], chosen[own]
    if not len(chosen):
        return x
    noise = (noise * deviation[chosen].view(-1, 1, 1, 1)).to(x.device)
    chosen = (chosen - part.start).to(x.device)
    return x.index_copy(0, chosen, (x[chosen] + noise).clamp_(-1, 127 / 128))
