"""A batch of uint8 pictures to a batch of net inputs, changed at random.

All geometry is one affine map per picture and so one sampling of the batch; brightness, contrast,
saturation, hue and grey are one 3x3 matrix per picture and so one matrix product. What is switched
off draws no numbers, but for the first few: with them, what came later would draw others.
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
_BY_MATRIX = ("brightness", "contrast", "saturation", "hue_degrees", "grey")
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
    if config.cutout:
        changed, labels = _cutout(changed, labels, config.cutout, generator, part)
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
    rows[:, :, :2] @= _leaning(count, aspect, config, generator)
    return rows


def _leaning(count: int, aspect: float, config: AugmentConfig, generator: Generator) -> Tensor:
    """Return [N, 2, 2]: what is done first, mirrored top to bottom, turned by quarters, sheared."""
    first = torch.eye(2).repeat(count, 1, 1)
    if config.flip_vertical:
        upside = torch.rand(count, generator=generator) < config.flip_vertical
        first[:, 1, 1] = torch.where(upside, -1.0, 1.0)
    if config.quarter_turn:
        chosen = torch.rand(count, generator=generator) < config.quarter_turn
        quarters = torch.randint(1, 4, (count,), generator=generator) * chosen
        turn = torch.tensor([[0.0, -aspect], [1 / aspect, 0.0]])
        powers = torch.stack([torch.linalg.matrix_power(turn, n) for n in range(4)])
        first = powers[quarters] @ first
    if config.shear_degrees:
        most = math.radians(config.shear_degrees)
        shear = torch.eye(2).repeat(count, 1, 1)
        shear[:, 0, 1] = aspect * torch.tan(_uniform(count, -most, most, generator))
        first = shear @ first
    return first


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

    if any(
        (config.brightness, config.contrast, config.saturation, config.hue_degrees, config.grey)
    ):
        flat = torch.baddbmm(bias[own].to(x.device), matrix[own].to(x.device), x.flatten(2))
        x = flat.view_as(x).clamp_(-1, 127 / 128)
    if config.gamma:
        unit = x.add(1).mul_(
            128 / 255
        )  # unit ** gamma, twice as fast on a CPU; log(0) ends as 0 too
        power = gamma[own].to(x.device).view(-1, 1, 1, 1)
        x = unit.log_().mul_(power).exp_().mul_(255 / 128).sub_(1)
    if config.light:
        x = _light(x, config.light, generator, part)
    x = _blur(x, blurred[own].nonzero().squeeze(1), strength[own])
    if config.sharpen:
        sharper = torch.rand(count, generator=generator)[own] < config.sharpen
        strength = -torch.rand(count, generator=generator)[own]
        x = _blur(x, sharper.nonzero().squeeze(1), strength).clamp_(-1, 127 / 128)
    if config.coarse:
        x = _coarse(x, config.coarse, generator, part)
    if config.noise:
        x = _noise(x, noisy.nonzero().squeeze(1), deviation, generator, part)
    return x


def _colour_matrix(
    count: int, config: AugmentConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Return [N, 3, 3] and [N, 3, 1]: hue, saturation, contrast about mid-grey, brightness."""
    saturation = 1 + config.saturation * _uniform(count, -1, 1, generator).view(-1, 1, 1)
    contrast = 1 + config.contrast * _uniform(count, -1, 1, generator).view(-1, 1, 1)
    bias = 2 * config.brightness * _uniform(count, -1, 1, generator).view(-1, 1, 1)
    if config.grey:
        colourless = torch.rand(count, generator=generator) < config.grey
        saturation = saturation.masked_fill(colourless.view(-1, 1, 1), 0)
    grey = torch.tensor(_GREY).expand(3, 3)
    matrix = contrast * (saturation * torch.eye(3) + (1 - saturation) * grey)
    if config.hue_degrees:
        most = math.radians(config.hue_degrees)
        matrix = matrix @ _hue(_uniform(count, -most, most, generator).view(-1, 1, 1))
    return matrix, bias.expand(-1, 3, 1)


def _hue(angle: Tensor) -> Tensor:
    """Return [N, 3, 3], turns about the grey axis, which greys do not feel (Rodrigues' formula)."""
    across = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return torch.cos(angle) * torch.eye(3) + torch.sin(angle) * across + (1 - torch.cos(angle)) / 3


def _light(x: Tensor, most: float, generator: Generator, part: Part) -> Tensor:
    """Return pictures lit from one side, a different one each: a lamp, a window."""
    count, own = part.count, slice(part.start, part.stop)
    angle = _uniform(count, 0, 2 * math.pi, generator)[own].to(x.device).view(-1, 1, 1, 1)
    strength = most * torch.rand(count, generator=generator)[own].to(x.device).view(-1, 1, 1, 1)
    across = torch.linspace(-1, 1, x.shape[3], device=x.device).view(1, 1, 1, -1)
    down = torch.linspace(-1, 1, x.shape[2], device=x.device).view(1, 1, -1, 1)
    side = (torch.cos(angle) * across + torch.sin(angle) * down).clamp(-1, 1)
    return (x + 1).mul_(1 + strength * side).sub_(1).clamp_(-1, 127 / 128)


def _coarse(x: Tensor, chance: float, generator: Generator, part: Part) -> Tensor:
    """Return pictures some of which have lost their finest details."""
    chosen = torch.rand(part.count, generator=generator) < chance
    factors = _uniform(part.count, 2, 4, generator)
    for i in chosen[part.start : part.stop].nonzero().flatten().tolist():
        factor = float(factors[part.start + i])
        small = [max(1, round(side / factor)) for side in x.shape[2:]]
        few = F.interpolate(x[i : i + 1], size=small, mode="bilinear", antialias=True)
        x[i : i + 1] = F.interpolate(few, size=x.shape[2:], mode="bilinear")
    return x


def _cutout(
    x: Tensor, labels: Tensor, chance: float, generator: Generator, part: Part
) -> tuple[Tensor, Tensor]:
    """Return batches in which a box of some pictures is mid-grey, and ignored.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with
    Cutout, 2017; there the class stays, for it is of the whole picture.
    """
    own = slice(part.start, part.stop)
    chosen = (torch.rand(part.count, generator=generator) < chance)[own].to(x.device)
    box = _uniform(4 * part.count, 0, 1, generator).view(part.count, 4)[own].to(x.device)

    def inside(length: int, centre: Tensor, side: Tensor) -> Tensor:
        place = (torch.arange(length, device=x.device) + 0.5) / length
        return (place - centre.unsqueeze(1)).abs() < side.unsqueeze(1) / 4

    rows = inside(x.shape[2], box[:, 0], box[:, 1]).unsqueeze(2)
    columns = inside(x.shape[3], box[:, 2], box[:, 3]).unsqueeze(1)
    gone = rows & columns & chosen.view(-1, 1, 1)
    return x.masked_fill(gone.unsqueeze(1), 0.0), labels.masked_fill(gone, IGNORE)


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
