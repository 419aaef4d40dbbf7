"""The networks that we name: each a function from input size and classes to a spec."""

from __future__ import annotations

from collections.abc import Callable

from mobileseg.errors import unknown
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo.deeplab import deeplabv3plus_mobilenet_v2
from mobileseg.nets.zoo.fast_scnn import fast_scnn
from mobileseg.nets.zoo.hrnet import hrnet_w18, hrnet_w18_small
from mobileseg.nets.zoo.mobilenet import (
    lraspp_mobilenet_v3_large,
    lraspp_mobilenet_v3_small,
    mobilenet_deconv,
    mobilenet_v1_encoder,
    mobilenet_v2_deconv,
)
from mobileseg.nets.zoo.portrait import (
    portrait,
    portrait_large,
    portrait_lite,
    portrait_squeeze,
    portrait_tiny,
)
from mobileseg.nets.zoo.resnet import icnet, pspnet
from mobileseg.nets.zoo.unet import segnet, segnet_basic, unet, unet_mobilenet_v2
from mobileseg.nets.zoo.xception import deeplabv3plus_xception65, deeplabv3plus_xception65_os8

__all__ = ["ZOO", "mobilenet_v1_encoder", "zoo_net"]

ZOO: dict[str, Callable[[tuple[int, int], int], NetSpec]] = {
    "mobilenet_deconv": mobilenet_deconv,
    "mobilenet_v2_deconv": mobilenet_v2_deconv,
    "lraspp_mobilenet_v3_large": lraspp_mobilenet_v3_large,
    "lraspp_mobilenet_v3_small": lraspp_mobilenet_v3_small,
    "deeplabv3plus_mobilenet_v2": deeplabv3plus_mobilenet_v2,
    "fast_scnn": fast_scnn,
    "hrnet_w18": hrnet_w18,
    "hrnet_w18_small": hrnet_w18_small,
    "unet": unet,
    "unet_mobilenet_v2": unet_mobilenet_v2,
    "segnet": segnet,
    "segnet_basic": segnet_basic,
    "deeplabv3plus_xception65": deeplabv3plus_xception65,
    "deeplabv3plus_xception65_os8": deeplabv3plus_xception65_os8,
    "pspnet": pspnet,
    "icnet": icnet,
    "portrait": portrait,
    "portrait_large": portrait_large,
    "portrait_tiny": portrait_tiny,
    "portrait_lite": portrait_lite,
    "portrait_squeeze": portrait_squeeze,
}


def zoo_net(name: str, image_size: tuple[int, int], classes: int, where: str) -> NetSpec:
    """Return the named network. Raises MobilesegError with the names that there are."""
    if name not in ZOO:
        raise unknown(where, "network", name, ZOO)
    return ZOO[name](image_size, classes)
