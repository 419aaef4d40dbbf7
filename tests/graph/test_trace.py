"""Torch modules that are none of ours: what is traced, and what is refused by name."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mobileseg.errors import MobilesegError
from mobileseg.graph.execute import execute
from mobileseg.graph.passes import FOR_TFLITE, normalise, run_passes
from mobileseg.graph.trace import trace
from tests.graph.build import text

SIZE = (12, 16)


class Forward(nn.Module):
    """A forward of one's own beside a convolution named `conv`."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def same(module: nn.Module) -> None:
    """The graph, and what TFLite is told, compute what the module does."""
    module.eval()
    x = torch.randn((2, 3, *SIZE), generator=torch.Generator().manual_seed(0))
    graph = trace(module, SIZE)
    with torch.inference_mode():
        expected = module(x)
    for each in (graph, run_passes(normalise(graph), FOR_TFLITE)):
        torch.testing.assert_close(execute(each, x), expected, rtol=1e-5, atol=1e-5)


def test_torch_padding_becomes_a_pad() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1, bias=False), nn.BatchNorm2d(5), nn.ReLU())
    same(net)
    graph = run_passes(normalise(trace(net, SIZE)), FOR_TFLITE)
    assert str(graph) == text("""
        inputs %image: f32[1, 3, 12, 16]
        %logits.pad: f32[1, 3, 14, 18] = Pad(pad=1x1x1x1) %image
        %logits: f32[1, 5, 6, 8] = Conv2d(stride=2x2 activation=relu) %logits.pad, 0.weight[5, 3, 3, 3], 0.bias[5]
        outputs logits
    """)  # noqa: E501


@pytest.mark.parametrize(
    "relu", [nn.LeakyReLU(0.25), nn.PReLU(), nn.PReLU(5)], ids=["leaky", "one slope", "slopes"]
)
def test_relus_with_slopes(relu: nn.Module) -> None:
    same(nn.Sequential(nn.Conv2d(3, 5, 1), relu))


def test_a_residual_net() -> None:
    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.a = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(channels)
            self.b = nn.Conv2d(channels, channels, 3, padding=2, dilation=2)
            self.act = nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.act(x + self.b(self.act(self.norm(self.a(x)))))

    stem = nn.Sequential(nn.Conv2d(3, 6, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    head = nn.ConvTranspose2d(6, 2, 3, 2, 1, output_padding=1)
    same(nn.Sequential(stem, Block(6), nn.Dropout(), Block(6), head))


FORWARDS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "add": lambda net, x: operator.add(net.conv(x), x),
    "torch.add": lambda net, x: torch.add(net.conv(x), x),
    "mul": lambda net, x: net.conv(x) * x,
    "neg": lambda net, x: -net.conv(x),
    "cat": lambda net, x: torch.cat([net.conv(x), x], dim=1),
    "cat by axis -3": lambda net, x: torch.cat((x, net.conv(x)), -3),
    "F.relu": lambda net, x: F.relu(net.conv(x), inplace=True),
    "F.relu6": lambda net, x: F.relu6(net.conv(x)),
    "sigmoid": lambda net, x: torch.sigmoid(net.conv(x)),
    "F.hardswish": lambda net, x: F.hardswish(net.conv(x)),
    "F.hardsigmoid": lambda net, x: F.hardsigmoid(net.conv(x)) * x,
    "F.pad": lambda net, x: net.conv(F.pad(x, (1, 2, 3, 4))),
    "F.pad of one axis": lambda net, x: F.pad(net.conv(x), (1, 2)),
    "resize by size": lambda net, x: F.interpolate(
        net.conv(x), size=(7, 9), mode="bilinear", align_corners=False
    ),
    "resize by factor": lambda net, x: F.interpolate(net.conv(x), scale_factor=2),
    "resize with corners": lambda net, x: F.interpolate(
        net.conv(x), (23, 31), mode="bilinear", align_corners=True
    ),
    "one layer twice": lambda net, x: net.conv(net.conv(x)),
}


@pytest.mark.parametrize("name", FORWARDS)
def test_functional_calls(name: str) -> None:
    same(Forward(FORWARDS[name]))


@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(2),
        nn.MaxPool2d((2, 3), (2, 3)),
        nn.AdaptiveAvgPool2d(1),
        nn.Hardswish(),
        nn.Hardsigmoid(),
        nn.Sigmoid(),
        nn.ReLU6(),
        nn.Identity(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers(layer: nn.Module) -> None:
    same(nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), layer))


class _Named(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(layer)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.encoder(x)
        return out


class _Numbers(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (1.5 - (2 * x - 3)) * 0.5 + (x - x * x)


def test_numbers_and_differences() -> None:
    x = torch.rand(1, 3, *SIZE)
    torch.testing.assert_close(execute(trace(_Numbers(), SIZE), x), _Numbers()(x))


@pytest.mark.parametrize("size", [(9, 12), (10, 13), (11, 5)])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 4, 1)])
def test_ceil_mode_is_padding(size: tuple[int, int], kernel: int, stride: int, pad: int) -> None:
    x = torch.rand(2, 3, *size) - 0.5
    for layer in (
        nn.MaxPool2d(kernel, stride, pad, ceil_mode=True),
        nn.AvgPool2d(kernel, stride, pad, ceil_mode=True, count_include_pad=False),
    ):
        torch.testing.assert_close(execute(trace(nn.Sequential(layer), size), x), layer(x))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.GELU(), "no operator stands for GELU"),
        (nn.Conv2d(3, 3, 3, padding="same"), "padding is numbers"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "padding is numbers"),
        (nn.ConvTranspose2d(3, 3, 3, groups=3), "with groups or dilation"),
        (nn.BatchNorm2d(3, track_running_stats=False), "without running statistics"),
        (nn.MaxPool2d(2, dilation=2), "pooling with dilation"),
        (nn.AvgPool2d(3, 1, 1), "counts its padding"),
        (nn.AdaptiveAvgPool2d(2), "another size than 1x1"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_layer_without_an_operator_is_named(layer: nn.Module, said: str) -> None:
    with pytest.raises(MobilesegError, match=rf"encoder\.0: .*{said}"):
        trace(_Named(layer), SIZE)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda net, x: torch.fft.fft2(net.conv(x)).real, "fft"),
        (lambda net, x: net.conv(x).permute(0, 2, 3, 1), "permute"),
        (lambda net, x: torch.cat([net.conv(x), x], dim=2), "another axis"),
        (lambda net, x: F.interpolate(net.conv(x), (7, 9), mode="bicubic"), "bicubic"),
        (lambda net, x: F.pad(net.conv(x), (1, 1), "reflect"), "reflect"),
        (lambda net, x: (net.conv(x), x), "one tensor"),
        (lambda net, x: x if x.sum() > 0 else net.conv(x), "cannot be traced"),
    ],
)
def test_a_call_without_an_operator_is_refused(
    forward: Callable[[nn.Module, Tensor], Tensor], said: str
) -> None:
    with pytest.raises(MobilesegError, match=said):
        trace(Forward(forward), SIZE)


def test_tracing_leaves_the_mode_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Dropout())
    net.train()
    trace(net, SIZE)
    assert net.training


def test_weights_on_no_device_take_no_memory() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 4000, 3), nn.Conv2d(4000, 4000, 3))
    graph = trace(net, SIZE)
    assert graph.total_macs == 4000 * 27 * 140 + 4000 * 4000 * 9 * 96
