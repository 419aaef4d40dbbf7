"""No price is lower than what a data sheet allows, on any shipped device."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from mobileseg.graph import ops
from mobileseg.graph.ir import DType, Graph
from mobileseg.latency.hardware import memory_of, read_clusters
from mobileseg.latency.peak import clocks, held, peak, read_cores, short_below
from mobileseg.latency.price import price
from mobileseg.latency.profile import KERNELS, Precision, load_profile, precisions, profiles
from tests.latency.small import DEVICE, graph_of

ASSETS = Path(__file__).parents[2] / "assets"
CORES = read_cores(ASSETS / "latency" / "cores.csv")
SHIPPED = profiles(ASSETS / "devices")
# An x86-64 whose clock nobody states, and a GPU.
UNKNOWN = {"host", "pixel3_gpu"}


def test_cores_are_read_from_a_profiles_text() -> None:
    assert clocks("Cortex-A72 1.5 GHz", 4) == [("Cortex-A72", 1.5)] * 4
    assert clocks("Cortex-A75 2.5 to 2.8 GHz", 1) == [("Cortex-A75", 2.8)]
    assert clocks("Cortex-A76 2.84 GHz and 3 at 2.42 GHz", 4) == [
        ("Cortex-A76", 2.84),
        *[("Cortex-A76", 2.42)] * 3,
    ]
    assert clocks("2 Cortex-X1 2.8 GHz and 2 Cortex-A76 2.25 GHz", 4) == [
        *[("Cortex-X1", 2.8)] * 2,
        *[("Cortex-A76", 2.25)] * 2,
    ]
    assert clocks("Adreno 630", 1) == []


def test_peaks_by_hand() -> None:
    one, four = "Cortex-A76 2.84 GHz", "Cortex-A76 2.84 GHz and 3 at 2.42 GHz"
    assert peak(one, 1, "float32", CORES) == pytest.approx(2.84 * 8)
    assert peak(one, 1, "float16", CORES) == pytest.approx(2.84 * 16)
    assert peak(one, 1, "int8", CORES) == pytest.approx(2.84 * 32)
    assert peak(four, 4, "float32", CORES) == pytest.approx((2.84 + 3 * 2.42) * 8)
    # No dot product: twice float32 at most.
    assert peak("Cortex-A75 2.8 GHz", 1, "int8", CORES) == pytest.approx(2.8 * 8)
    assert peak("Adreno 630", 1, "float32", CORES) == inf
    assert peak("Cortex-A9 1.0 GHz", 1, "float32", CORES) == inf


def test_every_core_has_a_source() -> None:
    assert all(core.source for core in CORES.values())


def test_a_profile_is_held_below_its_cores_and_its_memory() -> None:
    slow = replace(DEVICE, core="Cortex-A72 0.123456 GHz")
    found = held(slow, CORES, memory=3.0)
    assert {kernel.giga_per_s for kernel in found.float32.kernels.values()} == {0.4938}
    assert found.float32.dram_gb_per_s == 3.0
    assert held(DEVICE, CORES, inf) == DEVICE
    assert short_below(1.23456) == 1.234


def test_every_chip_of_a_shipped_profile_is_known() -> None:
    unknown = {
        name
        for name, path in SHIPPED.items()
        for profile in [load_profile(path)]
        if peak(profile.core, profile.threads, "float32", CORES) == inf
    }
    assert unknown == UNKNOWN
    for name in SHIPPED.keys() - UNKNOWN:
        profile = load_profile(SHIPPED[name])
        assert len(clocks(profile.core, profile.threads)) == profile.threads


@pytest.mark.parametrize("name", sorted(SHIPPED.keys() - UNKNOWN))
def test_no_rate_of_a_shipped_profile_exceeds_the_data_sheet(name: str) -> None:
    profile = load_profile(SHIPPED[name])
    memory = memory_of(read_clusters(ASSETS / "latency" / "clusters.csv"), profile.soc)
    for precision, table in precisions(profile):
        most = peak(profile.core, profile.threads, precision, CORES)
        assert table.kernels.keys() == KERNELS.keys()
        assert {k: v.giga_per_s for k, v in table.kernels.items() if v.giga_per_s > most} == {}
        assert table.dram_gb_per_s <= memory


# Large layers, whose loops waste nothing: operator, inputs, constants.
PLANE = (1, 64, 56, 60)
LAYERS: list[tuple[ops.Op, list[tuple[int, ...]], list[tuple[int, ...]]]] = [
    (ops.Conv2d(), [PLANE], [(128, 64, 1, 1)]),
    (ops.Conv2d(pad=(1, 1, 1, 1)), [PLANE], [(128, 64, 3, 3)]),
    (ops.Conv2d(stride=(2, 2), pad=(1, 1, 1, 1)), [PLANE], [(128, 64, 3, 3)]),
    (ops.Conv2d(dilation=(2, 2), pad=(2, 2, 2, 2)), [PLANE], [(128, 64, 3, 3)]),
    (ops.Conv2d(groups=2, pad=(1, 1, 1, 1)), [PLANE], [(128, 32, 3, 3)]),
    (ops.Conv2d(groups=64, pad=(1, 1, 1, 1)), [PLANE], [(64, 1, 3, 3)]),
    (ops.ConvTranspose2d(stride=(2, 2), pad=(1, 1, 1, 1)), [PLANE], [(64, 128, 4, 4)]),
    (ops.Add(), [PLANE, PLANE], []),
    (ops.Activation("hard_swish"), [PLANE], []),
    (ops.Softmax(), [PLANE], []),
    (ops.Resize((112, 120)), [PLANE], []),
    (ops.Concat(), [PLANE, PLANE], []),
]


@pytest.mark.parametrize("name", sorted(SHIPPED.keys() - UNKNOWN))
def test_no_layer_is_faster_than_the_roofline_of_the_data_sheet(name: str) -> None:
    profile = load_profile(SHIPPED[name])
    for precision, _ in precisions(profile):
        most = peak(profile.core, profile.threads, precision, CORES)
        for op, inputs, constants in LAYERS:
            row = price(_layer(op, inputs, constants, precision), profile, half=_half(precision))
            done = row.rows[0]
            units = done.macs or 64 * 56 * 60
            assert done.ms >= units / _fewer(profile.fuses, op, precision) / most / 1e6


def _layer(
    op: ops.Op,
    inputs: list[tuple[int, ...]],
    constants: list[tuple[int, ...]],
    precision: Precision,
) -> Graph:
    dtype: DType = "int8" if precision == "int8" else "float32"
    return graph_of(op, tuple(inputs), tuple(constants), dtype)


def _half(precision: Precision) -> bool:
    return precision == "float16"


def _fewer(fuses: tuple[str, ...], op: ops.Op, precision: Precision) -> float:
    """Winograd's four outputs of 16 products instead of 36, where a runtime has it."""
    return 36 / 16 if "winograd" in fuses and op == LAYERS[1][0] and precision != "int8" else 1.0
