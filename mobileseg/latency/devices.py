"""The devices that published measurements exist for, and those transferred from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mobileseg.latency.profile import Fused


@dataclass(frozen=True)
class Device:
    """One profile to fit.

    blocks: whether `blocks.csv.gz` has a column `NAME_ms`; otherwise `networks.csv` has rows.
    donor: the device whose fitted coefficients, scaled to the rows, are the prior.
    like: the device whose ratios of float16 and int8 to float32 are taken: as they are where no
        row of the precision exists, as the prior where there are but two families.
    step: two devices; the donor's coefficients are multiplied by the second's over the first's, as
        by those of four threads over those of one.
    speed: float32 arithmetic relative to a Cortex-A76 at 2.4 GHz; a start for the fit, no result.
    pixel_tile: positions that a micro-kernel takes at once.
    fuses: see `DeviceProfile`. note: what a reader of the figures should bear in mind.
    """

    name: str
    title: str
    soc: str
    core: str
    threads: int
    runtime: str
    year: int
    blocks: bool = False
    donor: str = ""
    like: str = ""
    step: tuple[str, str] = ("", "")
    speed: float = 1.0
    pixel_tile: int = 6
    accelerator: Literal["cpu", "gpu"] = "cpu"
    fuses: tuple[Fused, ...] = ("pad",)
    note: str = ""


_TFLITE = "TFLite benchmark_model (2.7 era, XNNPACK)"
_PADDLE = "Paddle-Lite 2.8 to 2.11"
# Source: PaddlePaddle/Paddle-Lite@0110b900 lite/kernels/arm/conv_compute.cc: floats only.
_PADDLE_FUSES: tuple[Fused, ...] = ("pad", "winograd")

# In the order of fitting: a donor stands before those it gives to.
DEVICES: tuple[Device, ...] = (
    Device(
        "pixel4",
        "Google Pixel 4",
        "Snapdragon 855",
        "Cortex-A76 2.42 GHz (inferred from the profiler's core mask)",
        1,
        _TFLITE,
        2022,
        blocks=True,
        like="sd855",
    ),
    Device(
        "pixel1",
        "Google Pixel",
        "Snapdragon 821",
        "Kryo 2.34 GHz (inferred: the fastest that a Snapdragon 821 has)",
        1,
        _TFLITE,
        2022,
        blocks=True,
        like="sd835",
        speed=0.5,
    ),
    Device(
        "pixel6",
        "Google Pixel 6",
        "Tensor G1",
        "Cortex-X1 2.8 GHz (inferred: faster than a Cortex-A76 can be)",
        1,
        _TFLITE,
        2022,
        blocks=True,
        like="sd855",
        speed=1.5,
    ),
    Device(
        "mi11",
        "Xiaomi Mi 11",
        "Snapdragon 888",
        "Cortex-A78 2.42 GHz (inferred from the profiler's core mask)",
        1,
        _TFLITE,
        2022,
        blocks=True,
        like="sd855",
    ),
    Device(
        "sd855",
        "Snapdragon 855 phone (Xiaomi Mi 9)",
        "Snapdragon 855",
        "Cortex-A76 2.84 GHz",
        1,
        _PADDLE,
        2022,
        donor="pixel4",
        fuses=_PADDLE_FUSES,
    ),
    Device(
        "sd855_4threads",
        "Snapdragon 855 phone, 4 threads",
        "Snapdragon 855",
        "Cortex-A76 2.84 GHz and 3 at 2.42 GHz",
        4,
        _PADDLE,
        2021,
        donor="sd855",
        like="sd855",
        fuses=_PADDLE_FUSES,
    ),
    Device(
        "pixel4_4threads",
        "Google Pixel 4, 4 threads",
        "Snapdragon 855",
        "Cortex-A76 2.84 GHz and 3 at 2.42 GHz",
        4,
        "TFLite on Android 10",
        2020,
        donor="pixel4",
        like="sd855",
        step=("sd855", "sd855_4threads"),
    ),
    Device(
        "sd865",
        "Xiaomi Mi 10",
        "Snapdragon 865",
        "Cortex-A77 2.84 GHz",
        1,
        "Paddle-Lite 2.11",
        2022,
        donor="sd855",
        like="sd855",
        fuses=_PADDLE_FUSES,
    ),
    Device(
        "kirin980",
        "Huawei Mate 20",
        "Kirin 980",
        "Cortex-A76 2.6 GHz",
        1,
        "Paddle-Lite 2.11",
        2022,
        donor="sd855",
        like="sd855",
        fuses=_PADDLE_FUSES,
    ),
    Device(
        "sd835",
        "Xiaomi Mi 6",
        "Snapdragon 835",
        "Cortex-A73 2.45 GHz",
        1,
        "Paddle-Lite 2.11",
        2022,
        donor="pixel1",
        fuses=_PADDLE_FUSES,
    ),
    Device(
        "sd845",
        "Xiaomi Mi 8",
        "Snapdragon 845",
        "Cortex-A75 2.8 GHz",
        1,
        "Paddle-Lite 2.11",
        2022,
        donor="sd835",
        like="sd835",
        fuses=_PADDLE_FUSES,
    ),
    Device(
        "pixel2",
        "Google Pixel 2",
        "Snapdragon 835",
        "Cortex-A73 2.35 GHz",
        1,
        "XNNPACK",
        2020,
        donor="sd835",
        like="sd835",
    ),
    Device(
        "pixel2_4threads",
        "Google Pixel 2, 4 threads",
        "Snapdragon 835",
        "Cortex-A73 2.35 GHz",
        4,
        "XNNPACK",
        2020,
        donor="pixel2",
        like="sd835",
    ),
    Device(
        "pixel2_2018",
        "Google Pixel 2 with TFLite of 2018",
        "Snapdragon 835",
        "Cortex-A73 2.35 GHz",
        1,
        "TFLite before XNNPACK",
        2018,
        donor="pixel2",
        note="half as fast as the same phone is today; use pixel2 for what ships now",
    ),
    Device(
        "pixel3",
        "Google Pixel 3, 4 threads",
        "Snapdragon 845",
        "Cortex-A75 2.5 to 2.8 GHz",
        4,
        "TFLite on Android 10",
        2020,
        donor="pixel1",
        like="sd845",
    ),
    Device(
        "pixel3_gpu",
        "Google Pixel 3, GPU",
        "Snapdragon 845",
        "Adreno 630",
        1,
        "TFLite GPU delegate on Android 10",
        2020,
        accelerator="gpu",
        note="a GPU's times hang on its driver: use for ranking only",
    ),
    Device(
        "rpi4",
        "Raspberry Pi 4, 64 bit, 4 threads",
        "BCM2711",
        "Cortex-A72 1.5 GHz",
        4,
        "XNNPACK",
        2022,
        donor="pixel1",
        like="sd835",
        pixel_tile=4,
    ),
)


@dataclass(frozen=True)
class Transfer:
    """A phone or board that nobody measured: a device of the same core, scaled by data sheets."""

    name: str
    title: str
    base: str
    soc: str


TRANSFERS: tuple[Transfer, ...] = (
    Transfer("sd730g", "Snapdragon 730G phone (not measured)", "pixel4", "Snapdragon 730G"),
    Transfer("sd765g", "Snapdragon 765G phone (not measured)", "pixel4", "Snapdragon 765G"),
    Transfer("rpi5", "Raspberry Pi 5, 1 thread (not measured)", "pixel4", "BCM2712"),
    Transfer("sd888", "Snapdragon 888 phone, Cortex-X1 (not measured)", "pixel6", "Snapdragon 888"),
)


@dataclass(frozen=True)
class Threaded:
    """A device with a number of threads that nobody measured: times another's ratio, `step`.

    name: NAME_4threads; `base` is what was measured, `step` two devices like it (see `Device`).
    """

    name: str
    title: str
    base: str
    core: str
    step: tuple[str, str]


_FASTER = ("sd855", "sd855_4threads")
_SLOWER = ("pixel2_4threads", "pixel2")

THREADED: tuple[Threaded, ...] = (
    Threaded(
        "pixel6_4threads",
        "Google Pixel 6, 4 threads (not measured)",
        "pixel6",
        "2 Cortex-X1 2.8 GHz and 2 Cortex-A76 2.25 GHz",
        _FASTER,
    ),
    Threaded(
        "mi11_4threads",
        "Xiaomi Mi 11, 4 threads (not measured)",
        "mi11",
        "Cortex-X1 2.84 GHz and 3 Cortex-A78 2.42 GHz",
        _FASTER,
    ),
    Threaded(
        "sd865_4threads",
        "Xiaomi Mi 10, 4 threads (not measured)",
        "sd865",
        "Cortex-A77 2.84 GHz and 3 at 2.42 GHz",
        _FASTER,
    ),
    Threaded(
        "kirin980_4threads",
        "Huawei Mate 20, 4 threads (not measured)",
        "kirin980",
        "2 Cortex-A76 2.6 GHz and 2 at 1.92 GHz",
        _FASTER,
    ),
    Threaded(
        "pixel3_1thread",
        "Google Pixel 3, 1 thread (not measured)",
        "pixel3",
        "Cortex-A75 2.5 to 2.8 GHz",
        _SLOWER,
    ),
    Threaded(
        "rpi4_1thread",
        "Raspberry Pi 4, 64 bit, 1 thread (not measured)",
        "rpi4",
        "Cortex-A72 1.5 GHz",
        _SLOWER,
    ),
)
