"""A network that learns can learn eight pictures by heart."""

from __future__ import annotations

import os
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

SIZE = (96, 128)
CLASSES = 11
STEPS = 800
# CamVid may not be shipped: a folder with its train.txt, and masks where 11 is void.
CAMVID = os.environ.get("MOBILESEG_CAMVID", "")
# Minutes each on two cores. The portrait nets are too small for it: 0.82 at this size.
SMALL = ("mobilenet_v2_deconv", "unet_mobilenet_v2")


def eight() -> tuple[Tensor, Tensor]:
    names = tuple(str(i) for i in range(CLASSES))
    data = DataConfig(root=Path(CAMVID), classes=names, ignore=CLASSES)
    found = pairs(data, "train")
    chosen = [found[i] for i in np.linspace(0, len(found) - 1, 8).astype(int)]
    images = np.stack([resize_image(read_image(each.image), SIZE) for each in chosen])
    masks = np.stack([resize_mask(read_mask(each.mask, data), SIZE) for each in chosen])
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
@pytest.mark.parametrize("name", SMALL)
def test_eight_pictures_by_heart(name: str) -> None:
    torch.manual_seed(0)
    x, target = eight()
    net = build(zoo_net(name, SIZE, CLASSES, "test")).train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, STEPS)
    best = 0.0
    for step in range(1, STEPS + 1):
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
