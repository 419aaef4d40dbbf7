"""U-Net and SegNet: decoders as deep as their encoders."""

from __future__ import annotations

from collections.abc import Sequence

from mobileseg.nets.blocks import IMAGE, Conv, Join, Pool, Unpool, Upsample
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo.draft import Draft
from mobileseg.nets.zoo.mobilenet import mobilenet_v2_encoder


def unet(image_size: tuple[int, int], classes: int) -> NetSpec:
    """U-Net with resizes in the place of transposed convolutions and 512 channels at its foot.

    Source: Ronneberger et al., U-Net, 2015; channels and padding as PaddleSeg has them.
    """
    net = Draft()
    last = IMAGE
    skips: list[str] = []
    for number, channels in enumerate((64, 128, 256, 512, 512), 1):
        if skips:
            last = net.add(Pool(f"down{number}_pool", (last,)))
        last = _two(net, f"down{number}", last, channels)
        skips.append(last)
    for number, channels in enumerate((256, 128, 64, 64), 1):
        last = _rise(net, number, last, skips[4 - number], channels)
    head = Conv("classifier", (last,), "classes", norm=False, activation="none")
    last = net.add(head)
    return NetSpec("unet", image_size, classes, tuple(net.blocks))


def unet_mobilenet_v2(image_size: tuple[int, int], classes: int) -> NetSpec:
    """MobileNetV2 to stride 16, and a decoder that meets its strides 8, 4 and 2 on the way up."""
    net = Draft()
    ends = mobilenet_v2_encoder(net, until=13)
    last = ends[16]
    for number, (skip, channels) in enumerate(((8, 128), (4, 64), (2, 32)), 1):
        last = _rise(net, number, last, ends[skip], channels)
    wide = net.add(Upsample("up4_wide", (last, IMAGE)))
    last = _two(net, "up4", wide, 16)
    net.add(Conv("classifier", (last,), "classes", norm=False, activation="none"))
    return NetSpec("unet_mobilenet_v2", image_size, classes, tuple(net.blocks))


def _two(net: Draft, name: str, source: str, channels: int) -> str:
    last = net.add(Conv(f"{name}_conv1", (source,), channels))
    return net.add(Conv(f"{name}_conv2", (last,), channels))


def _rise(net: Draft, number: int, low: str, skip: str, channels: int) -> str:
    """Resize `low` to `skip`, join both, two convolutions."""
    wide = net.add(Upsample(f"up{number}_wide", (low, skip)))
    joined = net.add(Join(f"up{number}_join", (skip, wide)))
    return _two(net, f"up{number}", joined, channels)


def segnet(image_size: tuple[int, int], classes: int) -> NetSpec:
    """SegNet over VGG-16. Source: Badrinarayanan et al., SegNet, 2017, figure 2."""
    down = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    up = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64,))
    return _segnet("segnet", image_size, classes, down, up, 3)


def segnet_basic(image_size: tuple[int, int], classes: int) -> NetSpec:
    """SegNet-Basic: four stages of one 7x7 convolution of 64 channels each way.

    Source: Badrinarayanan et al., SegNet, 2017, section 3.2.
    """
    up = ((64,), (64,), (64,), (64,))
    return _segnet("segnet_basic", image_size, classes, ((64, 1),) * 4, up, 7)


def _segnet(
    name: str,
    image_size: tuple[int, int],
    classes: int,
    down: Sequence[tuple[int, int]],
    up: Sequence[Sequence[int]],
    kernel: int,
) -> NetSpec:
    """down: channels and number of convolutions per stage; up: channels of each on the way back."""
    net = Draft()
    last, pools = IMAGE, []
    for stage, (channels, count) in enumerate(down, 1):
        for number in range(1, count + 1):
            last = net.add(Conv(f"down{stage}_conv{number}", (last,), channels, kernel))
        pools.append((last, net.add(Pool(f"down{stage}_pool", (last,)))))
        last = pools[-1][1]
    for stage, widths in zip(range(len(down), 0, -1), up, strict=True):
        last = net.add(Unpool(f"up{stage}_unpool", (last, *pools[stage - 1])))
        for number, channels in enumerate(widths, 1):
            last = net.add(Conv(f"up{stage}_conv{number}", (last,), channels, kernel))
    # The paper's last convolution gives the classes itself; the basic net has a 1x1 classifier.
    head = Conv(
        "classifier",
        (last,),
        "classes",
        1 if kernel == 7 else kernel,
        norm=False,
        activation="none",
    )
    net.add(head)
    return NetSpec(name, image_size, classes, tuple(net.blocks))
