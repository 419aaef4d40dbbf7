"""The hard case: a trained network whose channels are scaled apart, its function unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileseg.export.runtime import pixels_as
from mobileseg.files import shipped
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import FOR_TFLITE, normalise, run_passes
from mobileseg.graph.trace import trace
from mobileseg.quantize.equalise import rescaled
from mobileseg.quantize.ties import channel_ties
from mobileseg.train.config import DataConfig
from mobileseg.train.data import resize_mask
from mobileseg.train.evaluate import EvalSet, load_eval
from mobileseg.train.pairs import pairs

SIZE = (64, 64)
DATA = DataConfig(root=shipped("assets", "data", "portrait_sample"), test=Path("test.txt"))


def conv(into: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
    made = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(made, nn.BatchNorm2d(out))


class Inverted(nn.Module):
    """MobileNetV2's block: wide in the middle, linear at the end, a sum around it."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 4 * into
        self.expand, self.dw = conv(into, wide), conv(wide, wide, 3, stride, wide)
        self.project = conv(wide, out)
        self.sums = into == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(F.relu(self.dw(F.relu(self.expand(x)))))
        return x + y if self.sums else y


class Small(nn.Module):
    """A segmenter of such blocks: stride 8, with a branch from stride 4 joined in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 12, 3, 2)
        self.fine = nn.Sequential(Inverted(12, 16, 2), Inverted(16, 16, 1))
        self.deep = nn.Sequential(Inverted(16, 24, 2), Inverted(24, 24, 1), Inverted(24, 24, 1))
        self.join = conv(16 + 24, 24)
        self.head = nn.Conv2d(24, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(F.relu(self.stem(x)))
        deep = F.interpolate(self.deep(fine), (16, 16), mode="bilinear", align_corners=False)
        joined = F.relu(self.join(torch.cat([fine, deep], 1)))
        out = self.head(joined)
        return F.interpolate(out, SIZE, mode="bilinear", align_corners=False)


def trained(epochs: int = 8) -> tuple[Graph, EvalSet, EvalSet]:
    """Return a trained network's float graph, its training pictures and others to judge it on."""
    torch.manual_seed(0)
    train, test = (load_eval(pairs(DATA, split), DATA, SIZE) for split in ("train", "test"))
    images = torch.from_numpy(pixels_as(train.images, np.dtype(np.float32)))
    masks = torch.from_numpy(np.stack([resize_mask(mask, SIZE) for mask in train.masks])).long()
    net = Small().to(memory_format=torch.channels_last)
    steps = epochs * len(images) // 16
    best = torch.optim.AdamW(net.parameters(), 6e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(best, 6e-3, steps)
    for _ in range(steps):
        picked = torch.randint(len(images), (16,))
        flip = bool(torch.rand(()) < 0.5)
        x, y = (part[picked].flip(-1) if flip else part[picked] for part in (images, masks))
        best.zero_grad()
        F.cross_entropy(net(x), y, ignore_index=255).backward()
        best.step()
        plan.step()
    graph = run_passes(normalise(trace(net.eval(), SIZE)), FOR_TFLITE)
    return graph, train, test


def spread(graph: Graph, octaves: float, only: str = "") -> Graph:
    """Return the graph with every free channel scaled by 2 ** (-octaves ... octaves).

    only: an activation to which the scaling is limited (and what is tied to it).
    """
    ties = channel_ties(graph)
    random = np.random.default_rng(0)
    size = 1 + max(int(classes.max()) for classes in ties.classes.values())
    scale = np.exp2(random.uniform(-octaves, octaves, size))
    scale[list(ties.pinned)] = 1
    if only:
        scale[~np.isin(np.arange(size), ties.classes[only])] = 1
    return rescaled(graph, {name: scale[classes] for name, classes in ties.classes.items()})
