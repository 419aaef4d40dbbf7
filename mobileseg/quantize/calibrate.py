"""The range of every activation, seen on real images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

from mobileseg.errors import MobilesegError
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Array, Graph

Ranges: TypeAlias = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Extremes:
    """The least and largest value per image and channel of one activation, each `(N, C)`."""

    low: Array
    high: Array

    def scaled(self, scale: Array) -> Extremes:
        """Return those of the activation divided by a positive scale per channel `(C,)`."""
        return Extremes(self.low / scale, self.high / scale)

    @property
    def peak(self) -> Array:
        """The largest magnitude that each channel reaches in any image, `(C,)`."""
        found: Array = np.maximum(np.abs(self.low), np.abs(self.high)).max(0)
        return found


def calibrate(graph: Graph, batches: Iterable[Array]) -> Ranges:
    """Return (lowest, highest) per activation: the mean over images of each image's extremes.

    See `observe` and `mean_range`.
    """
    return {name: mean_range(seen) for name, seen in observe(graph, batches).items()}


def observe(graph: Graph, batches: Iterable[Array]) -> dict[str, Extremes]:
    """Return the extremes of every activation of the float graph.

    `batches` holds float images `(N, 3, H, W)`. Raises MobilesegError without images, or naming a
    tensor that is not finite.
    """
    lows: dict[str, list[Array]] = {}
    highs: dict[str, list[Array]] = {}

    def see(name: str, value: torch.Tensor) -> None:
        channels = value.shape[1] if value.ndim == 4 else 1
        low, high = torch.aminmax(value.reshape(len(value), channels, -1), dim=2)
        lows.setdefault(name, []).append(low.numpy())
        highs.setdefault(name, []).append(high.numpy())

    with torch.inference_mode():
        for batch in batches:
            execute(graph, torch.from_numpy(batch), see)
    if not lows:
        raise MobilesegError("calibration: no images; name a training split with some")
    seen = {
        name: Extremes(np.concatenate(low), np.concatenate(highs[name]))
        for name, low in lows.items()
    }
    for name, extremes in seen.items():
        span = float(extremes.low.min()), float(extremes.high.max())
        if not np.isfinite(span).all():
            raise MobilesegError(
                f"{name}: ranges over {span} in calibration; the weights hold NaN or infinity"
            )
    return seen


def mean_range(seen: Extremes) -> tuple[float, float]:
    """Return the mean over images of each image's minimum and maximum.

    It leaves out the rare spike that an absolute extreme would stretch every step for; peers that
    do so win 0.5 to 1.6 dB by it.
    """
    return float(seen.low.min(1).mean()), float(seen.high.max(1).mean())
