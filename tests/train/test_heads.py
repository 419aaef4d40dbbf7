"""Auxiliary heads: their losses are added, and they are left alone afterwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileseg.train.config import LossConfig
from mobileseg.train.heads import Heads
from mobileseg.train.losses import edges, make_loss


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.coarse = nn.Conv2d(4, 2, 3, stride=2, padding=1)
        self.fine = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.training:
            self.coarse(x)
        out: Tensor = self.fine(x)
        return out


def test_the_losses_of_heads() -> None:
    net, x = TwoHeads(), torch.rand(2, 3, 8, 6)
    labels = torch.randint(0, 2, (2, 8, 6))
    loss = make_loss(LossConfig(cross_entropy=1.0), None, 0.0)
    with Heads(net, ["coarse"]) as heads:
        net(x)
        total = heads.loss(loss, labels)
        coarse = net.coarse(net.body(x))
        wide = F.interpolate(coarse, size=(8, 6), mode="bilinear")
        torch.testing.assert_close(total, F.cross_entropy(wide, labels))
        heads.loss(loss, labels)
        net.eval()(x)
        assert heads.loss(loss, labels) == 0
    net.train()(x)
    assert heads.loss(loss, labels) == 0


def test_no_heads_no_loss() -> None:
    net = TwoHeads()
    with Heads(net, []) as heads:
        net(torch.rand(1, 3, 4, 4))
        assert heads.loss(make_loss(LossConfig(dice=1.0), None, 0.0), torch.zeros(1, 4, 4)) == 0


def test_a_head_of_one_channel_says_where_classes_meet() -> None:
    net, x = TwoHeads(), torch.rand(2, 3, 8, 6)
    net.coarse = nn.Conv2d(4, 1, 1)
    labels = torch.randint(0, 2, (2, 8, 6))
    with Heads(net, ["coarse"]) as heads:
        net(x)
        total = heads.loss(make_loss(LossConfig(dice=1.0)), labels)
        torch.testing.assert_close(total, edges(net.coarse(net.body(x)), labels))
