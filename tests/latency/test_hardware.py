"""A device scaled by its data sheet, and the jump that is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.latency.expand import network_graph
from mobileseg.latency.facts import read_facts
from mobileseg.latency.hardware import borrowed, read_clusters, transferred
from mobileseg.latency.price import price
from mobileseg.latency.profile import DeviceProfile, load_profile
from tests.latency.small import KERNEL, TABLE

ASSETS = Path(__file__).parents[2] / "assets"
FACTS = ASSETS / "latency"


def profile(name: str) -> DeviceProfile:
    return load_profile(ASSETS / "devices" / f"{name}.toml")


def test_half_the_clock_takes_twice_as_long_where_arithmetic_binds() -> None:
    base = profile("pixel4")
    slower = transferred(base, FACTS, "Snapdragon 730G", "slow", "Slow")
    graph = network_graph("mobilenet_v1", 1.0, 224, "float32")
    before, after = price(graph, base), price(graph, slower)
    assert after.ms / before.ms == pytest.approx(2.42 / 2.2, rel=0.05)
    assert after.high_ms / after.ms > 1.1 * before.high_ms / before.ms
    assert slower.float32.basis == "transferred"
    assert after.coverage()["fitted"] == 0.0
    assert "no TFLite or Paddle-Lite time is public" in slower.note


def test_a_measured_chip_lies_in_the_band_of_its_transfer() -> None:
    """Kirin 980 from a Snapdragon 855: same core and runtime, and it was measured."""
    foretold = transferred(profile("sd855"), FACTS, "Kirin 980", "k", "K")
    rows = [row for row in read_facts(FACTS) if row.device == "kirin980"]
    names = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet50")
    inside = 0
    for name in names:
        measured = next(r.ms for r in rows if r.family == name and r.precision == "float32")
        priced = price(network_graph(name, 1.0, 224, "float32"), foretold)
        inside += priced.low_ms <= measured <= priced.high_ms
    assert inside >= 4


def test_another_generation_is_refused() -> None:
    with pytest.raises(MobilesegError, match="Snapdragon 865 has Cortex-A77, pixel4 was measured"):
        transferred(profile("pixel4"), FACTS, "Snapdragon 865", "x", "X")


def test_a_gpu_does_not_scale_by_the_clock() -> None:
    with pytest.raises(MobilesegError, match="pixel3_gpu: 'Adreno 630' names no CPU core"):
        transferred(profile("pixel3_gpu"), FACTS, "Snapdragon 865", "x", "X")


def test_an_unknown_chip_is_named_with_the_nearest() -> None:
    with pytest.raises(MobilesegError, match="did you mean 'Snapdragon 730G'"):
        transferred(profile("pixel4"), FACTS, "Snapdragon 730", "x", "X")


def test_every_fact_has_a_source() -> None:
    assert all(one.source and one.core for one in read_clusters(FACTS / "clusters.csv"))


def test_a_slow_product_of_another_runtime_is_not_borrowed() -> None:
    slow = replace(KERNEL, giga_per_s=KERNEL.giga_per_s / 2)
    to = replace(TABLE, kernels=TABLE.kernels | {"depthwise": slow, "add": slow})
    kept = borrowed(TABLE, to, TABLE, "other", "int8").kernels
    held = borrowed(TABLE, to, TABLE, "other", "int8", least=1.0).kernels
    assert kept["depthwise"].giga_per_s == kept["add"].giga_per_s == slow.giga_per_s
    assert held["depthwise"].giga_per_s == KERNEL.giga_per_s
    assert held["add"].giga_per_s == slow.giga_per_s
