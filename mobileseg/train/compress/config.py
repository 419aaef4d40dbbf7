"""What a recipe's step may say about sparse and clustered weights. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from mobileseg.validate import Table

_PATTERN = re.compile(r"([1-9]\d?):([1-9]\d?)")


@dataclass(frozen=True, kw_only=True)
class Sparse(Table):
    """The smallest weights become zero while it trains, and stay so.

    share: of the weights that are zero in the end; it rises from 0 as a cubic, steeply at first,
    between the shares `begin` and `end` of the training. layers: "adaptive" takes the weights
    whose square is the least of what their layer still has, so that small layers keep more than
    large ones; "alike" takes `share` of every layer. pattern: "2:4" leaves the two largest of every
    four neighbouring inputs of a filter at each place of its kernel, and `share` follows from it;
    "free" knows no neighbours. A layer whose inputs do not come in fours stays whole then, and is
    named. keep: globs over blocks that stay whole, beside depthwise layers, whose few weights are
    worth too much, and the classifier.
    Source: Zhu and Gupta, To prune, or not to prune, 2017, equation 1; Lee et al., Layer-adaptive
    Sparsity for the Magnitude-based Pruning, 2021, equation 5.
    """

    share: Annotated[float, Gt(0), Lt(1)] | None = None
    layers: Literal["adaptive", "alike"] = "adaptive"
    pattern: str = "free"
    begin: Annotated[float, Ge(0), Lt(1)] = 0.0
    end: Annotated[float, Gt(0), Le(1)] = 0.7
    every: Annotated[int, Gt(0)] = 10  # steps between updates: weights need some to make up for it
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pattern != "free" and not _PATTERN.fullmatch(self.pattern):
            raise ValueError(f"pattern = {self.pattern!r}: is 'free' or like '2:4'")
        if self.of and self.of[0] >= self.of[1]:
            raise ValueError(f"pattern = {self.pattern!r}: leaves all; the first number is smaller")
        if (self.share is None) == (self.of is None):
            raise ValueError("give one of `share` and a `pattern` like '2:4'")
        if self.begin >= self.end:
            raise ValueError(f"begin = {self.begin:g} is not before end = {self.end:g}")

    @property
    def of(self) -> tuple[int, int] | None:
        """Of how many neighbours how many stay: (stay, neighbours)."""
        match = _PATTERN.fullmatch(self.pattern)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def final(self) -> float:
        """The share of zeros in the end."""
        if self.of is not None:
            return 1 - self.of[0] / self.of[1]
        assert self.share is not None
        return self.share


@dataclass(frozen=True, kw_only=True)
class Cluster(Table):
    """Every layer's weights take one of a few values, which are then trained, each as one number.

    Batch norm is folded into the weights first and frozen: folding later would spread the values
    again. init: where k-means begins: evenly from the smallest to the largest weight ("linear"),
    evenly by rank ("density"), or at weights drawn far from each other ("kmeans++"). Weights that
    are zero stay so. keep: globs over blocks that stay as they are, beside depthwise layers, whose
    few weights are worth too much.
    Source: Han et al., Deep Compression, 2016, section 3; Arthur and Vassilvitskii, k-means++,
    2007.
    """

    clusters: Annotated[int, Ge(2), Le(256)] = 32
    init: Literal["linear", "density", "kmeans++"] = "linear"
    keep: tuple[str, ...] = ()
