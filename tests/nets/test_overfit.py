"""A network that learns can learn eight pictures by heart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobileseg.nets.module import Net, build
from mobileseg.nets.zoo import zoo_net
from mobileseg.train.config import IGNORE, DataConfig, LossConfig
from mobileseg.train.losses import make_loss
from mobileseg.train.pairs import pairs
from mobileseg.train.pictures import read_image, read_mask, resize_image, resize_mask

CLASSES = 11
# CamVid may not be shipped: a folder with its train.txt, and masks where 11 is void.
CAMVID = os.environ.get("MOBILESEG_CAMVID", "")


@dataclass(frozen=True)
class Plan:
    """How a network learns them: at what size (height, width), in how many steps of what rate.

    What is learnt is the middle of each picture, enlarged `zoom` times to `size`. Logits of every
    fourth or eighth pixel, enlarged between, cannot draw CamVid's lamp posts, four pixels wide,
    whatever they are (`test_what_coarse_logits_can_draw`). So the networks that end there see the
    pictures larger.
    """

    size: tuple[int, int] = (96, 128)
    zoom: int = 1
    steps: int = 300
    lr: float = 5e-3


PLANS = {
    "mobilenet_deconv": Plan(),
    "mobilenet_v2_deconv": Plan(),
    "unet_mobilenet_v2": Plan(),
    "portrait_lite": Plan(zoom=4),
    "portrait_squeeze": Plan(zoom=2),
    "portrait": Plan(zoom=2, steps=600),
    "portrait_large": Plan(),
    "portrait_tiny": Plan(zoom=4, steps=1000),
    "lraspp_mobilenet_v3_small": Plan((192, 256), zoom=8),
    "lraspp_mobilenet_v3_large": Plan((192, 256), zoom=8),
    "deeplabv3plus_mobilenet_v2": Plan(zoom=2),
    "hrnet_w18_small": Plan(zoom=2),
    "fast_scnn": Plan((192, 256), zoom=4),  # its pyramid of 6 bins takes 192 pixels
    "icnet": Plan((192, 256), zoom=4),
    "segnet_basic": Plan((64, 96)),
    "unet": Plan((64, 96)),
    "segnet": Plan((64, 96)),
    "deeplabv3plus_xception65": Plan((64, 96), zoom=2),
    "hrnet_w18": Plan((64, 96), zoom=2),
    "pspnet": Plan((64, 96), zoom=4),
    "deeplabv3plus_xception65_os8": Plan((64, 96), zoom=2),
}


def eight(plan: Plan) -> tuple[Tensor, Tensor]:
    names = tuple(str(i) for i in range(CLASSES))
    data = DataConfig(root=Path(CAMVID), classes=names, ignore=CLASSES)
    found = pairs(data, "train")
    chosen = [found[i] for i in np.linspace(0, len(found) - 1, 8).astype(int)]
    images = [resize_image(middle(read_image(each.image), plan), plan.size) for each in chosen]
    masks = [resize_mask(middle(read_mask(each.mask, data), plan), plan.size) for each in chosen]
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return (x - 128) / 128, torch.from_numpy(np.stack(masks)).long()


def middle(picture: npt.NDArray[np.uint8], plan: Plan) -> npt.NDArray[np.uint8]:
    height, width = (side // plan.zoom for side in plan.size)
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def miou(net: Net, x: Tensor, target: Tensor) -> float:
    """Return the class mean over the pictures, batch norms holding these pictures' statistics."""
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    with torch.no_grad():
        net.train()(x)
        found = net.eval()(x).argmax(1)
    net.train()
    return class_mean(found, target)


def class_mean(found: Tensor, target: Tensor) -> float:
    seen = target != IGNORE
    shares = []
    for label in target[seen].unique():
        mine, theirs = (found == label) & seen, (target == label) & seen
        shares.append(float((mine & theirs).sum() / (mine | theirs).sum()))
    return float(np.mean(shares))


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID, reason="MOBILESEG_CAMVID names no folder")
@pytest.mark.parametrize("name", PLANS)
def test_eight_pictures_by_heart(name: str) -> None:
    plan = PLANS[name]
    torch.manual_seed(0)
    x, target = eight(plan)
    net = build(zoo_net(name, plan.size, CLASSES, "test")).train()
    net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    # the Lovász term weighs a lamp post like the sky
    loss = make_loss(LossConfig(cross_entropy=1.0, lovasz=1.0))
    optimizer = torch.optim.Adam(net.parameters(), plan.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.lr, plan.steps)
    best = 0.0
    for step in range(1, plan.steps + 1):
        optimizer.zero_grad()
        loss(net(x), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 25 == 0:
            best = max(best, miou(net, x, target))
            print(f"{name}: step {step}, mIoU {best:.4f}", flush=True)
        if best >= 0.95:
            return
    assert best >= 0.95


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID, reason="MOBILESEG_CAMVID names no folder")
@pytest.mark.parametrize(
    ("zoom", "stride", "reached"), [(1, 4, 0.943), (1, 8, 0.877), (2, 4, 0.978), (2, 8, 0.928)]
)
def test_what_coarse_logits_can_draw(zoom: int, stride: int, reached: float) -> None:
    """Logits of every fourth or eighth pixel, optimised freely: no network does better."""
    _, target = eight(Plan(zoom=zoom))
    height, width = target.shape[1:]
    logits = torch.zeros(8, CLASSES, height // stride, width // stride, requires_grad=True)
    loss = make_loss(LossConfig(cross_entropy=1.0, lovasz=1.0))
    optimizer = torch.optim.Adam([logits], 0.3)
    for _ in range(300):
        optimizer.zero_grad()
        wide = F.interpolate(logits, size=(height, width), mode="bilinear")
        loss(wide, target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert class_mean(wide.argmax(1), target) == pytest.approx(reached, abs=0.01)
