"""Blocks that are computed again learn what plain ones do, and keep what they read alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Generator, Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.nets.module import Net, build
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo import zoo_net
from mobileseg.train.heads import Heads
from mobileseg.train.memory.lean import lean_forward, make_lean
from mobileseg.train.memory.recompute import Unit, recomputed, units
from mobileseg.train.memory.saved import saved_bytes
from tests.train.memory.test_lean import QUARTER, images, quarter

NAMES = ("mobilenet_v2_deconv", "lraspp_mobilenet_v3_small", "portrait_lite", "segnet_basic")


def small(name: str) -> NetSpec:
    return zoo_net(name, (64, 96), 3, "test")


def step(net: Net, x: Tensor, parts: Sequence[Unit] = ()) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output and all that a step leaves in the network."""
    net.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        with recomputed(net, parts):
            out = net(x)
        (out * out.detach().roll(1, 2)).mean().backward()
    left = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return out.detach(), left | dict(net.named_buffers())


@pytest.mark.parametrize("globs", [["*"], ["block*", "up*", "down*"]])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_statistics_are_the_plain_ones(name: str, globs: list[str]) -> None:
    spec = small(name)
    globs = [g for g in globs if g == "*" or any(b.name.startswith(g[:-1]) for b in spec.blocks)]
    x = images(*spec.image_size)
    expected, left = step(build(spec, 1), x)
    net = build(spec, 1)
    found, again = step(net, x, units(net, globs))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert again.keys() == left.keys()
    for key, value in left.items():
        torch.testing.assert_close(again[key], value, rtol=0, atol=0, msg=key)
    assert net.forward.__func__ is Net.forward  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", QUARTER)
def test_large_networks_learn_the_same(name: str) -> None:
    spec = quarter(name)
    x = images(*spec.image_size)
    expected, left = step(build(spec, 1), x)
    net = build(spec, 1)
    found, again = step(net, x, units(net, ["*"]))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert again.keys() == left.keys()
    for key, value in left.items():
        torch.testing.assert_close(again[key], value, rtol=0, atol=0, msg=key)


def test_dropout_drops_the_same_again() -> None:
    spec = small("portrait_lite")
    x = images(*spec.image_size)
    found = []
    for globs in ([], ["*"]):
        net = build(spec, 1)
        net.stage2_1.act = nn.Sequential(nn.ReLU(), nn.Dropout(0.3))
        found.append(step(net, x, units(net, globs)))
    for key, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][key], value, rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("kind", [None, torch.bfloat16])
def test_lean_and_less_precise_units(kind: torch.dtype | None) -> None:
    spec = small("lraspp_mobilenet_v3_small")
    x = images(*spec.image_size)
    with torch.autocast("cpu", kind, enabled=kind is not None):
        expected, left = step(build(spec, 1), x)
        net = build(spec, 1)
        make_lean(net)
        with lean_forward():
            found, again = step(net, x, units(net, ["block*"], lean=True))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for key, value in left.items():
        scale = max(1e-6, float(value.float().abs().max()))
        close = 1e-4 if kind is None else 0.1
        torch.testing.assert_close(again[key] / scale, value / scale, rtol=0, atol=close, msg=key)


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_falls(name: str, lean: bool) -> None:
    net = build(small(name), device="meta")
    x = torch.empty(2, 3, 64, 96, device="meta")
    if lean:
        make_lean(net)
    before = saved_bytes(net, x, lean)
    after = saved_bytes(net, x, lean, units(net, ["*"], lean))
    assert after.total < 0.8 * before.total
    assert set(after.by_block()) <= {block.name for block in net.spec.blocks}


def test_units_are_what_names_say() -> None:
    net = build(small("mobilenet_v2_deconv"), device="meta")
    found = units(net, ["block[23]_*"])
    assert [[block.name for block in each.blocks] for each in found if each.again] == [
        ["block2_expand", "block2_dw", "block2_project"],
        ["block3_expand", "block3_dw", "block3_project", "block3_sum"],
    ]
    assert sum(len(each.blocks) for each in found) == len(net.spec.blocks)
    unit = next(each for each in found if each.again)
    assert unit.reads == ("block1_project",)
    assert unit.gives == ("block2_project",)


def test_a_watched_head_is_heard_once() -> None:
    spec = zoo_net("fast_scnn", (192, 256), 3, "test")
    x = images(*spec.image_size)
    labels = torch.randint(3, (2, 192, 256), generator=Generator().manual_seed(1))
    net = build(spec, 1).train()
    with Heads(net, spec.heads()) as heads:
        parts = units(net, ["*"])
        with recomputed(net, parts):
            net(x)
        loss = heads.loss(nn.functional.cross_entropy, labels)
        assert isinstance(loss, Tensor)
        loss.backward()
        assert heads.loss(nn.functional.cross_entropy, labels) == 0.0
    assert net.down1.conv.weight.grad is not None


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(MobilesegError, match=r"train\.recompute: no block is named 'blok\*'"):
        units(build(small("segnet_basic"), device="meta"), ["blok*"])
    with pytest.raises(MobilesegError, match="only networks that are made of blocks"):
        units(nn.Sequential(), ["*"])
