"""The five networks: decoders of deconvolutions, DeepLab, Fast-SCNN, and two branches with
hard-swish and squeeze-and-excite."""

from __future__ import annotations

from collections.abc import Callable

from mobileseg.nets.blocks import IMAGE, Conv, Join, Sum, Upsample
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo import zoo_net
from mobileseg.nets.zoo.draft import Draft, Inverted
from mobileseg.slim.actions import Actions, Skip
from mobileseg.slim.steps import apply

CLASSES = 2


def deconvolutions() -> NetSpec:
    """MobileNetV1 and five deconvolutions, 160 pixels."""
    return zoo_net("mobilenet_deconv", (160, 160), CLASSES, "bench")


def skips() -> NetSpec:
    """The same with skip connections and CReLU in its first blocks."""
    sources = ("conv4_1", "conv3_1", "conv2_1")
    actions = Actions(crelu=("conv2_1", "conv2_2"), skip=Skip("add", sources))
    return apply(deconvolutions(), actions, "bench")


def deeplab() -> NetSpec:
    """DeepLabV3+ with MobileNetV2, 256 pixels."""
    return zoo_net("deeplabv3plus_mobilenet_v2", (256, 256), CLASSES, "bench")


def fast_scnn() -> NetSpec:
    """Fast-SCNN, 256 by 512 pixels."""
    return zoo_net("fast_scnn", (256, 512), CLASSES, "bench")


def two_branches() -> NetSpec:
    """Branches at an eighth and a sixteenth that exchange twice, of MobileNetV3's blocks."""
    net = Draft()
    last = net.add(Conv("stem", (IMAGE,), 16, stride=2, activation="hard_swish"))
    last = _inverted(net, "down1", last, 16, 24, 2)
    fine = _inverted(net, "down2", last, 24, 40, 2)
    coarse = _inverted(net, "down3", fine, 40, 80, 2)
    for stage in ("a", "b"):
        for number in (1, 2):
            fine = _inverted(net, f"fine_{stage}{number}", fine, 40, 40)
            coarse = _inverted(net, f"coarse_{stage}{number}", coarse, 80, 80)
        fine, coarse = _exchanged(net, stage, fine, coarse)
    wide = net.add(Upsample("head_wide", (coarse, fine)))
    joined = net.add(Join("head_join", (fine, wide)))
    last = net.add(Conv("head", (joined,), 96, 1, activation="hard_swish"))
    return NetSpec("two_branches", (256, 256), CLASSES, net.finish(net.classify(last)))


def _inverted(net: Draft, name: str, source: str, into: int, out: int, stride: int = 1) -> str:
    shape = Inverted(into, 4 * into, out, 5, stride, activation="hard_swish", gate=into)
    return shape.add(net, name, source)


def _exchanged(net: Draft, stage: str, fine: str, coarse: str) -> tuple[str, str]:
    """Each branch plus the other at its size."""
    up = net.add(Conv(f"up_{stage}", (coarse,), 40, 1, activation="none"))
    wide = net.add(Upsample(f"wide_{stage}", (up, fine)))
    down = net.add(Conv(f"down_{stage}", (fine,), 80, stride=2, activation="none"))
    return net.add(Sum(f"fine_{stage}", (fine, wide))), net.add(
        Sum(f"coarse_{stage}", (coarse, down))
    )


NETS: dict[str, Callable[[], NetSpec]] = {
    "A": deconvolutions,
    "B": skips,
    "C": deeplab,
    "D": fast_scnn,
    "E": two_branches,
}
