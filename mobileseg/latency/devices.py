"""The devices that published measurements exist for, and what is assumed where none do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mobileseg.latency.solve import Prior


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
    note: what a reader of the figures should bear in mind.
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
    note: str = ""


@dataclass(frozen=True)
class Relation:
    """A kernel that no public table measures, priced from one that is.

    rate = rate of `like` * share; `reduction_half` carries the cost of a position whatever its
    channels (a call, a loop's start). Every kernel still pays for its bytes and its start.
    """

    like: str
    share: float
    reduction_half: float
    error_factor: float
    note: str


# Micro-kernels of XNNPACK on 64-bit Arm take 6 positions by 8 output channels, on a Cortex-A72 4.
# Source: google/XNNPACK src/configs/gemm-config.c, f32_gemm.
CHANNEL_TILE = 8

# The kernels of mobile blocks, and where their fit starts on a Cortex-A76 at 2.4 GHz:
# rate, reduction_half, pixels_half. Spread 0.5 (a factor of 1.6) for a rate, a factor of 2 for a
# half; element-wise kernels have no inner loop, theirs stay at nothing.
NOTHING = 1e-3
STARTS: dict[str, tuple[float, float, float]] = {
    "pointwise": (15.0, 8.0, 5.0),
    "dense": (15.0, 2.0, 5.0),
    "depthwise": (7.5, 3.0, 5.0),
    "hard_swish": (3.0, NOTHING, NOTHING),
    "hard_sigmoid": (3.0, NOTHING, NOTHING),
    "global_mean": (3.0, NOTHING, NOTHING),
    "mul": (3.0, NOTHING, NOTHING),
    "add": (3.0, NOTHING, NOTHING),
    "mean_pool": (3.0, NOTHING, NOTHING),
    "max_pool": (3.0, NOTHING, NOTHING),
    "concat": (3.0, NOTHING, NOTHING),
    "softmax": (0.5, NOTHING, NOTHING),
}
TILED = frozenset({"pointwise", "dense"})


def start(speed: float, kernels: tuple[str, ...]) -> dict[str, Prior]:
    """The prior of a device with blocks of its own.

    Bandwidths are those of a big core's second cache (about 16 bytes a cycle) and of LPDDR4.
    """
    prior = {
        "bandwidth_gb_per_s": Prior(40.0 * speed, 0.3),
        "dram_ratio": Prior(2.0, 0.5),
        "cache_kb": Prior(1000.0, 0.5),
        "weights_cache_kb": Prior(3000.0, 0.5),
        "overlap": Prior(0.5, 1.0),
        "overhead_us": Prior(1.0, 1.0),
    }
    for kernel in kernels:
        rate, reduction, pixels = STARTS[kernel]
        loose = 0.7 if reduction > NOTHING else 0.01
        prior[f"{kernel}.giga_per_s"] = Prior(rate * speed, 0.5)
        prior[f"{kernel}.reduction_half"] = Prior(reduction, loose)
        prior[f"{kernel}.pixels_half"] = Prior(pixels, loose)
    return prior


def gpu_start(kernels: tuple[str, ...]) -> dict[str, Prior]:
    """The prior of a phone's GPU at half precision: hundreds of GMAC/s, slow to start a kernel."""
    prior = start(8.0, kernels)
    return prior | {
        "bandwidth_gb_per_s": Prior(60.0, 0.5),
        "overhead_us": Prior(30.0, 1.0),
        **{name: Prior(one.value * 8.0, one.sigma) for name, one in prior.items() if _half(name)},
    }


def _half(name: str) -> bool:
    return name.endswith(("pointwise.pixels_half", "dense.pixels_half", "depthwise.pixels_half"))


_INDIRECT = "the same micro-kernel as an undilated one, reading rows that lie further apart"
_HERE = "ratio measured on x86-64 in LiteRT 2.3 (assets/latency/relative.csv)"
_BOTH = (
    "ratios measured on x86-64 and, by PaddleSlim, on a Cortex-A17 (assets/latency/relative.csv)"
)

RELATIONS: dict[str, Relation] = {
    "dilated": Relation("dense", 0.9, 8.0, 1.6, _INDIRECT),
    "grouped": Relation("dense", 0.5, 8.0, 2.0, "one small product per group"),
    "depthwise_dilated": Relation("depthwise", 0.8, 3.0, 1.8, _INDIRECT),
    "transposed": Relation("dense", 0.7, 8.0, 2.0, "one convolution per phase of the stride"),
    "relu": Relation("add", 1.5, 0.0, 1.6, "element-wise, one input"),
    "neg": Relation("add", 1.5, 0.0, 1.6, _HERE),
    "sigmoid": Relation("hard_swish", 0.5, 0.0, 2.0, _HERE),
    "max_pool": Relation("mean_pool", 2.0, 0.0, 1.8, _HERE),
    "concat": Relation("mul", 1.4, 40.0, 2.0, _BOTH),
    "pad": Relation("mul", 2.0, 90.0, 2.0, _HERE),
    "crop": Relation("mul", 1.4, 0.0, 1.8, _BOTH),
    "depth_to_space": Relation("mul", 1.5, 4.0, 2.0, _HERE),
    "resize_bilinear": Relation("mul", 0.67, 6.0, 2.0, _HERE),
    "resize_nearest": Relation("mul", 2.0, 66.0, 2.5, f"not delegated; {_HERE}"),
    "softmax": Relation("hard_swish", 0.38, 72.0, 2.5, _HERE),
    "argmax": Relation("hard_swish", 0.35, 4.0, 2.5, f"not delegated; {_HERE}"),
    "quantize": Relation("mul", 0.5, 0.0, 2.0, "element-wise with rounding"),
    "dequantize": Relation("mul", 0.5, 0.0, 2.0, "element-wise"),
}

_TFLITE = "TFLite benchmark_model (2.7 era, XNNPACK)"
_PADDLE = "Paddle-Lite 2.8 to 2.11"

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
        "Kryo 2.15 GHz (inferred)",
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
