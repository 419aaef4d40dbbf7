"""The one formula that turns an operator's features into milliseconds.

Written for numbers and for arrays alike, so that the fit and the price are the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = TypeVar("Floats", float, NDArray[np.float64])


@dataclass(frozen=True)
class Features:
    """What the price of one operator depends on.

    work: multiply-adds, or elements visited. reduction: inner length (see `KERNELS`).
    pixels, channels: output positions and output channels. nbytes: activations and constants
    read plus the output written, each once. macs: whether work counts multiply-adds.
    """

    kernel: str
    work: float
    reduction: float
    pixels: float
    channels: float
    nbytes: float
    macs: bool


def filled(count: Floats, tile: Floats) -> Floats:
    """Count with its last tile filled up: a remainder costs a whole step."""
    whole: Floats = -(-count // tile) * tile
    return whole


def filled_pixels(pixels: Floats, tile: Floats) -> Floats:
    """The same for positions; one alone (a product of a vector) has kernels without a tile."""
    whole = filled(pixels, tile)
    alone: Floats = whole - (pixels == 1) * (whole - 1.0)
    return alone


def arithmetic_ms(
    work: Floats,
    reduction: Floats,
    pixels: Floats,
    giga_per_s: Floats,
    reduction_half: Floats,
    pixels_half: Floats,
) -> Floats:
    """Time of the work itself: work * (1 + k/K) * (1 + m/M) / rate, tiles filled up beforehand.

    Short loops (K) and few positions (M) waste part of it. It never falls when either grows.
    """
    waste = (1.0 + reduction_half / reduction) * (1.0 + pixels_half / pixels)
    return work * waste / (giga_per_s * 1e6)


def memory_ms(
    nbytes: Floats, bandwidth_gb_per_s: Floats, dram_gb_per_s: Floats, cache_kb: Floats
) -> Floats:
    """Time to move the bytes: at the caches' speed, turning into memory's as they outgrow them."""
    outside = nbytes / (nbytes + cache_kb * 1024.0)
    per_gb = 1.0 / bandwidth_gb_per_s
    return nbytes * 1e-6 * (per_gb + (1.0 / dram_gb_per_s - per_gb) * outside)


def combine_ms(arithmetic: Floats, memory: Floats, overlap: float, overhead_us: float) -> Floats:
    """Sum (overlap 1) to maximum (overlap infinite) of both, never below either, plus the start."""
    # Scaled by the larger one, so that no power can overflow.
    larger = np.maximum(np.maximum(arithmetic, memory), 1e-300)
    share = (arithmetic / larger) ** overlap + (memory / larger) ** overlap
    together: Floats = larger * share ** (1.0 / overlap) + overhead_us * 1e-3
    return together
