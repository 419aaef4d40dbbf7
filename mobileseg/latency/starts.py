"""What the kernels' fit starts from, and what is assumed of those that no public table measures."""

from __future__ import annotations

from dataclasses import dataclass

from mobileseg.latency.solve import Prior


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

# The Arm kernels' own ratio: x86-64's micro-kernels are others, twice as slow beside their dense
# ones; the band holds both.
_PHASES = (
    "one convolution per phase of the stride; instructions counted on Arm "
    "(assets/latency/arm_counts.toml); timed on x86-64 0.32"
)

RELATIONS: dict[str, Relation] = {
    "dilated": Relation("dense", 0.9, 8.0, 1.6, _INDIRECT),
    "grouped": Relation("dense", 0.5, 8.0, 2.0, "one small product per group"),
    "depthwise_dilated": Relation("depthwise", 0.8, 3.0, 1.8, _INDIRECT),
    "transposed": Relation("dense", 0.64, 8.0, 2.0, _PHASES),
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
