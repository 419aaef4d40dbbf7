"""Every network of the zoo: counted as published, and taken to files, int8 and prices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mobileseg.export.check import Check, check_file
from mobileseg.export.onnx import write_onnx
from mobileseg.export.runtime import load, pixels_as
from mobileseg.export.tflite import write_tflite
from mobileseg.files import shipped
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import normalise
from mobileseg.graph.trace import trace
from mobileseg.latency.price import price
from mobileseg.nets.module import Net, build
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo import ZOO, zoo_net
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.recipe import read_recipe, shipped_recipes
from mobileseg.train.data import read_image, resize_image
from mobileseg.workflow.device import device, devices
from mobileseg.workflow.forms import FOR_FLOAT, FOR_INT8, choose
from mobileseg.workflow.ladder import dry_run
from mobileseg.workflow.network import as_int8, empty_graph

# Small, and of a height and width that every stride divides and six bins fit into.
SIZE = (192, 256)


@dataclass(frozen=True)
class Published:
    """Figures of a source at its own size; None where it names none. macs: multiply-adds."""

    name: str
    image_size: tuple[int, int]
    classes: int
    params: float | None
    macs: float | None
    source: str
    # Whether the source counts the auxiliary heads, which run in training alone.
    heads: bool = False


PUBLISHED = (
    Published(
        "lraspp_mobilenet_v3_large",
        (520, 520),
        21,
        3_221_538,
        2.086e9,
        "torchvision/models/segmentation/lraspp.py, LRASPP_MobileNet_V3_Large_Weights: num_params "
        "3221538; _ops 2.086, in 10^9 multiply-adds at resize_size 520",
    ),
    Published(
        "fast_scnn",
        (1024, 2048),
        19,
        1.44e6,
        7.21e9,
        "PaddleSeg: 1.44 M in docs/model_zoo_overview.md, which says 2.04 G at 1024x512, norms and "
        "activations among them; 7.21 G is what its own counter says of the convolutions, as the "
        "order of this network names it: its document could not be found",
        heads=True,
    ),
    Published(
        "unet",
        (512, 1024),
        19,
        13.41e6,
        253.75e9,
        "PaddleSeg, docs/model_zoo_overview.md, summary table: Params(M) 13.41, Flops(G) 253.75 at "
        "1024x512, which are multiply-adds",
    ),
    Published(
        "segnet",
        # 360 rows as published, of which 352 can be halved five times.
        (352, 640),
        12,
        29.46e6,
        286.03e9 / 2 * 352 / 360,
        "Paszke et al., ENet, 2016, table 4, not looked up again: 286.03 GFLOPs are twice the "
        "multiply-adds at 3x640x360; by hand, VGG-16's 13 convolutions there and back",
    ),
    Published(
        "segnet_basic",
        (352, 480),
        11,
        1.425e6,
        None,
        "Badrinarayanan et al., SegNet, 2017, table 1, not looked up again; by hand, 8 layers "
        "of 64 channels and 7x7; its multiply-adds are nowhere published",
    ),
    Published(
        "pspnet",
        (512, 512),
        21,
        46.5827e6,
        357.1719e9 / 2,
        "Open Model Zoo, models/public/pspnet-pytorch/README.md: MParams 46.5827, GFlops 357.1719, "
        "twice the multiply-adds",
    ),
    Published(
        "icnet",
        (720, 960),
        12,
        26.7043e6,
        75.8180e9 / 2,
        "Open Model Zoo, models/intel/icnet-camvid-ava-0001/README.md: MParams 26.7043, GFlops "
        "75.8180, twice the multiply-adds",
    ),
    Published(
        "deeplabv3plus_xception65",
        (513, 513),
        21,
        None,
        54.17e9,
        "tensorflow/models, research/deeplab/g3doc/model_zoo.md: xception65_coco_voc_trainaug, "
        "eval OS 16, scale 1.0, no flip: 54.17B multiply-adds",
    ),
    Published(
        "deeplabv3plus_xception65_os8",
        (513, 513),
        21,
        None,
        177.10e9,
        "Chen et al., DeepLabV3+, 2018, table of inference strategies with modified Xception: "
        "train OS 16, eval OS 8, decoder, SC, one scale, no flip: 80.02 %, 177.10B multiply-adds",
    ),
    Published(
        "hrnet_w18_small",
        (1024, 2048),
        19,
        1.54e6,
        31.1 * 2**30,
        "HRNet-Semantic-Segmentation, README.md of branch pytorch-v1.1: HRNetV2-W18-Small-v1, "
        "1.5M, 31.1; its lib/utils/modelsummary.py divides convolutions' multiply-adds by 1024**3",
    ),
)
# No figure for these as a whole: their encoders against the classifiers they come from, without
# those's heads. mobilenet_v2 3,504,872 less the last convolution's 412,160 and the classifier's
# 1,281,000; mobilenet_v3_small 2,542,856 less the classifier's 1,615,848.
# Source: torchvision, num_params of MobileNet_V2_Weights and MobileNet_V3_Small_Weights.
ENCODERS = (
    ("mobilenet_v2_deconv", 1_811_712),
    ("deeplabv3plus_mobilenet_v2", 1_811_712),
    ("lraspp_mobilenet_v3_small", 927_008),
)


@pytest.mark.parametrize("figure", PUBLISHED, ids=lambda figure: figure.name)
def test_counts_are_the_published_ones(figure: Published) -> None:
    spec = zoo_net(figure.name, figure.image_size, figure.classes, "test")
    params = spec.params
    if figure.heads:
        params = sum(p.numel() for p in build(spec, device="meta").parameters())
    if figure.params is not None:
        assert params == pytest.approx(figure.params, rel=0.02)
    if figure.macs is not None:
        assert spec.macs == pytest.approx(figure.macs, rel=0.02)


@pytest.mark.parametrize(("name", "published"), ENCODERS)
def test_encoders_are_the_published_ones(name: str, published: int) -> None:
    net = build(zoo_net(name, SIZE, 2, "test"), device="meta")
    encoder = ("conv", "block")
    mine = sum(p.numel() for n, p in net.named_parameters() if n.startswith(encoder))
    assert mine == published


def fitted(spec: NetSpec, images: Array) -> Net:
    """A few steps on the pictures: of untrained nets, int8 says nothing."""
    net, x = build(spec, seed=3), torch.from_numpy(images)
    target = (x[:, 0] > 0).long() + (x[:, 1] > 0.3).long()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    net.train()
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(net(x), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for norm in norms:
        norm.reset_running_stats()
        # None: the plain mean over all batches.
        norm.momentum = None
    with torch.no_grad():
        net(x)
    return net.eval()


def pictures(count: int = 4) -> Array:
    folder = shipped("assets", "data", "portrait_sample", "images")
    paths = sorted(folder.glob("*.jpg"))[:count]
    return np.stack([resize_image(read_image(path), SIZE) for path in paths])


def checked(folder: Path, graph: Graph, ending: str) -> Check:
    path = folder / f"net.{ending}"
    path.write_bytes(write_tflite(graph) if ending == "tflite" else write_onnx(graph))
    return check_file(path, graph, pictures(2))


# Those that pass in a few seconds each.
QUICK = ("portrait_lite", "portrait_squeeze", "lraspp_mobilenet_v3_small")
EACH = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in sorted(ZOO.keys())
]


@pytest.mark.parametrize("name", EACH)
def test_from_module_to_files(name: str, tmp_path: Path) -> None:
    spec = zoo_net(name, SIZE, 3, "test")
    images = pixels_as(pictures(), np.dtype(np.float32))
    net = fitted(spec, images)
    traced = trace(net, SIZE)
    with torch.no_grad():
        x = torch.from_numpy(images)
        reference = net(x)
        torch.testing.assert_close(execute(traced, x), reference, rtol=1e-4, atol=1e-4)
    plain = normalise(traced)
    graph = choose(plain, FOR_FLOAT)(plain)
    for ending in ("tflite", "onnx"):
        check = checked(tmp_path, graph, ending)
        # Rounding in a hundred layers of weights that have hardly been trained.
        assert check.relative_error is not None and check.relative_error < 1e-4
        assert check.layout_operators == {}
    before = choose(plain, FOR_INT8)(plain)
    int8 = quantize(before, calibrate(before, [images]))
    check = checked(tmp_path, int8, "tflite")
    assert check.problems() == []
    assert check.float_operators == {}
    assert checked(tmp_path, int8, "onnx")._needless_floats() == {}
    given = pixels_as(pictures(2), np.dtype(np.uint8))
    mine, theirs = execute_int8(int8, given), load(tmp_path / "net.onnx")(given)
    # ONNX Runtime rounds resizes and means in float: a step here and there, carried on.
    assert np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", ZOO)
def test_from_spec_to_prices(name: str) -> None:
    spec = zoo_net(name, SIZE, 4, "test")
    net = build(spec, device="meta")
    live = [p for n, p in net.named_parameters() if n.split(".")[0] in spec.live()]
    assert sum(p.numel() for p in live) == spec.params
    traced = trace(net, SIZE)
    assert traced[traced.outputs[0]].shape == (1, 4, *SIZE)
    assert traced.total_macs == spec.macs
    graph = empty_graph(spec)
    int8 = as_int8(graph)
    for profile in (device(name) for name in devices()):
        rows = price(graph, profile).rows
        assert len(rows) == len(graph.nodes)
        assert all(row.ms > 0 or row.note for row in rows)
        if profile.int8 is not None:
            assert len(price(int8, profile).rows) == len(int8.nodes)


# Steps with new layers in the place of old ones: another decoder, filters of other groups.
RENEWED = {("article", "v0"), ("article", "v2.1.4")}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_a_dry_run_of_every_recipe(name: str, tmp_path: Path) -> None:
    rows = dry_run(read_recipe(name), tmp_path)
    for row in rows:
        assert row["estimated_ms"]
    # A narrower step that inherits its weights has nothing new but what its recipe adds.
    kept = [row for row in rows[1:] if (name, row["step"]) not in RENEWED]
    assert all(row["inherited_share"] > 0.8 for row in kept)
    assert all(row["inherited_share"] <= 1 for row in rows)
