"""Where reals and steps meet: borders stand where they must and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobileseg.errors import MobilesegError
from mobileseg.export.runtime import LiteRT
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops
from mobileseg.graph.execute_int8 import execute_int8, in_float
from mobileseg.graph.ir import Graph
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface, with_borders
from mobileseg.quantize.repair import kept_layers
from tests.graph.build import graph, text

IMAGE = (1, 3, 6, 8)


def made() -> Graph:
    return graph(
        IMAGE,
        ("a", ops.Conv2d(activation="relu"), "image", {"w": (5, 3, 1, 1), "b": (5,)}),
        ("c", ops.Conv2d(activation="relu6"), "a", {"v": (5, 5, 3, 3), "d": (5,)}),
        ("p", ops.Pad((1, 1, 1, 1)), "c"),
        ("s", ops.Add(), "a p"),
        ("y", ops.Conv2d(), "s", {"k": (4, 5, 1, 1), "e": (4,)}),
    )


def pictures() -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(1).integers(-128, 128, (4, *IMAGE[1:])).astype(np.int8)


def ranges(of: Graph) -> dict[str, tuple[float, float]]:
    return dict(calibrate(of, [pictures().astype(np.float32) / 128]))


def test_a_layer_in_the_middle() -> None:
    after, known = with_borders(made(), ranges(made()), {"c"}, "uint8")
    assert str(after) == text(
        """
        inputs %image: f32[1, 3, 6, 8]
        %a: f32[1, 5, 6, 8] = Conv2d(activation=relu) %image, w[5, 3, 1, 1], b[5]
        %a.reals: f32[1, 5, 6, 8] = Dequantize() %a
        %c: f32[1, 5, 4, 6] = Conv2d(activation=relu6) %a.reals, v[5, 5, 3, 3], d[5]
        %c.steps: f32[1, 5, 4, 6] = Quantize() %c
        %p: f32[1, 5, 6, 8] = Pad(pad=1x1x1x1) %c.steps
        %s: f32[1, 5, 6, 8] = Add() %a, %p
        %y: f32[1, 4, 6, 8] = Conv2d() %s, k[4, 5, 1, 1], e[4]
        outputs y
        """
    )
    assert known["c.steps"] == known["c"]


@pytest.mark.parametrize("kept", [["a"], ["c", "p"], ["s"], ["y"], ["a", "c", "p", "s", "y"]])
@pytest.mark.parametrize("interface", ["uint8", "int8", "float32"])
def test_the_runtime_computes_the_same(
    kept: list[str], interface: Interface, tmp_path: Path
) -> None:
    after = quantize(made(), ranges(made()), interface, kept)
    assert {node.layer for node in after.nodes if in_float(after, node)} == {*kept}
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(after))
    steps = pictures()
    given = {
        "int8": steps,
        "uint8": (steps.astype(np.int16) + 128).astype(np.uint8),
        "float32": steps.astype(np.float32) / 128,
    }[interface]
    found, expected = LiteRT(path)(given), execute_int8(after, given)
    assert found.dtype == expected.dtype == np.dtype(interface)
    largest = np.abs(expected.astype(np.float64)).max()
    step = 1.0 if interface != "float32" else largest / 255
    assert np.abs(found.astype(np.float64) - expected).max() <= 1.01 * step


def test_classes_are_integers_whatever_is_kept() -> None:
    classes = graph(
        IMAGE,
        ("y", ops.Conv2d(), "image", {"w": (5, 3, 1, 1), "b": (5,)}),
        ("m", ops.ArgMax(), "y"),
    )
    after = quantize(classes, ranges(classes), "uint8", {"y", "m"})
    assert after["m"].dtype == "int32" and after["m"].quant is None
    assert isinstance(after.producers["m"].op, ops.ArgMax)


def test_layers_by_globs() -> None:
    assert kept_layers(made(), ["s", "[ac]"]) == ("a", "c", "s")
    with pytest.raises(MobilesegError, match="keep_float: no layer is named 'z'"):
        kept_layers(made(), ["a", "z"])
