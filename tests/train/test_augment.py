"""Geometry and light, one at a time and all together."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from mobileseg.train.augment import Part, augment, normalise
from mobileseg.train.config import IGNORE, AugmentConfig

OFF = AugmentConfig(
    flip=0.0,
    scale=(1.0, 1.0),
    rotate_degrees=0.0,
    translate=0.0,
    crop=1.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    gamma=0.0,
    blur=0.0,
    noise=0.0,
)
LIGHT = {
    "brightness": replace(OFF, brightness=0.5),
    "contrast": replace(OFF, contrast=0.5),
    "saturation": replace(OFF, saturation=0.5),
    "gamma": replace(OFF, gamma=0.5),
    "blur": replace(OFF, blur=1.0),
    "noise": replace(OFF, noise=0.5),
    "hue": replace(OFF, hue_degrees=90.0),
    "grey": replace(OFF, grey=1.0),
    "light": replace(OFF, light=0.5),
    "sharpen": replace(OFF, sharpen=1.0),
    "coarse": replace(OFF, coarse=1.0),
}
# Everything at once, and strongly.
ALL = AugmentConfig(
    flip_vertical=0.5,
    quarter_turn=0.5,
    shear_degrees=20.0,
    crop=0.5,
    rotate_degrees=90.0,
    hue_degrees=60.0,
    grey=0.3,
    light=0.5,
    blur=0.5,
    sharpen=0.5,
    coarse=0.5,
    cutout=0.5,
    paste=0.7,
)


def batch(count: int = 3, height: int = 22, width: int = 18) -> tuple[Tensor, Tensor]:
    seeded = Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, height, width, 3), generator=seeded, dtype=torch.uint8)
    masks = torch.randint(0, 5, (count, height, width), generator=seeded, dtype=torch.uint8)
    return images, masks


def run(
    config: AugmentConfig, size: tuple[int, int] = (22, 18), seed: int = 7
) -> tuple[Tensor, Tensor]:
    return augment(*batch(), size, config, Generator().manual_seed(seed))


def test_normalise() -> None:
    images, _ = batch()
    x = normalise(images)
    assert x.shape == (3, 3, 22, 18)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(x[1, 2], (images[1, :, :, 2].float() - 128) / 128)


def test_all_off_changes_nothing() -> None:
    images, masks = batch()
    x, y = run(OFF)
    assert torch.equal(x, normalise(images))
    assert y.dtype == torch.int64
    assert torch.equal(y, masks.long())
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_mirror() -> None:
    images, masks = batch()
    x, y = run(replace(OFF, flip=1.0))
    torch.testing.assert_close(x, normalise(images).flip(3), atol=1e-4, rtol=0)
    assert torch.equal(y, masks.flip(2).long())


def test_upside_down() -> None:
    images, masks = batch()
    x, y = run(replace(OFF, flip_vertical=1.0))
    torch.testing.assert_close(x, normalise(images).flip(2), atol=1e-4, rtol=0)
    assert torch.equal(y, masks.flip(1).long())


def test_quarter_turns_of_squares_are_exact() -> None:
    images, masks = batch(16, 20, 20)
    _, y = augment(
        images, masks, (20, 20), replace(OFF, quarter_turn=1.0), Generator().manual_seed(5)
    )
    turns = [
        next(n for n in (1, 2, 3) if torch.equal(mine, mask.long().rot90(n)))
        for mine, mask in zip(y, masks, strict=True)
    ]
    assert set(turns) == {1, 2, 3}


def test_sheared_uprights_lean() -> None:
    masks = torch.zeros((8, 40, 60), dtype=torch.uint8)
    masks[:, :, 30] = 1
    images = torch.zeros((8, 40, 60, 3), dtype=torch.uint8)
    _, y = augment(
        images, masks, (40, 60), replace(OFF, shear_degrees=30.0), Generator().manual_seed(5)
    )
    for mine in y:
        rows, columns = torch.nonzero(mine == 1, as_tuple=True)
        slope = float((columns[-1] - columns[0]) / (rows[-1] - rows[0]))
        assert abs(slope) < math.tan(math.radians(31))
        # Every row moves along by the same, to the pixel.
        assert (columns - (columns[0] + slope * (rows - rows[0]))).abs().max() <= 1.5
    assert len({tuple(mine.flatten().tolist()) for mine in y}) > 4


def test_another_size_is_a_plain_resize() -> None:
    images, masks = batch()
    x, y = run(OFF, (44, 54))
    want = F.interpolate(normalise(images), (44, 54), mode="bilinear", align_corners=False)
    inside = (slice(None), slice(None), slice(1, -1), slice(2, -2))  # its border is not grey
    torch.testing.assert_close(x[inside], want[inside], atol=1e-4, rtol=0)
    want = F.interpolate(masks[:, None].float(), (44, 54), mode="nearest-exact")
    assert (y == want[:, 0]).float().mean() > 0.99  # ties of rounding apart


def test_quarter_turn_is_a_turn_of_pixels() -> None:
    """With unequal sides, a turn must keep squares square: compare with rot90 of the middle."""
    images = torch.full((64, 20, 30, 3), 128, dtype=torch.uint8)
    images[:, 8:12, 5:25] = 255  # a bar across, 20 long and 4 high
    masks = (images[..., 0] == 255).to(torch.uint8)
    _, y = augment(
        images, masks, (20, 30), replace(OFF, rotate_degrees=180.0), Generator().manual_seed(0)
    )
    heights = (y == 1).any(2).sum(1)
    widths = (y == 1).any(1).sum(1)
    upright = heights.argmax()
    assert heights[upright] >= 19
    assert widths[upright] <= 7  # unequal scaling would give 1.5 times or 2/3 of it
    area = (y == 1).flatten(1).sum(1).float()
    assert (area[heights < 15] - 80).abs().max() <= 12


def test_outside_is_ignored_and_grey() -> None:
    x, y = run(replace(OFF, scale=(0.5, 0.5)))
    assert (y[:, 0] == IGNORE).all()
    assert (x[:, :, 0] == 0).all()
    assert 0.15 < (y != IGNORE).float().mean() < 0.35
    _, y = run(replace(OFF, scale=(2.0, 2.0)))
    assert (y != IGNORE).all()


def test_crop_stays_inside_and_zooms() -> None:
    images, masks = batch()
    images[:] = torch.arange(22).mul(10).to(torch.uint8).view(1, 22, 1, 1)
    x, y = augment(images, masks, (22, 18), replace(OFF, crop=0.4), Generator().manual_seed(3))
    assert (y != IGNORE).all()
    span = (x.amax((1, 2, 3)) - x.amin((1, 2, 3))) * 128
    assert (span < 205).all()


def test_translate_moves_by_at_most_its_share() -> None:
    _, y = run(replace(OFF, translate=0.25))
    outside = (y == IGNORE).float()
    assert outside.any()
    assert (outside.amin(2).sum(1) <= 6).all()
    assert (outside.amin(1).sum(1) <= 5).all()


@pytest.mark.parametrize("name", LIGHT)
def test_light_changes_pictures_not_masks(name: str) -> None:
    images, masks = batch(16)
    x, y = augment(images, masks, (22, 18), LIGHT[name], Generator().manual_seed(2))
    assert torch.equal(y, masks.long())
    assert not torch.allclose(x, normalise(images), atol=0.02)
    assert x.min() >= -1
    assert x.max() < 1


def test_pasted_fronts_stand_before_the_next_picture() -> None:
    images, masks = batch()
    masks[0, :3] = IGNORE
    masks[1, 5:15] = 0
    x, y = augment(images, masks, (22, 18), replace(OFF, paste=1.0), Generator().manual_seed(2))
    labels, plain = masks.long(), normalise(images)
    behind = labels.roll(1, dims=0)
    assert torch.equal(y, torch.where(labels != 0, labels, behind))
    inside = F.avg_pool2d((labels != 0).float(), 3, 1, 1, count_include_pad=False)
    for share, source in ((1, plain), (0, plain.roll(1, dims=0))):
        sure = (inside == share).unsqueeze(1).expand_as(x)
        assert sure.any()
        torch.testing.assert_close(x[sure], source[sure])


def test_a_cut_out_box_is_grey_and_ignored() -> None:
    images, masks = batch(16)
    x, y = augment(images, masks, (22, 18), replace(OFF, cutout=1.0), Generator().manual_seed(2))
    gone = y == IGNORE
    shares = gone.flatten(1).float().mean(1)
    assert 0 < shares.max() <= 0.3
    assert torch.equal(y[~gone], masks.long()[~gone])
    kept = ~gone.unsqueeze(1).expand_as(x)
    assert torch.equal(x[kept], normalise(images)[kept])
    assert (x[~kept] == 0).all()


def test_grey_has_no_colour() -> None:
    x, _ = run(replace(OFF, grey=1.0))
    torch.testing.assert_close(x[:, :1].expand_as(x), x, atol=1e-5, rtol=0)


def test_light_comes_from_one_side() -> None:
    images = torch.full((12, 20, 20, 3), 128, dtype=torch.uint8)
    masks = torch.zeros((12, 20, 20), dtype=torch.uint8)
    x, _ = augment(images, masks, (20, 20), replace(OFF, light=0.5), Generator().manual_seed(2))
    # One side gains what the other loses.
    torch.testing.assert_close(x, -x.flip((2, 3)), atol=1e-5, rtol=0)
    assert 0.2 < x.amax() <= 0.5 + 1e-6


@pytest.mark.parametrize(("key", "most"), [("saturation", 1.0), ("hue_degrees", 90.0)])
def test_colour_leaves_grey_alone(key: str, most: float) -> None:
    images, masks = batch()
    images[:] = images[..., :1]
    x, _ = augment(images, masks, (22, 18), replace(OFF, **{key: most}), Generator().manual_seed(2))
    torch.testing.assert_close(x, normalise(images), atol=1e-5, rtol=0)


@given(seed=st.integers(0, 2**31), height=st.integers(3, 30), width=st.integers(3, 30))
@settings(max_examples=25, deadline=None)
def test_any_draw_is_valid_and_repeats(seed: int, height: int, width: int) -> None:
    config = ALL
    images, masks = batch()
    x, y = augment(images, masks, (height, width), config, Generator().manual_seed(seed))
    assert x.shape == (3, 3, height, width)
    assert y.shape == (3, height, width)
    assert x.isfinite().all()
    assert x.min() >= -1
    assert x.max() <= 127 / 128 + 1e-6
    assert set(y.flatten().tolist()) <= {0, 1, 2, 3, 4, IGNORE}
    again = augment(images, masks, (height, width), config, Generator().manual_seed(seed))
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])


@pytest.mark.parametrize("config", [AugmentConfig(blur=0.5), ALL], ids=["usual", "all"])
def test_parts_of_a_batch_are_the_batch(config: AugmentConfig) -> None:
    images, masks = batch(count=7)
    inputs, labels = augment(images, masks, (20, 16), config, Generator().manual_seed(3))
    for start, stop in ((0, 3), (3, 4), (4, 7), (0, 7)):
        part = Part(start, stop, 7)
        needed = part.needed(config)
        mine = augment(
            images[needed], masks[needed], (20, 16), config, Generator().manual_seed(3), part
        )
        torch.testing.assert_close(mine[0], inputs[start:stop], rtol=0, atol=1e-6)
        assert torch.equal(mine[1], labels[start:stop])
