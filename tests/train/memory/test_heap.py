"""What a step frees is there for the next one."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from mobileseg.nets.module import Net, build
from mobileseg.nets.zoo import zoo_net
from mobileseg.train.memory.heap import kept_heap


def faults(net: Net) -> int:
    """Return how many pages the third of three steps touches for the first time."""
    x = torch.zeros(4, 3, *net.spec.image_size)
    before = 0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        net(x).square().mean().backward()
        net.zero_grad()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's switch")
def test_pages_are_touched_once() -> None:
    net = build(zoo_net("portrait_lite", (256, 256), 2, "test")).train()
    plain = faults(net)
    assert plain > 1000
    with kept_heap():
        faults(net)
        kept = faults(net)
    assert kept < 0.2 * plain
    assert faults(net) > 0.5 * plain  # switched back
