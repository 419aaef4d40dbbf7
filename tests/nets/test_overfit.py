"""A network that learns can learn eight pictures by heart."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileseg.nets.module import Net, build
from mobileseg.nets.zoo import zoo_net
from mobileseg.train.config import IGNORE, DataConfig
from mobileseg.train.pairs import pairs
from mobileseg.train.pictures import read_image, read_mask, resize_image, resize_mask

CLASSES = 11
# CamVid may not be shipped: a folder with its train.txt, and masks where 11 is void.
CAMVID = os.environ.get("MOBILESEG_CAMVID", "")


@dataclass(frozen=True)
class Plan:
    """How a network learns them: at what size (height, width), in how many steps of what rate."""

    size: tuple[int, int] = (96, 128)
    steps: int = 800
    lr: float = 5e-3


# Minutes each on two quiet cores. These three come to 0.95 and more; of the others none has been
# run to its end. What ends at a stride of 4 or 8 cannot follow a lamp post at this size:
# deeplabv3plus_mobilenet_v2 stood at 0.87 after 350 steps, hrnet_w18_small at 0.89 after 200 of
# 128x192; the portrait nets end at 0.82.
PLANS = {
    "mobilenet_deconv": Plan((64, 96), 400),
    "mobilenet_v2_deconv": Plan(),
    "unet_mobilenet_v2": Plan(),
}


def eight(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    names = tuple(str(i) for i in range(CLASSES))
    data = DataConfig(root=Path(CAMVID), classes=names, ignore=CLASSES)
    found = pairs(data, "train")
    chosen = [found[i] for i in np.linspace(0, len(found) - 1, 8).astype(int)]
    images = np.stack([resize_image(read_image(each.image), size) for each in chosen])
    masks = np.stack([resize_mask(read_mask(each.mask, data), size) for each in chosen])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return (x - 128) / 128, torch.from_numpy(masks).long()


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
    x, target = eight(plan.size)
    net = build(zoo_net(name, plan.size, CLASSES, "test")).train()
    net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), plan.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.lr, plan.steps)
    best = 0.0
    for step in range(1, plan.steps + 1):
        optimizer.zero_grad()
        F.cross_entropy(net(x), target, ignore_index=IGNORE).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            best = max(best, miou(net, x, target))
            print(f"{name}: step {step}, mIoU {best:.4f}")
        if best >= 0.95:
            return
    assert best >= 0.95
