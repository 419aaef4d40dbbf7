"""The networks that a machine is calibrated with."""

from __future__ import annotations

from collections import Counter

import pytest

from mobileseg.export.tflite import write_tflite
from mobileseg.latency.calibrate import FUSES, sample
from mobileseg.latency.design import MOST_MACS, SINGLE, design
from mobileseg.latency.kernels import folded
from mobileseg.latency.profile import KERNELS, Precision
from mobileseg.workflow.calibrate import as_precision

MODELS = design()
# In a TFLite file these two are written as sums and products.
NEVER = {"neg", "hard_sigmoid"}
ONLY_INT8 = {"quantize", "dequantize"}


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_kernel_has_networks(precision: Precision, quick: bool) -> None:
    seen = Counter[str]()
    for model in design(quick):
        graph = as_precision(model, precision)
        seen.update({op.kernel for op in sample(graph, model.family, 1.0).operators})
    missing = NEVER | (ONLY_INT8 if precision == "float32" else set())
    assert KERNELS.keys() - seen.keys() == missing
    assert min(seen.values()) >= 2


def test_the_same_networks_every_time() -> None:
    again = design()
    assert [(one.name, str(one.graph)) for one in again] == [
        (one.name, str(one.graph)) for one in MODELS
    ]


def test_names_are_files_of_their_own() -> None:
    names = [model.name for model in MODELS]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalnum() for name in names)


def test_networks_are_small_and_of_several_families() -> None:
    assert all(model.graph.total_macs <= 3 * MOST_MACS for model in MODELS)
    families = Counter(model.family for model in MODELS)
    assert len(families) >= 10
    assert all(count >= 4 for family, count in families.items() if family != SINGLE)


def test_maps_and_channels_spread() -> None:
    pointwise = [
        op
        for model in MODELS
        for op in sample(model.graph, model.family, 1.0).operators
        if op.kernel == "pointwise"
    ]
    # Heavy weights on small maps, thin layers on large ones.
    assert any(op.pixels <= 49 and op.channels >= 256 for op in pointwise)
    assert any(op.pixels >= 6400 and op.channels <= 32 for op in pointwise)


def test_a_pad_that_the_runtime_folds_takes_no_time() -> None:
    model = next(one for one in MODELS if one.family == "decoder_by_conv")
    kernels = [op.kernel for op in sample(model.graph, model.family, 1.0).operators]
    assert "pad" not in kernels and "depth_to_space" in kernels
    assert any(folded(model.graph, node, FUSES) for node in model.graph.nodes)


def test_files_can_be_written() -> None:
    for model in MODELS[::7]:
        for precision in ("float32", "int8"):
            assert write_tflite(as_precision(model, precision))
