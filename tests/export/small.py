"""A small network with every kind of block, alive on real pictures, and its graphs."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from mobileseg.export.runtime import pixels_as
from mobileseg.files import shipped
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import FOR_TFLITE, REWRITES, normalise, run_passes
from mobileseg.graph.trace import trace
from mobileseg.nets.blocks import Conv, Deconv, Join, Separable, Sum, Upsample
from mobileseg.nets.module import Net, build
from mobileseg.nets.spec import NetSpec
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface
from mobileseg.train.data import read_image, resize_image

SIZE = (32, 48)
SPEC = NetSpec(
    "small",
    SIZE,
    3,
    (
        Conv("stem", ("image",), 8, stride=2, activation="relu6"),
        Separable("wide", ("stem",), 12, crelu=True),
        Separable("deep", ("wide",), 20, stride=2),
        Separable("deeper", ("deep",), 20, dilation=2),
        Sum("sum", ("deep", "deeper")),
        Deconv("up", ("sum",), 10),
        Upsample("resized", ("sum",), size=(16, 24)),
        Join("join", ("up", "resized", "wide")),
        Deconv("out", ("join",), "classes", norm=False, activation="none"),
    ),
)


def pictures(count: int = 6) -> Array:
    """Return real uint8 pictures `(N, height, width, 3)`."""
    folder = shipped("assets", "data", "portrait_sample", "images")
    paths = sorted(folder.glob("*.jpg"))[:count]
    return np.stack([resize_image(read_image(path), SIZE) for path in paths])


def floats() -> Array:
    return pixels_as(pictures(), np.dtype(np.float32))


def net() -> Net:
    """Return the network with the batch-norm statistics of the pictures, and weights that vary."""
    made = build(SPEC, seed=3)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # None: the plain mean over all batches.
            layer.momentum = None
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        made.train()(torch.from_numpy(floats()))
    return made.eval()


def float_graph(rewrite: bool = True) -> Graph:
    graph = normalise(trace(net(), SIZE))
    return run_passes(graph, (*(REWRITES if rewrite else ()), *FOR_TFLITE))


def int8_graph(rewrite: bool = True, interface: Interface = "uint8") -> Graph:
    graph = float_graph(rewrite)
    return quantize(graph, calibrate(graph, [floats()]), interface)
