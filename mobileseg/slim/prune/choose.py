"""How many filters each group keeps: five ways to a budget. Costs are asked, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError, unknown
from mobileseg.slim.prune.groups import Counts, Group, Scores

Cost: TypeAlias = Callable[[Counts], float]
Tell: TypeAlias = Callable[[float], None]
"""Called with what the network costs now."""

# A group goes in at most so many steps: a thousand channels need no thousand prices.
_STEPS = 16
_HALVINGS = 30


class Chooser:
    """The groups of a network, and how far each may shrink."""

    def __init__(
        self,
        of: Sequence[Group],
        multiple_of: int,
        least: float,
        shares: Mapping[str, float],
    ) -> None:
        """Raises MobilesegError for a glob of `shares` that names no group that may shrink."""
        self.multiple_of = multiple_of
        self.fixed = _fixed(of, shares, self._rounded)
        self.free = [group for group in of if not group.held and group.name not in self.fixed]
        if not self.free and not self.fixed:
            raise MobilesegError("there is no filter that may go; shorten `keep`")
        self.least = {group.name: self._rounded(group, least) for group in self.free}

    def _rounded(self, group: Group, share: float) -> int:
        """Return about a share of the group's filters, in whole steps but for the last."""
        steps = max(1, round(len(group) * share / self.multiple_of))
        return min(len(group), steps * self.multiple_of)

    def uniform(self, cost: Cost, budget: float) -> Counts:
        """Return the largest share of every group that keeps the budget."""

        def at(share: float) -> Counts:
            return self.fixed | {
                group.name: max(self.least[group.name], self._rounded(group, share))
                for group in self.free
            }

        return _largest(at, cost, budget)

    def ranked(self, scores: Scores, cost: Cost, budget: float) -> Counts:
        """Return what is left when the least important filters of all go."""
        worth = {group.name: np.sort(group.importance(scores)) for group in self.free}
        levels = np.unique(np.concatenate([*worth.values()]))

        def at(share: float) -> Counts:
            level = levels[min(len(levels) - 1, int((1 - share) * len(levels)))]
            counts = dict(self.fixed)
            for group in self.free:
                stay = len(group) - int(np.searchsorted(worth[group.name], level))
                counts[group.name] = max(
                    self.least[group.name], self._rounded(group, stay / len(group))
                )
            return counts

        return _largest(at, cost, budget)

    def sensitive(
        self, drops: Mapping[str, Mapping[float, float]], cost: Cost, budget: float
    ) -> Counts:
        """Return what is left when every group goes as far as costs the same.

        drops: per group, per share that is taken from it, the points that it costs.
        """
        worst = max((drop for curve in drops.values() for drop in curve.values()), default=0.0)

        def at(share: float) -> Counts:
            # Half way up nothing may cost anything; from there on less is taken even of that.
            allowed = max(0.0, 1 - 2 * share) * max(worst, 0.0)
            part = min(1.0, 2 * (1 - share))
            counts = dict(self.fixed)
            for group in self.free:
                stay = 1 - part * _furthest(drops[group.name], allowed)
                counts[group.name] = max(self.least[group.name], self._rounded(group, stay))
            return counts

        return _largest(at, cost, budget)

    def greedy(self, scores: Scores, price: Cost, cost: Cost, budget: float, tell: Tell) -> Counts:
        """Return what is left when again and again the least important per price saved goes.

        A group's saving is asked anew only when the group comes to the top: others change it
        little, and it never is cut on an old figure.
        """
        counts = self.fixed | {group.name: len(group) for group in self.free}
        worth = {group.name: np.sort(group.importance(scores)) for group in self.free}
        now = price(counts)
        value: dict[str, float] = {}
        fresh: set[str] = set()
        while cost(counts) > budget:
            tell(now)
            open_ = [g for g in self.free if counts[g.name] > self.least[g.name]]
            if not open_:
                raise _unreachable(cost(counts), budget)
            group = min(open_, key=lambda g: value.get(g.name, 0.0))
            after = self._less(group, counts)
            if group.name in fresh:
                counts, now = after, price(after)
                fresh.clear()
                continue
            saved = now - price(after)
            gone = len(group) - counts[group.name], len(group) - after[group.name]
            lost = float(worth[group.name][gone[0] : gone[1]].sum())
            value[group.name] = lost / saved if saved > 0 else np.inf
            fresh.add(group.name)
        return self._filled(counts, worth, cost, budget)

    def _filled(
        self, counts: Counts, worth: Mapping[str, NDArray[np.float64]], cost: Cost, budget: float
    ) -> Counts:
        """Return the counts with what the last step took too much given back: what matters most.

        A wide layer's step may be a tenth of the network, of which the budget wanted a hundredth.
        """

        def gained(group: Group) -> float:
            size, more = len(group), self._more(group, counts)[group.name]
            return float(worth[group.name][size - more : size - counts[group.name]].sum())

        might = [group for group in self.free if counts[group.name] < len(group)]
        while might:
            group = max(might, key=gained)
            more = self._more(group, counts)
            if cost(more) <= budget:
                counts = more
            if counts is not more or more[group.name] == len(group):
                might.remove(group)
        return counts

    def _step(self, group: Group) -> int:
        return max(1, round(len(group) / _STEPS / self.multiple_of)) * self.multiple_of

    def _less(self, group: Group, counts: Counts) -> dict[str, int]:
        now = counts[group.name]
        aligned = now - (now % self.multiple_of or self._step(group))
        return {**counts, group.name: max(self.least[group.name], aligned)}

    def _more(self, group: Group, counts: Counts) -> dict[str, int]:
        return {**counts, group.name: min(len(group), counts[group.name] + self._step(group))}


def _fixed(
    of: Sequence[Group],
    shares: Mapping[str, float],
    rounded: Callable[[Group, float], int],
) -> dict[str, int]:
    fixed: dict[str, int] = {}
    free = {name: group for group in of if not group.held for name in group.places}
    for pattern, share in shares.items():
        found = [name for name in free if fnmatchcase(name, pattern)]
        if not found:
            held = next((g for g in of for name in g.places if fnmatchcase(name, pattern)), None)
            if held is not None:
                raise MobilesegError(f"shares.{pattern}: {held.name} {held.held}: it stays whole")
            raise unknown("shares", "block whose filters may go", pattern, free)
        for name in found:
            fixed[free[name].name] = rounded(free[name], 1 - share)
    return fixed


def _largest(at: Callable[[float], Counts], cost: Cost, budget: float) -> Counts:
    """Return the counts of the largest share (0 to 1) that keeps the budget."""
    if cost(at(0.0)) > budget:
        raise _unreachable(cost(at(0.0)), budget)
    low, high, kept, seen = 0.0, 1.0, at(0.0), {}
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        counts = at(middle)
        key = tuple(counts.values())
        if key not in seen:
            seen[key] = cost(counts) <= budget
        if seen[key]:
            low, kept = middle, counts
        else:
            high = middle
    return kept


def _furthest(curve: Mapping[float, float], allowed: float) -> float:
    """Return the largest share before the first that costs more, and up to it by straight line."""
    share, drop = 0.0, 0.0
    for next_share, next_drop in sorted(curve.items()):
        if next_drop > allowed:
            way = max(0.0, allowed - drop) / (next_drop - drop) if next_drop > drop else 0.0
            return share + (next_share - share) * way
        share, drop = next_share, max(drop, next_drop)
    return share


def _unreachable(cost: float, budget: float) -> MobilesegError:
    asked, left = (f"{n:,.0f}" if n >= 1000 else f"{n:.4g}" for n in (budget, cost))
    return MobilesegError(
        f"to: {asked} cannot be met: {left} remain when every layer is at its `least`; "
        "allow more, lower `least` or shorten `keep`"
    )
