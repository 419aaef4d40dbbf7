"""The numbers of the int8 scheme: scales, zero points, weights, biases, what shares what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileseg.errors import MobilesegError
from mobileseg.export.runtime import LiteRT
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops
from mobileseg.graph.execute_int8 import execute_int8, quant_of
from mobileseg.graph.ir import Graph
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize, scale_of
from mobileseg.quantize.qat.scales import groups
from tests.graph.build import Line, graph

IMAGE = (1, 3, 6, 8)
CONV: Line = ("y", ops.Conv2d(), "image", {"w": (5, 3, 1, 1), "b": (5,)})
OTHER: Line = ("o", ops.Conv2d(), "image", {"v": (4, 3, 1, 1), "c": (4,)})


def int8(before: Graph, interface: str = "int8", **ranges: tuple[float, float]) -> Graph:
    pictures = np.random.default_rng(6).uniform(-1, 1, (4, *IMAGE[1:])).astype(np.float32)
    found = dict(calibrate(before, [pictures])) | ranges
    return quantize(before, found, interface)  # type: ignore[arg-type]


finite = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@given(finite, finite)
def test_a_scale_spans_its_range_and_holds_zero(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    quant = scale_of(low, high)
    scale = float(quant.scale[0])
    assert -128 <= quant.zero_point <= 127
    # The zero point is rounded, so an end may be half a step away.
    assert scale * (127 - quant.zero_point) >= min(high, 1e30) - 0.501 * scale
    assert scale * (-128 - quant.zero_point) <= low + 0.501 * scale
    assert scale == np.float32(scale)


def test_weights_and_bias() -> None:
    before = graph(IMAGE, CONV)
    after = int8(before)
    weight, bias = after["w_int8"], after["b_int32"]
    assert weight.data is not None and bias.data is not None
    assert before["w"].data is not None and before["b"].data is not None
    scale = quant_of(weight).scale
    np.testing.assert_allclose(scale, np.abs(before["w"].data).max(axis=(1, 2, 3)) / 127, 1e-6)
    assert (np.abs(weight.data).max(axis=(1, 2, 3)) == 127).all()
    np.testing.assert_allclose(quant_of(bias).scale, scale / 128, 1e-6)
    np.testing.assert_allclose(bias.data * scale / 128, before["b"].data, atol=scale.max() / 128)


def test_the_weights_of_a_transposed_convolution_have_their_channels_second() -> None:
    op = ops.ConvTranspose2d()
    after = int8(graph(IMAGE, ("y", op, "image", {"w": (3, 5, 2, 2)})))
    quant = quant_of(after["w_int8"])
    assert quant.axis == 1 and quant.scale.shape == (5,)


def test_pixels_are_steps() -> None:
    quant = quant_of(int8(graph(IMAGE, CONV))["image"])
    assert quant.scale[0] == 1 / 128 and quant.zero_point == 0


@pytest.mark.parametrize("head", [ops.Softmax(), ops.Activation("sigmoid")])
def test_probabilities_have_256_steps(head: ops.Op) -> None:
    quant = quant_of(int8(graph(IMAGE, CONV, ("z", head, "y")))["z"])
    assert quant.scale[0] == 1 / 256 and quant.zero_point == -128


def test_classes_have_no_scale() -> None:
    after = int8(graph(IMAGE, CONV, ("z", ops.ArgMax(), "y")), "uint8")
    assert after["z"].quant is None and after["z"].dtype == "int32"


def test_what_is_joined_shares_a_scale() -> None:
    """Through a chain: the pad's input, the pad, the other convolution and the join."""
    lines: list[Line] = [
        CONV,
        ("p", ops.Pad((1, 1, 1, 1)), "y"),
        ("q", ops.Crop((1, 1), (6, 8)), "p"),
        OTHER,
        ("z", ops.Concat(), "q o"),
    ]
    after = int8(graph(IMAGE, *lines), y=(-2, 1), p=(-2, 1), q=(-2, 1), o=(-1, 5), z=(-2, 5))
    shared = scale_of(-2, 5)
    assert all(quant_of(after[name]).same_as(shared) for name in ("y", "p", "q", "o", "z"))


@pytest.mark.parametrize("other", ["image", "o"])
def test_what_has_a_scale_of_its_own_is_joined_in_another(other: str) -> None:
    lines: list[Line] = [CONV, ("s", ops.Softmax(), "y"), OTHER, ("z", ops.Concat(), f"s {other}")]
    before = graph(IMAGE, *lines)
    after = int8(before, s=(0, 1), o=(-3, 5), z=(-3, 5), image=(-1, 1))
    joined = ("z", "s.rescaled", f"{other}.rescaled" if other == "image" else other)
    assert all(quant_of(after[name]).same_as(scale_of(-3, 5)) for name in joined)
    assert quant_of(after["s"]).zero_point == -128
    with pytest.raises(MobilesegError, match="qat cannot train that"):
        groups(before)


def test_copies_of_one_fixed_scale_keep_it() -> None:
    """A resize of probabilities needs no other steps than these."""
    lines: list[Line] = [CONV, ("s", ops.Softmax(), "y"), ("z", ops.Resize((12, 16)), "s")]
    after = int8(graph(IMAGE, *lines), s=(0, 1), z=(0, 1))
    assert [node.op.kind for node in after.nodes] == ["Conv2d", "Softmax", "Resize"]
    assert quant_of(after["z"]).same_as(quant_of(after["s"]))


def test_a_tensor_without_a_range_is_named() -> None:
    with pytest.raises(MobilesegError, match="y: has no range"):
        quantize(graph(IMAGE, CONV), {"image": (-1, 1)})


def test_constants_of_element_wise_operators() -> None:
    before = graph(IMAGE, ("y", ops.Mul(), "image", {"k": (1, 3, 1, 1)}))
    after = int8(before)
    steps, k = after["k_int8"], before["k"].data
    assert steps.data is not None and k is not None
    quant = quant_of(steps)
    real = (steps.data.astype(np.float64) - quant.zero_point) * quant.scale[0]
    np.testing.assert_allclose(real, k, atol=0.51 * quant.scale[0])


DEAD: dict[str, Line] = {
    "add": ("z", ops.Add("relu"), "y", {"k": (1, 1, 1, 1)}),
    "mul": ("z", ops.Mul("relu"), "y", {"k": (1, 5, 1, 1)}),
    "conv": ("z", ops.Conv2d(activation="relu"), "y", {"k": (4, 5, 1, 1), "l": (4,)}),
    "deconv": ("z", ops.ConvTranspose2d(activation="relu"), "y", {"k": (5, 4, 2, 2)}),
}


@pytest.mark.parametrize("kind", DEAD)
def test_a_dead_output_does_not_end_the_process(kind: str, tmp_path: Path) -> None:
    """A ReLU that is always zero has a range of nothing; kernels abort on such a ratio."""
    alive = ("y", ops.Conv2d(activation="relu"), "image", {"w": (5, 3, 1, 1), "b": (5,)})
    before = graph(IMAGE, alive, DEAD[kind])
    below = [
        replace(tensor, data=-np.abs(tensor.data))
        for tensor in before.tensors.values()
        if tensor.name in {"k", "l"} and tensor.data is not None
    ]
    after = int8(before.with_tensors(below), y=(0, 1), z=(0, 0))
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(after))
    pixels = np.random.default_rng(1).integers(-128, 128, (2, *IMAGE[1:])).astype(np.int8)
    np.testing.assert_array_equal(LiteRT(path)(pixels), execute_int8(after, pixels))


def test_a_dead_channel_gets_a_scale() -> None:
    before = graph(IMAGE, CONV)
    weight = before["w"].data
    assert weight is not None
    dead = weight.copy()
    dead[2] = 0
    after = int8(before.with_tensors([replace(before["w"], data=dead)]))
    assert (quant_of(after["w_int8"]).scale > 0).all()
    assert (np.abs(after["b_int32"].data) < 2**30).all()  # type: ignore[arg-type]


def test_images_of_another_type_are_refused() -> None:
    with pytest.raises(MobilesegError, match="image: takes int8 images, not float32"):
        execute_int8(int8(graph(IMAGE, CONV)), np.zeros(IMAGE, np.float32))


def test_int8_is_near_float() -> None:
    """On one layer, where nothing can be chaotic: half a step of the output, and of the weights."""
    before = graph(IMAGE, CONV)
    after = int8(before)
    pixels = np.random.default_rng(1).integers(-128, 128, (2, *IMAGE[1:])).astype(np.int8)
    quant = quant_of(after["y"])
    real = (execute_int8(after, pixels) - np.float64(quant.zero_point)) * quant.scale[0]
    weight, bias = before["w"].data, before["b"].data
    assert weight is not None and bias is not None
    exact = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], pixels / 128) + bias[:, None, None]
    low, high = (quant.scale[0] * (end - quant.zero_point) for end in (-128, 127))
    np.testing.assert_allclose(real, exact.clip(low, high), atol=0.5 * quant.scale[0] + 0.02)
