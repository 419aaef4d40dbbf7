"""DeepLabV3+ over the zoo's encoders."""

from __future__ import annotations

from mobileseg.nets.blocks import Conv, Join, Separable, Upsample
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo.draft import Draft, aspp
from mobileseg.nets.zoo.mobilenet import mobilenet_v2_encoder

# Dilation rates of the pyramid at an output stride of 16; twice these at 8.
RATES = (6, 12, 18)


def deeplabv3plus_mobilenet_v2(image_size: tuple[int, int], classes: int) -> NetSpec:
    """DeepLabV3+ of output stride 16 over MobileNetV2's 320 channels."""
    net = Draft()
    ends = mobilenet_v2_encoder(net, output_stride=16)
    last = deeplab_head(net, ends[16], ends[4], RATES)
    return NetSpec("deeplabv3plus_mobilenet_v2", image_size, classes, net.finish(last))


def deeplab_head(net: Draft, deep: str, shallow: str, rates: tuple[int, ...]) -> str:
    """Append the pyramid over `deep` and the decoder that joins `shallow` to it.

    Source: Chen et al., DeepLabV3+, 2018, figure 2 and section 4 (48 and 256 channels).
    """
    pooled = aspp(net, deep, 256, rates)
    low = net.add(Conv("decoder_low", (shallow,), 48, 1))
    high = net.add(Upsample("decoder_high", (pooled, low)))
    joined = net.add(Join("decoder_join", (high, low)))
    last = net.add(Separable("decoder1", (joined,), 256))
    last = net.add(Separable("decoder2", (last,), 256))
    return net.classify(last)
