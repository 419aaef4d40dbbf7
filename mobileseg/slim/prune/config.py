"""What a recipe's step may say about filter pruning. Imports no torch: recipes load in no time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias, get_args

from annotated_types import Ge, Gt, Le, Lt

from mobileseg.validate import Table

Importance: TypeAlias = Literal["l1", "l2", "norm", "taylor"]
Unit: TypeAlias = Literal["ms", "bytes", "macs_share", "params_share", "channels_share"]
UNITS: tuple[Unit, ...] = get_args(Unit)
Part: TypeAlias = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True)
class Budget(Table):
    """What the pruned network may cost; one of them.

    ms: estimated milliseconds of the int8 file on the step's device. bytes: of the int8 file.
    macs_share, params_share, channels_share: of what the step `of` has, by default the step
    before. way: 0.5 stops at the geometric mean of what that has and the budget.
    """

    ms: Annotated[float, Gt(0)] | None = None
    bytes: Annotated[int, Gt(0)] | None = None
    macs_share: Part | None = None
    params_share: Part | None = None
    channels_share: Part | None = None
    of: str | None = None
    way: Annotated[float, Gt(0), Le(1)] = 1.0

    def __post_init__(self) -> None:
        given = [unit for unit in UNITS if getattr(self, unit) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(UNITS)}, not {len(given)}")

    @property
    def unit(self) -> Unit:
        """The name of the one that is given."""
        return next(unit for unit in UNITS if getattr(self, unit) is not None)

    def most(self, before: float) -> float:
        """Return what may remain where `of` has `before`, in the unit's own measure."""
        share = self.unit.endswith("_share")
        target = float(getattr(self, self.unit)) * (before if share else 1.0)
        return float(before ** (1 - self.way) * target**self.way)


@dataclass(frozen=True, kw_only=True)
class Prune(Table):
    """Take whole filters out of the network until it keeps a budget.

    to: the budget; it may be left out beside `shares`, which then are all that goes.
    how: "uniform" takes the same share of every layer; "global" the least important of all;
    "sensitivity" from each layer as much as costs the same mIoU, measured; "latency" the least
    important per millisecond that they save on `device`.
    shares: shares to take from the layers that a glob names, whatever `how` does to the others.
    keep: globs over blocks that stay whole. device: by default the recipe's first. multiple_of:
    steps of widths, by default those that the device's kernels work in. least: the share of its
    filters that every layer keeps. rounds: the budget is reached in so many steps of like ratio,
    each trained before the next.
    """

    to: Budget | None = None
    how: Literal["uniform", "global", "sensitivity", "latency"] = "latency"
    # The one that says what the loss would: norms of other layers' weights are hardly comparable.
    importance: Importance = "taylor"
    shares: dict[str, Annotated[float, Ge(0), Lt(1)]] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    device: str | None = None
    multiple_of: Annotated[int, Gt(0), Le(1024)] | None = None
    # A layer that is all but gone holds up the rest.
    least: Annotated[float, Ge(0), Lt(1)] = 0.1
    rounds: Annotated[int, Gt(0), Le(20)] = 1

    def __post_init__(self) -> None:
        if self.to is None and (self.rounds > 1 or not self.shares):
            raise ValueError("say how far, with a budget `to`, or in one round with `shares` alone")

    @property
    def of(self) -> str | None:
        """The step that the budget's shares are of, where it is named."""
        return self.to.of if self.to else None
