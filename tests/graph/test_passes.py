"""Each pass as text before and after, and that it changes no value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops, passes
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8
from mobileseg.graph.ir import Array, Graph
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from tests.graph.build import Line, graph, text

IMAGE = (1, 3, 6, 8)
CONV: Line = ("y", ops.Conv2d(), "image", {"w": (5, 3, 1, 1), "b": (5,)})
NORM = {"gamma": (5,), "beta": (5,), "mean": (5,), "variance": (5,)}
ALL_ONE = (1, 1, 1, 1)


def picture(shape: tuple[int, ...] = (2, *IMAGE[1:])) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def same_values(before: Graph, after: Graph, tolerance: float = 1e-5) -> None:
    x = picture((2, *before[before.inputs[0]].shape[1:]))
    torch.testing.assert_close(
        execute(after, x), execute(before, x), rtol=tolerance, atol=tolerance
    )


def with_positive_variance(before: Graph) -> Graph:
    data = before["variance"].data
    assert data is not None
    return before.with_tensors([replace(before["variance"], data=np.abs(data))])


def test_fold_batch_norm() -> None:
    before = with_positive_variance(graph(IMAGE, CONV, ("z", ops.BatchNorm(), "y", NORM)))
    after = passes.fold_batch_norm(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %z: f32[1, 5, 6, 8] = Conv2d() %image, y.weight[5, 3, 1, 1], y.bias[5]
        outputs z
    """)
    same_values(before, after)


def test_fold_batch_norm_into_a_transposed_convolution() -> None:
    op = ops.ConvTranspose2d(pad=ALL_ONE)
    deconv: Line = ("y", op, "image", {"w": (3, 5, 4, 4)})
    before = with_positive_variance(graph(IMAGE, deconv, ("z", ops.BatchNorm(), "y", NORM)))
    after = passes.fold_batch_norm(before)
    assert [node.op.kind for node in after.nodes] == ["ConvTranspose2d"]
    same_values(before, after)


def test_a_batch_norm_beside_another_reader_is_not_folded() -> None:
    lines: list[Line] = [CONV, ("z", ops.BatchNorm(), "y", NORM), ("s", ops.Add(), "y z")]
    before = graph(IMAGE, *lines)
    assert str(passes.fold_batch_norm(before)) == str(before)


@pytest.mark.parametrize("function", ["relu", "relu6"])
def test_fuse_activation(function: str) -> None:
    act = ops.Activation(function)  # type: ignore[arg-type]
    before = graph(IMAGE, ("y", ops.Add(), "image image"), ("z", act, "y"))
    after = passes.fuse_activation(before)
    assert str(after) == text(f"""
        inputs %image: f32[1, 3, 6, 8]
        %z: f32[1, 3, 6, 8] = Add(activation={function}) %image, %image
        outputs z
    """)
    same_values(before, after)


def test_fuse_activation_leaves_what_no_operator_takes() -> None:
    before = graph(IMAGE, CONV, ("z", ops.Activation("hard_swish"), "y"))
    assert str(passes.fuse_activation(before)) == str(before)


def test_fold_pad() -> None:
    before = graph(
        IMAGE,
        ("y", ops.Pad((0, 0, 1, 1)), "image"),
        ("z", ops.Conv2d((2, 2)), "y", {"w": (5, 3, 3, 3)}),
    )
    after = passes.fold_pad(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %z: f32[1, 5, 3, 4] = Conv2d(stride=2x2 pad=0x0x1x1) %image, w[5, 3, 3, 3]
        outputs z
    """)
    same_values(before, after)


def test_fold_crelu() -> None:
    before = graph(IMAGE, CONV, ("n", ops.Neg(), "y"), ("z", ops.Concat(), "y n"))
    after = passes.fold_crelu(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %z: f32[1, 10, 6, 8] = Conv2d() %image, w_crelu[10, 3, 1, 1], b_crelu[10]
        outputs z
    """)
    same_values(before, after, 0)


@pytest.mark.parametrize(
    "last",
    [
        pytest.param([("z", ops.Concat(), "n y")], id="other order"),
        pytest.param([("c", ops.Concat(), "y n"), ("z", ops.Concat(), "c y")], id="read twice"),
    ],
)
def test_fold_crelu_leaves_what_is_none(last: list[Line]) -> None:
    before = graph(IMAGE, CONV, ("n", ops.Neg(), "y"), *last)
    assert str(passes.fold_crelu(before)) == str(before)


def test_explicit_pad_for_torch_padding() -> None:
    conv: Line = ("y", ops.Conv2d((2, 2), ALL_ONE), "image", {"w": (5, 3, 3, 3)})
    before = graph(IMAGE, conv)
    after = passes.explicit_pad(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y.pad: f32[1, 3, 8, 10] = Pad(pad=1x1x1x1) %image
        %y: f32[1, 5, 3, 4] = Conv2d(stride=2x2) %y.pad, w[5, 3, 3, 3]
        outputs y
    """)
    same_values(before, after)


@pytest.mark.parametrize(
    ("stride", "pad", "height"), [(1, ALL_ONE, 6), (2, (0, 0, 1, 1), 6), (2, ALL_ONE, 7)]
)
def test_same_padding_needs_no_pad(stride: int, pad: ops.Pads, height: int) -> None:
    op = ops.Conv2d((stride, stride), pad)
    before = graph((1, 3, height, height + 2), ("y", op, "image", {"w": (5, 3, 3, 3)}))
    assert str(passes.explicit_pad(before)) == str(before)


def test_padded_maximum_of_what_is_never_negative() -> None:
    pool = ops.Pool("max", (3, 3), (2, 2), ALL_ONE)
    before = graph(IMAGE, ("y", ops.Activation("relu"), "image"), ("z", pool, "y"))
    after = passes.explicit_pad(before)
    assert [node.op.kind for node in after.nodes] == ["Activation", "Pad", "Pool"]
    same_values(before, after, 0)


@pytest.mark.parametrize("function", ["max", "mean"])
def test_padded_pooling_that_zeros_would_change_is_refused(function: str) -> None:
    pool = ops.Pool(function, (3, 3), (2, 2), ALL_ONE)  # type: ignore[arg-type]
    with pytest.raises(MobilesegError, match=f"y: {function} pooling padded by"):
        passes.explicit_pad(graph(IMAGE, ("y", pool, "image")))


def test_explicit_crop() -> None:
    op = ops.ConvTranspose2d((2, 2), ALL_ONE)
    before = graph(IMAGE, ("y", op, "image", {"w": (3, 5, 3, 3)}))
    after = passes.explicit_crop(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y.whole: f32[1, 5, 13, 17] = ConvTranspose2d() %image, w[3, 5, 3, 3]
        %y: f32[1, 5, 11, 15] = Crop(start=1x1 size=11x15) %y.whole
        outputs y
    """)
    same_values(before, after)


def test_a_cut_that_is_same_needs_no_crop() -> None:
    op = ops.ConvTranspose2d((2, 2), ALL_ONE)
    before = graph(IMAGE, ("y", op, "image", {"w": (3, 5, 4, 4)}))
    assert str(passes.explicit_crop(before)) == str(before)


def test_output_padding_beyond_the_padding_is_refused() -> None:
    op = ops.ConvTranspose2d((2, 2), extra=(1, 1))
    with pytest.raises(MobilesegError, match="y: output_padding larger"):
        passes.explicit_crop(graph(IMAGE, ("y", op, "image", {"w": (3, 5, 3, 3)})))


def test_explicit_bias() -> None:
    before = graph(IMAGE, ("y", ops.Conv2d(), "image", {"w": (5, 3, 1, 1)}))
    after = passes.explicit_bias(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y: f32[1, 5, 6, 8] = Conv2d() %image, w[5, 3, 1, 1], y.no_bias[5]
        outputs y
    """)
    same_values(before, after, 0)


def test_hard_sigmoid_of_relu6() -> None:
    before = graph(IMAGE, ("y", ops.Activation("hard_sigmoid"), "image"))
    after = passes.hard_sigmoid_of_relu6(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y.shifted: f32[1, 3, 6, 8] = Add(activation=relu6) %image, y.three[1, 1, 1, 1]
        %y: f32[1, 3, 6, 8] = Mul() %y.shifted, y.sixth[1, 1, 1, 1]
        outputs y
    """)
    same_values(before, after, 1e-6)


def test_neg_as_mul() -> None:
    before = graph(IMAGE, ("y", ops.Neg(), "image"))
    after = passes.neg_as_mul(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y: f32[1, 3, 6, 8] = Mul() %image, y.minus[1, 1, 1, 1]
        outputs y
    """)
    same_values(before, after, 0)


def test_float16_weights() -> None:
    before = graph(IMAGE, CONV)
    after = passes.float16_weights(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %w_f32: f32[5, 3, 1, 1] = Dequantize() w_f16[5, 3, 1, 1]
        %y: f32[1, 5, 6, 8] = Conv2d() %image, %w_f32, b[5]
        outputs y
    """)
    assert after["w_f16"].data is not None
    assert after["w_f16"].data.dtype == np.float16
    same_values(before, after, 2**-8)


def test_a_weight_beyond_float16_is_named() -> None:
    before = graph(IMAGE, CONV)
    huge = replace(before["w"], data=np.full((5, 3, 1, 1), 1e5, np.float32))
    with pytest.raises(MobilesegError, match="y: a weight of 100000"):
        passes.float16_weights(before.with_tensors([huge]))


def test_folding_after_float16_weights_keeps_the_order() -> None:
    """The weight's Dequantize stands between the Pad and its convolution."""
    op = ops.ConvTranspose2d(pad=ALL_ONE)
    before = graph(IMAGE, ("y", op, "image", {"w": (3, 5, 4, 4)}))
    after = passes.fold_pad(passes.float16_weights(passes.deconv_to_conv(before)))
    assert [node.op.kind for node in after.nodes] == [
        "Dequantize",
        "Conv2d",
        "DepthToSpace",
        "Crop",
    ]


def _int8(before: Graph, interface: str) -> Graph:
    ranges = calibrate(before, [picture().numpy()])
    return quantize(before, ranges, interface)  # type: ignore[arg-type]


def _pixels(dtype: str) -> Array:
    low = -128 if dtype == "int8" else 0
    random = np.random.default_rng(4)
    return random.integers(low, low + 256, (2, *IMAGE[1:])).astype(dtype)


def test_unsigned_steps_of_an_unsigned_interface() -> None:
    before = _int8(graph(IMAGE, CONV), "uint8")
    after = passes.unsigned_steps(before)
    assert str(before) == text("""
        inputs %image: u8[1, 3, 6, 8]
        %image_int8: i8[1, 3, 6, 8] = Quantize() %image
        %y_int8: i8[1, 5, 6, 8] = Conv2d() %image_int8, w_int8[5, 3, 1, 1], b_int32[5]
        %y: u8[1, 5, 6, 8] = Quantize() %y_int8
        outputs y
    """)
    assert str(after) == text("""
        inputs %image: u8[1, 3, 6, 8]
        %y: u8[1, 5, 6, 8] = Conv2d() %image, w_int8[5, 3, 1, 1], b_int32[5]
        outputs y
    """)
    given = _pixels("uint8")
    np.testing.assert_array_equal(execute_int8(after, given), execute_int8(before, given))


def test_unsigned_steps_keep_an_int8_interface() -> None:
    before = _int8(graph(IMAGE, CONV), "int8")
    after = passes.unsigned_steps(before)
    assert str(after) == text("""
        inputs %image: i8[1, 3, 6, 8]
        %image_u8: u8[1, 3, 6, 8] = Quantize() %image
        %y_u8: u8[1, 5, 6, 8] = Conv2d() %image_u8, w_int8[5, 3, 1, 1], b_int32[5]
        %y: i8[1, 5, 6, 8] = Quantize() %y_u8
        outputs y
    """)
    given = _pixels("int8")
    np.testing.assert_array_equal(execute_int8(after, given), execute_int8(before, given))


def test_unsigned_steps_leave_floats_alone() -> None:
    before = graph(IMAGE, CONV)
    assert passes.unsigned_steps(before) is before


@pytest.mark.parametrize(
    "each", [*passes.NORMALISE, *passes.REWRITES, *passes.SETTLE, *passes.FOR_TFLITE]
)
def test_a_pass_that_finds_nothing_changes_nothing(each: passes.Pass) -> None:
    before = graph(IMAGE, CONV, ("z", ops.Softmax(), "y"))
    assert str(each(before)) == str(before)
