"""Lean training learns what plain training learns, to the bit, and keeps less."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn

from mobileseg.nets.blocks import Conv, Depthwise
from mobileseg.nets.module import build
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo import ZOO, zoo_net
from mobileseg.slim.actions import Actions
from mobileseg.slim.steps import apply
from mobileseg.train.memory.lean import lean_forward, make_lean
from mobileseg.train.memory.saved import saved_bytes
from mobileseg.train.memory.way import Trial, Way
from tests.slim.test_inherit import NETS

QUICK = ("mobilenet_deconv", "lraspp_mobilenet_v3_small", "portrait_lite", "portrait_squeeze")
# At a quarter of their width: the least sizes that their strides and bins take.
QUARTER = {
    "deeplabv3plus_xception65": (64, 96),
    "fast_scnn": (192, 192),
    "hrnet_w18_small": (64, 96),
    "icnet": (192, 192),
    "segnet_basic": (64, 96),
}
SIZE = (192, 256)


def quarter(name: str) -> NetSpec:
    return apply(zoo_net(name, QUARTER[name], 3, "test"), Actions(width={"*": 0.25}), "test")


def images(*size: int) -> Tensor:
    return torch.rand(2, 3, *size, generator=Generator().manual_seed(4)) * 2 - 1


def trained_once(module: nn.Module, x: Tensor, lean: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output and all that a step leaves in the module: gradients and statistics."""
    module.train()
    if lean:
        make_lean(module)
        with lean_forward():
            out = module(x)
    else:
        out = module(x)
    (out * out.detach().roll(1, 2)).mean().backward()
    left = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return out.detach(), left | dict(module.named_buffers())


@pytest.mark.parametrize(
    "spec",
    [
        *(pytest.param(NETS[name], id=name) for name in ("v2.1.4", "v2.1.6", "crossed")),
        *(pytest.param(zoo_net(name, (96, 128), 3, "test"), id=name) for name in QUICK),
        *(pytest.param(quarter(name), id=f"{name}/4") for name in QUARTER),
    ],
)
def test_a_lean_step_is_the_plain_step(spec: NetSpec) -> None:
    x = images(*spec.image_size)
    plain, lean = build(spec, 1), build(spec, 1)
    expected, left = trained_once(plain, x, lean=False)
    found, again = trained_once(lean, x, lean=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert again.keys() == left.keys()
    for key, value in left.items():
        scale = max(1e-6, float(value.float().abs().max()))
        torch.testing.assert_close(again[key] / scale, value / scale, rtol=0, atol=1e-4, msg=key)
    assert lean.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(lean.eval()(x), plain.eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_lean_step_in_less_precision(kind: torch.dtype) -> None:
    spec = zoo_net("lraspp_mobilenet_v3_small", (32, 48), 3, "test")
    x = images(*spec.image_size)
    with torch.autocast("cpu", kind):
        expected, left = trained_once(build(spec, 1), x, lean=False)
        found, again = trained_once(build(spec, 1), x, lean=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for key, value in left.items():
        scale = max(1e-6, float(value.float().abs().max()))
        torch.testing.assert_close(again[key] / scale, value / scale, rtol=0, atol=0.1, msg=key)


@pytest.mark.parametrize("name", ZOO)
def test_what_is_kept_falls(name: str) -> None:
    spec = zoo_net(name, SIZE, 3, "test")
    x = torch.empty(2, 3, *SIZE, device="meta")
    net = build(spec, device="meta")
    plain = saved_bytes(net, x).total
    make_lean(net)
    assert saved_bytes(net, x, lean=True).total < 0.85 * plain


def test_counts_are_those_of_real_tensors() -> None:
    spec = NETS["v2.1.6"]
    real, hollow = build(spec), build(spec, device="meta")
    x = images(*spec.image_size)
    for lean in (False, True):
        if lean:
            assert make_lean(real) == make_lean(hollow) > 0
        found = saved_bytes(real, x, lean)
        assert found.by_module == saved_bytes(hollow, x.to("meta"), lean).by_module
        assert set(found.by_block()) <= {block.name for block in spec.blocks}


def test_bytes_by_hand() -> None:
    # A convolution keeps its input, the norm its input and two numbers a channel, the ReLU what
    # it gives: 2 pictures of 3x8x8 and 5x8x8 floats.
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5), nn.ReLU())
    x = torch.zeros(2, 3, 8, 8)
    assert saved_bytes(net, x).by_module == {
        "0": 4 * 2 * 3 * 64,
        "1": 4 * 2 * 5 * 64 + 4 * 2 * 5,
        "2": 4 * 2 * 5 * 64,
    }


def test_deeplab_at_full_size_keeps_less_than_half() -> None:
    spec = zoo_net("deeplabv3plus_xception65", (1024, 2048), 19, "test")
    x = torch.empty(2, 3, 1024, 2048, device="meta")
    net = build(spec, device="meta")
    plain = saved_bytes(net, x)
    make_lean(net)
    lean = saved_bytes(net, x, lean=True)
    assert plain.total / 2 == pytest.approx(12.56e9, rel=0.01)
    assert plain.total > 2.5 * lean.total


@pytest.mark.parametrize("memory", ["plain", "lean"])
def test_what_is_kept_is_let_go_on_the_way_back(memory: str) -> None:
    spec = zoo_net("mobilenet_v2_deconv", (128, 128), 3, "test")
    images = torch.empty(4, 3, 128, 128, device="meta")
    trial = Trial(build(spec, device="meta"), Way(memory))
    kept = trial.saved(images).total
    weights = 4 * spec.params
    # Above what is kept: the gradient of the weights, and what a layer needs at work.
    assert kept < trial.peak(images) < 1.3 * kept + 1.1 * weights


def test_a_relu_before_a_depthwise_convolution_keeps_nothing() -> None:
    blocks = (
        Conv("a", ("image",), 16, 3),
        Depthwise("b", ("a",)),
        Conv("c", ("b",), 5, 1, norm=False, activation="none"),
    )
    net = build(NetSpec("test", (8, 12), 5, blocks), device="meta")
    x = torch.empty(2, 3, 8, 12, device="meta")
    pixels = 4 * 2 * 8 * 12
    statistics = 4 * 2 * 16
    plain = saved_bytes(net, x).by_block()
    # Every norm keeps what it reads, every ReLU what it gives; the next layer reads the same.
    assert plain == {
        "a": 3 * pixels + 2 * 16 * pixels + statistics,
        "b": 2 * 16 * pixels + statistics,
    }
    make_lean(net)
    lean = saved_bytes(net, x, lean=True).by_block()
    # Of the four wide tensors one is left: the depthwise convolution follows from it, too.
    assert lean == {"a": 3 * pixels + 16 * pixels + statistics, "b": statistics}
