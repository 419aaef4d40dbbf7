"""A machine known to the last coefficient is found again from its times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mobileseg.errors import MobilesegError
from mobileseg.files import shipped
from mobileseg.latency.calibrate import NOISE_BOUND, Noise, calibrated, noise, sample, visits
from mobileseg.latency.design import design
from mobileseg.latency.price import price
from mobileseg.latency.profile import KERNELS, DeviceProfile, load_profile
from mobileseg.latency.solve import Sample

QUIET = Noise(1.0, 1.0)
TRUTH = load_profile(shipped("assets", "devices", "pixel4.toml"))
MODELS = design(quick=True)


def timed(profile: DeviceProfile, jitter: float) -> list[Sample]:
    """The designed networks' float times on a machine that is as its profile says."""
    random = np.random.default_rng(5)
    return [
        sample(one.graph, one.family, price(one.graph, profile).ms * random.lognormal(0, jitter))
        for one in MODELS
    ]


@pytest.fixture(scope="module")
def found() -> DeviceProfile:
    return replace(TRUTH, name="found", float32=calibrated(timed(TRUTH, 0.03), QUIET))


def test_finds_the_machine_again(found: DeviceProfile) -> None:
    others = [one for one in design() if one.family not in ("single", "head")][1::2]
    misses = [abs(price(one.graph, found).ms / price(one.graph, TRUTH).ms - 1) for one in others]
    assert np.median(misses) < 0.04
    assert found.float32.error.median_percent < 8
    assert found.float32.error.check == "family"
    assert found.float32.error.families >= 10


def test_every_kernel_has_a_price_and_says_what_it_rests_on(found: DeviceProfile) -> None:
    kernels = found.float32.kernels
    assert list(kernels) == list(KERNELS)
    for name in ("pointwise", "dense", "depthwise", "transposed", "resize_bilinear", "argmax"):
        assert kernels[name].basis == "fitted"
    for name in ("neg", "hard_sigmoid", "quantize", "dequantize"):
        assert kernels[name].basis == "assumed" and "of the rate of" in kernels[name].note
        assert kernels[name].error_factor >= 1.8


def test_slow_rounds_do_not_count() -> None:
    rounds = [{"us": us, "wall_us": us, "p90_us": us} for us in (1000.0, 1010.0, 1020.0, 990.0)]
    calm = visits(rounds)
    rudely = visits([*rounds, {"us": 9000.0, "wall_us": 9000.0, "p90_us": 9000.0}])
    assert calm.ms == pytest.approx(1.005) and rudely.ms == pytest.approx(1.01)
    assert calm.spread < 0.02


def test_what_others_took_is_seen() -> None:
    seen = noise([visits([{"us": 600.0, "wall_us": 1000.0, "p90_us": 600.0}])] * 3)
    assert seen.stolen_percent == pytest.approx(40.0)
    assert "take 40 % of the time" in seen.warning()


def test_a_busy_machine_is_said_and_widens_the_band(found: DeviceProfile) -> None:
    busy = Noise(30.0, 5.0)
    table = calibrated(timed(TRUTH, 0.03), busy)
    assert table.error.factor > found.float32.error.factor
    assert "differ by 30.0 %" in table.note and "stop them and calibrate again" in table.note
    assert found.float32.note == "" and Noise(NOISE_BOUND, 0.0).warning() == ""


def test_without_blocks_there_is_no_error_to_state() -> None:
    rows = [one for one in timed(TRUTH, 0.0) if one.family == "single"]
    with pytest.raises(MobilesegError, match="no block was timed"):
        calibrated(rows, QUIET)
