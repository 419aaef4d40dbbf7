"""The one formula that turns an operator's features into milliseconds.

Written for columns of operators; the fit and the price are the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """What the price of one operator depends on.

    work: multiplications done, or elements visited. reduction: inner length (see `KERNELS`).
    pixels, channels: output positions and output channels. nbytes: activations read plus the
    output written, each once; weights: bytes of constants. between: bytes that the whole graph
    touches before it reads these weights again. macs: multiply-adds, 0 where elements count.
    """

    kernel: str
    work: float
    reduction: float
    pixels: float
    channels: float
    nbytes: float
    weights: float
    between: float
    macs: float

    def halved(self) -> Features:
        """The same at 16 bits."""
        half = (self.nbytes / 2, self.weights / 2, self.between / 2)
        return replace(self, nbytes=half[0], weights=half[1], between=half[2])


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


@dataclass(frozen=True)
class Memory:
    """What a device's caches and its memory reach.

    An operator's bytes miss the caches where they are more than `cache_kb`. Weights miss them, too,
    where all that a run touches is more than `weights_cache_kb`: a block timed alone keeps its
    weights, a network fetches them anew, which makes it slower than the sum of its blocks.
    """

    bandwidth_gb_per_s: Floats
    dram_gb_per_s: Floats
    cache_kb: Floats
    weights_cache_kb: Floats

    def near_ms(self, nbytes: Floats, weights: Floats) -> Floats:
        """Time to move the bytes beside the arithmetic, as in an operator that runs alone."""
        every = nbytes + weights
        outside = every / (every + self.cache_kb * 1024.0)
        together: Floats = every * 1e-6 / self.bandwidth_gb_per_s
        return together + every * outside * self._longer

    def cold_ms(self, weights: Floats, between: Floats) -> Floats:
        """What weights that are no longer cached take longer to arrive."""
        # Squared: what goes round and round in a cache too small for it is found there never.
        larger = (between / (self.weights_cache_kb * 1024.0)) ** 2
        return weights * (larger / (1.0 + larger)) * self._longer

    @property
    def _longer(self) -> Floats:
        """Milliseconds by which a byte from memory takes longer than a cached one."""
        longer: Floats = 1e-6 / self.dram_gb_per_s - 1e-6 / self.bandwidth_gb_per_s
        return longer


def combine_ms(arithmetic: Floats, memory: Floats, overlap: Floats | float) -> Floats:
    """Sum (overlap 1) to maximum (overlap infinite) of both, never below either."""
    # Scaled by the larger one, so that no power can overflow.
    larger = np.maximum(np.maximum(arithmetic, memory), 1e-300)
    share = (arithmetic / larger) ** overlap + (memory / larger) ** overlap
    together: Floats = larger * share ** (1.0 / overlap)
    return together


def operator_ms(
    arithmetic: Floats,
    near: Floats,
    cold: Floats,
    first: Floats,
    overlap: Floats | float,
    overhead_us: Floats | float,
) -> Floats:
    """Time of an operator: its arithmetic beside its bytes, weights from memory, and the start.

    first: share of the arithmetic in the first tile of positions. That tile waits for weights that
    are not in the caches; all further ones find them there. Where it is the only one, as in the
    product of a vector, weights are read once, which `near` says.
    """
    waiting: Floats = combine_ms(arithmetic * first, cold, overlap) - arithmetic * first
    return combine_ms(arithmetic, near, overlap) + waiting * (1.0 - first) + overhead_us * 1e-3


def first_tile(pixels: Floats, tile: Floats) -> Floats:
    """Share of the positions, tiles filled up beforehand, that are in the first tile."""
    share: Floats = np.minimum(1.0, tile / pixels)
    return share
