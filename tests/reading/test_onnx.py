"""ONNX files to graphs: the graph computes what ONNX Runtime does, whatever form a file is in."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from torch import nn

from mobileseg.errors import MobilesegError
from mobileseg.export.onnx import write_onnx
from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import FOR_ONNX, float16_weights, run_passes
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface
from mobileseg.reading.onnx.file import parse_onnx, read_onnx
from mobileseg.reading.read import read_network
from mobileseg.reading.sketch import Reading
from tests.op_cases import CASES, Case
from tests.reading.foreign import onnx_file

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
# Each operator with one of them, each of them with many operators.
INTERFACES: tuple[Interface, ...] = ("int8", "uint8", "float32")
RANDOM = np.random.default_rng(6)
node = helper.make_node
IMAGE = {"image": (1, 4, 6, 9)}


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(np.float32)


def reading(data: bytes, size: tuple[int, int] | None = None) -> Reading:
    return read_onnx(parse_onnx(data, "net.onnx"), "net.onnx", size)


def read(data: bytes) -> Graph:
    return reading(data).graph


def ort(data: bytes, image: Array) -> Array:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {session.get_inputs()[0].name: image})[0]
    return result


def ours(graph: Graph, image: Array) -> Array:
    with torch.inference_mode():
        result: Array = execute(graph, torch.from_numpy(image)).numpy()
    return result


def assert_same(data: bytes, shape: tuple[int, ...] = (1, 4, 6, 9)) -> Graph:
    """Return the graph, which computes what ONNX Runtime does, within 1e-5 of the largest."""
    graph, image = read(data), normal(*shape)
    expected = ort(data, image)
    found = ours(graph, image).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))
    return graph


@all_cases
def test_our_own_float_files(case: Case) -> None:
    graph = case.graph()
    for each in (graph, float16_weights(graph)):
        found = assert_same(write_onnx(each), (1, 3, *case.image))
        # A ReLU that stood alone is fused into the convolution before it.
        assert len(found.nodes) in {len(each.nodes), len(each.nodes) - 1}
        assert found.total_macs == each.total_macs


@pytest.mark.parametrize(
    ("case", "interface"),
    [(case, INTERFACES[number % 3]) for number, case in enumerate(CASES)],
    ids=lambda each: getattr(each, "name", each),
)
def test_our_own_int8_files(case: Case, interface: Interface) -> None:
    graph = quantize(case.graph(), dict.fromkeys(case.graph().tensors, (-1.0, 1.0)), interface)
    data = write_onnx(graph)
    found, written = read(data), run_passes(graph, FOR_ONNX)
    assert [n.op.kind for n in found.nodes] == [n.op.kind for n in written.nodes]
    for a, b in zip(found.nodes, written.nodes, strict=True):
        assert found[a.output].dtype == written[b.output].dtype
        assert found.shapes(a) == written.shapes(b)
    image = RANDOM.uniform(-1, 1, (1, 3, *case.image))
    if interface != "float32":
        image = np.round(image * 127) + (128 if interface == "uint8" else 0)
    image = image.astype(interface)
    expected = ort(data, image).astype(np.float64)
    steps = expected - execute_int8(found, image)
    assert np.abs(steps).max() <= (1 if interface != "float32" else 0.02)


def one(
    kind: str,
    constants: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    opset: int = 17,
    **attributes: Any,
) -> bytes:
    """One operator on the image, then the constants by their names."""
    given = dict(constants or {})
    names = list(inputs) or ["image", *given]
    return onnx_file([node(kind, names, ["out"], **attributes)], IMAGE, ["out"], given, opset)


WEIGHT = normal(6, 4, 3, 3)
ONES = np.ones(4, np.float32)
SIMPLE: dict[str, bytes] = {
    "leaky": one("LeakyRelu", {}, alpha=0.25),
    "prelu": one("PRelu", {"s": normal(4, 1, 1)}),
    "prelu of one slope": one("PRelu", {"s": normal(1)}),
    "conv same upper": one("Conv", {"w": WEIGHT}, auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv same lower": one("Conv", {"w": WEIGHT}, auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv valid": one("Conv", {"w": WEIGHT, "b": normal(6)}, auto_pad="VALID"),
    "conv groups": one("Conv", {"w": normal(6, 2, 3, 2)}, group=2, pads=[1, 0, 2, 1]),
    "deconv": one("ConvTranspose", {"w": normal(4, 5, 3, 3)}, strides=[2, 2], pads=[1, 1, 1, 1]),
    "deconv output shape": one(
        "ConvTranspose", {"w": normal(4, 5, 4, 4)}, strides=[2, 2], output_shape=[11, 18]
    ),
    "deconv same": one(
        "ConvTranspose", {"w": normal(4, 5, 3, 3)}, strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "batch norm alone": one(
        "BatchNormalization", {"g": normal(4), "b": normal(4), "m": normal(4), "v": ONES}
    ),
    "clip inputs": one("Clip", {"lo": np.float32(0), "hi": np.float32(6)}),
    "clip attributes": one("Clip", opset=9, min=0.0, max=6.0),
    "clip from below": one("Clip", {"lo": np.float32(0)}),
    "sigmoid": one("Sigmoid"),
    "hard sigmoid": one("HardSigmoid", alpha=0.16666667, beta=0.5),
    "hard swish": one("HardSwish"),
    "neg": one("Neg"),
    "add channels": one("Add", {"c": normal(4, 1, 1)}),
    "add number": one("Add", {"c": normal()}),
    "add first": one("Add", {"c": normal(1, 4, 1, 1)}, ["c", "image"]),
    "mul row": one("Mul", {"c": normal(9)}),
    "sub": one("Sub", {"c": normal(4, 1, 1)}),
    "div": one("Div", {"c": normal(4, 1, 1)}),
    "max pool": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "max pool ceil": one("MaxPool", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
    "mean pool": one("AveragePool", kernel_shape=[2, 3], pads=[1, 1, 0, 1]),
    "mean pool counted": one(
        "AveragePool", kernel_shape=[2, 3], pads=[1, 1, 0, 1], count_include_pad=1
    ),
    "mean pool same": one("AveragePool", kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
    "reduce mean": one("ReduceMean", axes=[2, 3]),
    "reduce mean negative": one("ReduceMean", axes=[-1, -2], keepdims=0),
    "reduce mean input": one("ReduceMean", {"axes": np.array([2, 3])}, opset=18),
    "resize scales": one(
        "Resize",
        {"scales": np.array([1, 1, 2, 3], np.float32)},
        ["image", "", "scales"],
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    ),
    "resize sizes": one(
        "Resize",
        {"sizes": np.array([1, 4, 11, 13])},
        ["image", "", "", "sizes"],
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    "resize axes": one(
        "Resize",
        {"sizes": np.array([12, 27])},
        ["image", "", "", "sizes"],
        opset=18,
        mode="nearest",
        axes=[2, 3],
    ),
    "resize nearest floor": one(
        "Resize",
        {"sizes": np.array([1, 4, 11, 13])},
        ["image", "", "", "sizes"],
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "upsample": one("Upsample", {"s": np.array([1, 1, 2, 2], np.float32)}, opset=9, mode="nearest"),
    "depth to space": one("DepthToSpace", blocksize=2),
    "slice": one(
        "Slice",
        {"s": np.array([1, -7]), "e": np.array([5, 2**60]), "a": np.array([2, 3])},
    ),
    "slice attributes": one("Slice", opset=9, starts=[1], ends=[-1], axes=[3]),
    "pad": one("Pad", {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0])}),
    "pad attributes": one("Pad", opset=9, pads=[0, 0, 1, 2, 0, 0, 3, 0]),
    "pad axes": one(
        "Pad", {"p": np.array([1, 2]), "a": np.array([3])}, ["image", "p", "", "a"], 18
    ),
    "softmax": one("Softmax", axis=1),
    "relu": one("Relu"),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_one_operator(name: str) -> None:
    assert_same(SIMPLE[name])


def test_argmax_and_what_follows_it() -> None:
    nodes = [
        node("ArgMax", ["image"], ["index"], axis=1, keepdims=1),
        node("Cast", ["index"], ["out"], to=TensorProto.INT64),
    ]
    body = onnx_file(nodes, IMAGE, ["out"], {})
    model = ModelProto.FromString(body)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    graph = assert_same(model.SerializeToString())
    assert [n.op.kind for n in graph.nodes] == ["ArgMax"]


def test_batch_norm_folds_where_nothing_else_reads() -> None:
    statistics = {"g": normal(6), "b": normal(6), "m": normal(6), "v": np.abs(normal(6)) + 0.5}
    nodes = [
        node("Conv", ["image", "w"], ["y"]),
        node("BatchNormalization", ["y", *statistics], ["z"]),
        node("Relu", ["z"], ["out"]),
    ]
    graph = assert_same(onnx_file(nodes, IMAGE, ["out"], {"w": WEIGHT, **statistics}))
    assert [n.op for n in graph.nodes] == [ops.Conv2d(activation="relu")]
    nodes[2] = node("Add", ["z", "y"], ["out"])
    graph = assert_same(onnx_file(nodes, IMAGE, ["out"], {"w": WEIGHT, **statistics}))
    assert [n.op.kind for n in graph.nodes] == ["Conv2d", "Mul", "Add", "Add"]


def test_weights_that_two_convolutions_share() -> None:
    statistics = {"g": normal(4), "b": normal(4), "m": normal(4), "v": np.abs(normal(4)) + 0.5}
    nodes = [
        node("Conv", ["image", "w"], ["y"], "a"),
        node("BatchNormalization", ["y", *statistics], ["z"], "b"),
        node("Conv", ["z", "w"], ["out"], "c"),
    ]
    assert_same(onnx_file(nodes, IMAGE, ["out"], {"w": normal(4, 4, 1, 1), **statistics}))


@pytest.mark.parametrize("bias", [True, False])
def test_pixel_shuffle_turns_the_filters(bias: bool) -> None:
    constants = {"w": normal(12, 4, 3, 3)} | ({"b": normal(12)} if bias else {})
    nodes = [
        node("Conv", ["image", *constants], ["y"]),
        node("DepthToSpace", ["y"], ["out"], blocksize=2, mode="CRD"),
    ]
    assert_same(onnx_file(nodes, IMAGE, ["out"], constants))


@pytest.mark.parametrize(
    "layers",
    [
        [node("Flatten", ["p"], ["f"])],
        [node("Reshape", ["p", "flat"], ["f"])],
        [node("Squeeze", ["p", "axes"], ["f"])],
        [node("Reshape", ["p", "zero"], ["f"])],
    ],
    ids=["flatten", "reshape", "squeeze", "reshape zero"],
)
def test_a_classifier(layers: list[Any]) -> None:
    constants = {
        "flat": np.array([1, -1]),
        "zero": np.array([0, -1]),
        "axes": np.array([2, 3]),
        "w": normal(7, 4),
        "b": normal(7),
        "m": normal(7, 3),
    }
    nodes = [
        node("GlobalAveragePool", ["image"], ["p"]),
        *layers,
        node("Gemm", ["f", "w", "b"], ["g"], transB=1, alpha=0.5, beta=2.0),
        node("MatMul", ["g", "m"], ["h"]),
        node("Softmax", ["h"], ["out"], axis=-1),
    ]
    graph = assert_same(onnx_file(nodes, IMAGE, ["out"], constants))
    assert [n.op.kind for n in graph.nodes] == ["GlobalMean", "Conv2d", "Conv2d", "Softmax"]


def test_a_fully_connected_layer_behind_a_whole_map() -> None:
    nodes = [node("Flatten", ["image"], ["f"]), node("Gemm", ["f", "w"], ["out"])]
    graph = assert_same(onnx_file(nodes, IMAGE, ["out"], {"w": normal(4 * 6 * 9, 5)}))
    assert graph[graph.nodes[0].inputs[1]].shape == (5, 4, 6, 9)


def test_sizes_that_the_file_computes() -> None:
    """As torch writes F.interpolate(x, y.shape[2:]): Shape, Gather, Unsqueeze, Concat, Cast."""
    constants = {
        "w": WEIGHT,
        "two": np.array(2),
        "three": np.array(3),
        "zero": np.array([0]),
        "start": np.array([0]),
        "end": np.array([2]),
        "roi": np.zeros(0, np.float32),
    }
    nodes = [
        node("Conv", ["image", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Shape", ["image"], ["s"]),
        node("Gather", ["s", "two"], ["h"]),
        node("Gather", ["s", "three"], ["wide"]),
        node("Unsqueeze", ["h", "zero"], ["h1"]),
        node("Unsqueeze", ["wide", "zero"], ["w1"]),
        node("Concat", ["h1", "w1"], ["hw"], axis=0),
        node("Cast", ["hw"], ["hw64"], to=TensorProto.INT64),
        node("Shape", ["y"], ["ys"]),
        node("Slice", ["ys", "start", "end"], ["nc"]),
        node("Concat", ["nc", "hw64"], ["sizes"], axis=0),
        node("Resize", ["y", "roi", "", "sizes"], ["out"], mode="linear"),
    ]
    graph = assert_same(onnx_file(nodes, IMAGE, ["out"], constants))
    assert [n.op.kind for n in graph.nodes] == ["Conv2d", "Resize"]


def test_what_is_between_no_pairs_stays_float() -> None:
    """Quantize and Dequantize operators that no integer operator takes up are priced, too."""
    constants = {
        "s": np.float32(0.02),
        "z": np.uint8(128),
        "w": RANDOM.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8),
        "ws": np.full(6, 0.01, np.float32),
        "wz": np.zeros(6, np.int8),
        "b": normal(6),
    }
    nodes = [
        node("QuantizeLinear", ["image", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["x"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wr"], axis=0),
        node("Conv", ["x", "wr", "b"], ["y"]),
        node("Relu", ["y"], ["r"]),
        node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        node("DequantizeLinear", ["rq", "s", "z"], ["rx"]),
        node("Sigmoid", ["rx"], ["out"]),
    ]
    graph = read(onnx_file(nodes, IMAGE, ["out"], constants))
    kinds = ["Quantize", "Conv2d", "Dequantize", "Activation"]
    assert [n.op.kind for n in graph.nodes] == kinds
    conv = graph.nodes[1]
    assert [graph[name].dtype for name in conv.inputs] == ["uint8", "int8", "int32"]
    assert graph[conv.inputs[1]].quant is not None
    assert graph[conv.inputs[1]].quant.axis == 0  # type: ignore[union-attr]


def test_weights_alone_quantized() -> None:
    constants = {
        "w": RANDOM.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8),
        "ws": np.abs(normal(6)) / 100,
        "wz": np.zeros(6, np.int8),
    }
    nodes = [
        node("DequantizeLinear", ["w", "ws", "wz"], ["wr"], axis=0),
        node("Conv", ["image", "wr"], ["out"]),
    ]
    assert_same(onnx_file(nodes, IMAGE, ["out"], constants))


def test_open_sizes() -> None:
    data = onnx_file([node("Relu", ["x"], ["out"])], {"x": ("n", 3, "h", None)}, ["out"], {})
    with pytest.raises(MobilesegError, match="--input-size HEIGHT,WIDTH"):
        reading(data)
    assert reading(data, (64, 48)).graph["x"].shape == (1, 3, 64, 48)
    fixed = onnx_file([node("Relu", ["x"], ["out"])], {"x": (1, 3, 8, 9)}, ["out"], {})
    with pytest.raises(MobilesegError, match="is fixed to 8x9"):
        reading(fixed, (64, 48))


def test_every_unknown_operator_is_listed() -> None:
    nodes = [
        node("Elu", ["image"], ["a"], "first"),
        node("Elu", ["a"], ["b"]),
        node("Mystery", ["b"], ["c"], domain="some.where"),
        node("Relu", ["c"], ["d"]),
        node("Resize", ["image", "", "s"], ["e"], mode="cubic"),
        node("If", ["k"], ["f"], then_branch=helper.make_graph([], "t", [], [])),
        node("Sigmoid", ["d"], ["out"]),
    ]
    constants = {"s": np.array([1, 1, 2, 2], np.float32), "k": np.array(True)}
    with pytest.raises(MobilesegError) as error:
        read(onnx_file(nodes, IMAGE, ["out"], constants))
    said = str(error.value).partition("known are")[0]
    assert "Elu (2 times, first at 'first')" in said
    assert "some.where::Mystery (1 time" in said
    assert "Resize with mode cubic (1 time" in said
    assert "If (1 time" in said
    assert "Sigmoid" not in said


def test_onnxsim_helps_where_we_do_not_know(tmp_path: Path) -> None:
    """A constant made by operators that we do not compute."""
    nodes = [
        node("Exp", ["c"], ["e"]),
        node("ReduceSum", ["e"], ["s"], keepdims=0),
        node("Mul", ["image", "s"], ["out"]),
    ]
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_file(nodes, IMAGE, ["out"], {"c": normal(3)}))
    graph = read_network(path).graph
    assert [n.op.kind for n in graph.nodes] == ["Mul"]


def external(data: bytes, location: str) -> bytes:
    model = ModelProto.FromString(data)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("location", ["weights.bin", "../../../etc/passwd", "/etc/passwd", "x\0y"])
def test_data_in_other_files_is_refused(location: str) -> None:
    with pytest.raises(MobilesegError, match="kept in another file"):
        read(external(SIMPLE["conv valid"], location))


def edited(change: Callable[[Any], None]) -> bytes:
    model = ModelProto.FromString(SIMPLE["conv valid"])
    change(model)
    return bytes(model.SerializeToString())


def _huge_weight(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [2**31, 2**20, 3, 3]


def _negative_weight(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [-6, -4, 3, 3]


def _huge_input(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**40


def _circle(model: Any) -> None:
    model.graph.node[0].input[0] = "out"


def _twice(model: Any) -> None:
    model.graph.node.add().CopyFrom(model.graph.node[0])


def _no_output(model: Any) -> None:
    model.graph.output[0].name = "nothing"


def _no_version(model: Any) -> None:
    del model.opset_import[:]


def _new_version(model: Any) -> None:
    model.opset_import[0].version = 999


def _no_inputs(model: Any) -> None:
    del model.graph.node[0].input[:]


def _spread(model: Any) -> None:
    """A terabyte out of two small constants."""
    for name, shape in (("p", (2**20, 1)), ("q", (1, 2**20))):
        model.graph.initializer.add(
            name=name, dims=shape, data_type=TensorProto.FLOAT, raw_data=bytes(4 << 20)
        )
    model.graph.node.insert(0, node("Mul", ["p", "q"], ["pq"]))


def _full(model: Any) -> None:
    model.graph.initializer.add(
        name="sides", dims=[2], data_type=TensorProto.INT64, int64_data=[2**30, 2**30]
    )
    model.graph.node.insert(0, node("ConstantOfShape", ["sides"], ["full"]))


@pytest.mark.parametrize(
    "change",
    [
        _huge_weight,
        _negative_weight,
        _huge_input,
        _circle,
        _twice,
        _no_output,
        _no_version,
        _new_version,
        _no_inputs,
        _spread,
        _full,
    ],
)
def test_hostile_models(change: Callable[[Any], None]) -> None:
    with pytest.raises(MobilesegError, match=r"net\.onnx: "):
        read(edited(change))


class Small(nn.Module):
    """A network in the style of torch's own zoo."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 2, 2, 8), nn.Hardswish())
        self.up = nn.ConvTranspose2d(8, 8, 4, 2, 1)
        self.shuffle = nn.Sequential(nn.Conv2d(8, 12, 1), nn.PixelShuffle(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        y = self.up(self.deep(y) + y)
        gate = torch.sigmoid(y.mean((2, 3), keepdim=True))
        y = nn.functional.interpolate(y * gate, x.shape[2:], mode="bilinear")
        return nn.functional.softmax(self.shuffle(y), dim=1)


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_files_of_torchs_exporter(opset: int) -> None:
    torch.manual_seed(0)
    net, image, made = Small().eval(), normal(1, 3, 20, 28), io.BytesIO()
    words: dict[str, Any] = {"opset_version": opset, "dynamo": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(net, (torch.from_numpy(image),), made, **words)
        except (ImportError, TypeError, RuntimeError) as error:
            pytest.skip(f"this torch exports no ONNX without further packages: {error}")
    # Before opset 13 its softmax stands between two Transposes, which are no nodes.
    graph = assert_same(made.getvalue(), image.shape)
    assert graph.nodes[0].op == ops.Conv2d((2, 2), (1, 1, 1, 1), activation="relu6")
