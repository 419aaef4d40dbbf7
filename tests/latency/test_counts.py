"""Instructions counted on Arm as rates of a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mobileseg.latency.counts import COUNTED_FACTOR, counted
from mobileseg.latency.profile import KERNELS, load_profile
from tests.latency.small import KERNEL

ASSETS = Path(__file__).parents[2] / "assets"
COUNTS = load_profile(ASSETS / "latency" / "arm_counts.toml")
FLOAT32 = {name: replace(KERNEL, giga_per_s=100.0) for name in KERNELS}


def test_a_kernel_runs_as_many_instructions_a_second_as_pointwise_does() -> None:
    found = counted(COUNTS, "int8", FLOAT32)
    assert COUNTS.int8 is not None
    speed = 100.0 / COUNTS.float32.kernels["pointwise"].giga_per_s
    relu = COUNTS.int8.kernels["relu"].giga_per_s
    assert found["relu"].giga_per_s == pytest.approx(relu * speed, rel=1e-3)
    assert (found["relu"].basis, found["relu"].error_factor) == ("assumed", COUNTED_FACTOR)
    assert not {"pointwise", "dense", "depthwise", "transposed", "grouped"} & found.keys()


def test_no_kernel_gains_more_on_its_float_form_than_the_counts_do() -> None:
    slow = FLOAT32 | {name: replace(KERNEL, giga_per_s=1.0) for name in ("softmax", "crop")}
    found = counted(COUNTS, "int8", slow)
    assert COUNTS.int8 is not None
    both = (COUNTS.int8.kernels["crop"], COUNTS.float32.kernels["crop"])
    assert found["softmax"].giga_per_s == 1.0
    assert found["crop"].giga_per_s == pytest.approx(
        both[0].giga_per_s / both[1].giga_per_s, rel=1e-3
    )
