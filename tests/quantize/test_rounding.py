"""Rounding that is learned keeps an output that nearest rounding loses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from mobileseg.graph import ops
from mobileseg.graph.ir import Graph, Tensor
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.lockstep import Meeting, lockstep
from mobileseg.quantize.rounding import learned_rounding, worst_rounded
from tests.graph.build import Line, graph

IMAGE = (1, 3, 10, 12)

KINDS: dict[str, ops.Conv2d] = {
    "dense": ops.Conv2d(stride=(2, 1), pad=(1, 2, 0, 1), activation="relu"),
    "dilated in groups": ops.Conv2d(dilation=(2, 3), pad=(2, 3, 2, 3), groups=2),
    "depthwise": ops.Conv2d(groups=6, stride=(2, 2), activation="relu6"),
}


def made(op: ops.Conv2d) -> Graph:
    first: Line = ("a", ops.Conv2d(activation="relu"), "image", {"w": (6, 3, 1, 1), "b": (6,)})
    weight = (12, 6 // op.groups, 3, 3)
    return graph(IMAGE, first, ("y", op, "a", {"v": weight, "c": (12,)}))


def pictures() -> np.ndarray:  # type: ignore[type-arg]
    noise = np.random.default_rng(3).integers(-128, 128, (16, *IMAGE[1:])) / 128
    # Neighbours alike, as in pictures: only then is there something to learn.
    smooth = sum(np.roll(noise, shift, axis) for axis in (2, 3) for shift in range(4)) / 8
    return np.asarray(smooth, np.float32)


def coarse(before: Graph) -> Graph:
    """Return the int8 graph with the second layer's weights in few, large steps."""
    body = quantize(before, calibrate(before, [pictures()]), "int8")
    tensor = body["v_int8"]
    data, quant = before["v"].data, tensor.quant
    assert data is not None and quant is not None
    wide = replace(quant, scale=quant.scale * 32)
    steps = np.round(data / wide.scale.reshape(-1, 1, 1, 1)).astype(np.int8)
    bias = body["c_int32"]
    assert bias.data is not None and bias.quant is not None
    rescaled = replace(
        bias,
        data=np.round(bias.data / 32).astype(np.int32),
        quant=replace(bias.quant, scale=bias.quant.scale * 32),
    )
    return body.with_tensors([replace(tensor, data=steps, quant=wide), rescaled])


def noise(before: Graph, body: Graph) -> float:
    """Return the error of the second layer's sums, before they are rounded to steps."""
    found: list[float] = []

    def see(at: Meeting) -> Iterator[Tensor]:
        if at.node.output == "y":
            found.append(float((at.linear(at.floats) - at.linear(at.reals)).square().mean()))
        return iter(())

    lockstep(before, body, pictures(), see)
    return found[0]


@pytest.mark.parametrize("kind", KINDS)
def test_learned_rounding_is_nearer(kind: str) -> None:
    before = made(KINDS[kind])
    body = coarse(before)
    after = lockstep(before, body, pictures(), learned_rounding(["y"]))
    assert noise(before, after) < 0.8 * noise(before, body)
    old, new = body["v_int8"].data, after["v_int8"].data
    assert old is not None and new is not None and np.abs(new.astype(int) - old).max() == 1
    np.testing.assert_array_equal(after["w_int8"].data, body["w_int8"].data)  # type: ignore[arg-type]


def test_the_worst_layer_is_found() -> None:
    before = made(KINDS["dense"])
    assert worst_rounded(before, coarse(before), pictures(), 1) == ("y",)
    assert set(worst_rounded(before, coarse(before), pictures(), 5)) == {"a", "y"}
