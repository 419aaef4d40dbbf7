"""The networks that we name: each a function from input size and classes to a spec."""

from __future__ import annotations

from collections.abc import Callable

from mobileseg.errors import unknown
from mobileseg.nets.blocks import IMAGE, Block, Conv, Deconv, Separable
from mobileseg.nets.spec import NetSpec

# MobileNetV1's separable blocks: name, channels, stride.
# Source: Howard et al., MobileNets, 2017, table 1, in the layer names of its Caffe port.
_MOBILENET_V1 = (
    ("conv2_1", 64, 1),
    ("conv2_2", 128, 2),
    ("conv3_1", 128, 1),
    ("conv3_2", 256, 2),
    ("conv4_1", 256, 1),
    ("conv4_2", 512, 2),
    ("conv5_1", 512, 1),
    ("conv5_2", 512, 1),
    ("conv5_3", 512, 1),
    ("conv5_4", 512, 1),
    ("conv5_5", 512, 1),
    ("conv5_6", 1024, 2),
    ("conv6", 1024, 1),
)


def mobilenet_v1_encoder() -> list[Block]:
    """Return MobileNetV1's blocks, stride 32. ReLU6, for the ImageNet weights were trained so."""
    blocks: list[Block] = [Conv("conv1", (IMAGE,), 32, stride=2, activation="relu6")]
    for name, channels, stride in _MOBILENET_V1:
        source = (blocks[-1].name,)
        blocks.append(Separable(name, source, channels, stride=stride, activation="relu6"))
    return blocks


def mobilenet_deconv(image_size: tuple[int, int], classes: int) -> NetSpec:
    """MobileNetV1 encoder and five 4x4 deconvolutions of stride 2, the last to the classes.

    Source: the article behind SYSTEMS "Slimming a MobileNet segmenter", rung base160.
    """
    blocks = mobilenet_v1_encoder()
    for number, channels in enumerate((512, 256, 128, 32), 1):
        blocks.append(Deconv(f"deconv{number}", (blocks[-1].name,), channels))
    last = (blocks[-1].name,)
    blocks.append(Deconv("deconv5", last, "classes", norm=False, activation="none"))
    return NetSpec("mobilenet_deconv", image_size, classes, tuple(blocks))


ZOO: dict[str, Callable[[tuple[int, int], int], NetSpec]] = {
    "mobilenet_deconv": mobilenet_deconv,
}


def zoo_net(name: str, image_size: tuple[int, int], classes: int, where: str) -> NetSpec:
    """Return the named network. Raises MobilesegError with the names that there are."""
    if name not in ZOO:
        raise unknown(where, "network", name, ZOO)
    return ZOO[name](image_size, classes)
