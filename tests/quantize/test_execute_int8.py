"""Corners of the integer kernels that a network meets rarely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.execute_int8 import LIMITS, _summed, execute_int8, step_limits
from mobileseg.graph.ir import QuantParams, Tensor
from mobileseg.quantize.convert import quantize
from tests.graph.build import graph

IMAGE = (1, 3, 6, 8)


def test_long_sums_are_exact() -> None:
    """Half of 4096 channels add 16 million, the other half takes it away again, but for one."""
    random = np.random.default_rng(3)
    half = random.integers(100, 127, 2048)
    weight = np.stack([np.concatenate([half, -half[::-1]])] * 2)
    weight[1, 7] += 1
    # The largest weight of each output makes its scale 1 / 127: steps are these integers.
    weight[:, 0], weight[:, -1] = 127, -127
    before = graph((1, 4096, 1, 1), ("y", ops.Conv2d(), "image", {"w": (2, 4096, 1, 1)}))
    data = (weight / 127).astype(np.float32).reshape(2, 4096, 1, 1)
    product = 1 / 128 / 127
    ranges = {"image": (-1.0, 1.0), "y": (-128 * product, 127 * product)}
    after = quantize(before.with_tensors([replace(before["w"], data=data)]), ranges, "int8")
    result = execute_int8(after, np.full((1, 4096, 1, 1), 127, np.int8))
    assert result.ravel().tolist() == [0, 127]


@pytest.mark.parametrize(("groups", "along"), [(1, 1), (6, 1), (2, 1), (1, 0)])
def test_cut_sums_are_those_of_float64(groups: int, along: int) -> None:
    """Dense, depthwise and grouped convolutions, and a transposed one, of int16 steps."""
    random = torch.Generator().manual_seed(1)
    x = torch.randint(-(2**15), 2**15, (2, 6, 9, 8), generator=random).float()
    shape = (6, 6 // groups, 7, 5)
    weight = torch.randint(-127, 128, shape, generator=random).float()

    def convolve(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if along == 0:
            return torch.conv_transpose2d(x, weight)
        return torch.conv2d(x, weight, groups=groups)

    total = _summed(x, weight, convolve, along, groups == 1)
    assert torch.equal(total.double(), convolve(x.double(), weight.double()))


def test_limits_of_a_fused_activation() -> None:
    wide = Tensor("y", IMAGE, "int8", QuantParams(np.array([0.1]), -28))
    assert step_limits(wide, "none") == LIMITS["int8"]
    assert step_limits(wide, "relu") == (-28, 127)
    assert step_limits(wide, "relu6") == (-28, 32)


def test_an_unquantized_tensor_is_named() -> None:
    before = graph(IMAGE, ("y", ops.Add(), "image image"))
    image = replace(before["image"], dtype="int8", quant=QuantParams(np.array([1 / 128])))
    with pytest.raises(MobilesegError, match="y: has no scale; calibrate it"):
        execute_int8(before.with_tensors([image]), np.zeros(IMAGE, np.int8))


def test_a_float_operator_is_named() -> None:
    names = ("gamma", "beta", "mean", "variance")
    before = graph(IMAGE, ("y", ops.BatchNorm(), "image", dict.fromkeys(names, (3,))))
    image = replace(before["image"], dtype="int8", quant=QuantParams(np.array([1 / 128])))
    with pytest.raises(MobilesegError, match="y: BatchNorm is no int8 operator"):
        execute_int8(before.with_tensors([image]), np.zeros(IMAGE, np.int8))
