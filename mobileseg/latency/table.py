"""The answer to "how long does it take": a row per operator, and sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, log, sqrt
from typing import Any, Literal, TypeAlias, get_args

from mobileseg.graph.ops import Shape
from mobileseg.latency.profile import BAND_PERCENT, Basis, DeviceProfile

Bound: TypeAlias = Literal["arithmetic", "memory", "overhead", "folded"]


@dataclass(frozen=True)
class Row:
    """One operator of the file. Bytes are activations and constants read plus output written.

    low_ms, high_ms: eight of ten layers of this kind lie between. doubt: the factor by which the
    kernel widens a network's band, by its share (see `Coefficients.doubt`). bound "folded" takes
    no time at run time: `note` says why.
    """

    index: int
    layer: str
    kind: str
    kernel: str
    input_shapes: tuple[Shape, ...]
    output_shape: Shape
    macs: int
    params: int
    bytes_moved: int
    ms: float
    low_ms: float
    high_ms: float
    doubt: float
    share: float
    bound: Bound
    basis: Basis
    note: str


@dataclass(frozen=True)
class KindSum:
    """All operators of one kernel."""

    kernel: str
    count: int
    ms: float
    share: float
    macs: int


@dataclass(frozen=True)
class Pricing:
    """The rows in running order, and what the device they were priced for is."""

    rows: tuple[Row, ...]
    profile: DeviceProfile
    factor: float

    @property
    def ms(self) -> float:
        """Estimated time of one inference."""
        return sum(row.ms for row in self.rows)

    @property
    def low_ms(self) -> float:
        """Eight of ten networks lie between this and `high_ms`."""
        return self.ms / self._spread

    @property
    def high_ms(self) -> float:
        """The band's upper end."""
        return self.ms * self._spread

    @property
    def _spread(self) -> float:
        """The network's own error, widened by the share of kernels that were not fitted.

        Errors of one kernel go together; those of different kernels are independent.
        """
        total = self.ms
        if not total:
            return self.factor
        doubts: dict[str, float] = {}
        for row in self.rows:
            doubt = log(row.doubt) * row.ms / total
            doubts[row.kernel] = doubts.get(row.kernel, 0.0) + doubt
        return exp(sqrt(log(self.factor) ** 2 + sum(doubt**2 for doubt in doubts.values())))

    def coverage(self) -> dict[Basis, float]:
        """Share of the time from kernels that were fitted, transferred or assumed."""
        total = self.ms
        share: dict[Basis, float] = dict.fromkeys(get_args(Basis), 0.0)
        for row in self.rows:
            share[row.basis] += row.ms / total if total else 0.0
        return share

    def by_kind(self) -> tuple[KindSum, ...]:
        """Sums per kernel, longest first."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.kernel, []).append(row)
        sums = [_sum(kernel, rows) for kernel, rows in groups.items()]
        return tuple(sorted(sums, key=lambda group: -group.ms))

    def top(self, n: int) -> tuple[Row, ...]:
        """The n longest rows, longest first."""
        return tuple(sorted(self.rows, key=lambda row: -row.ms)[:n])

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data for JSON; units stand in the keys."""
        profile = self.profile
        return {
            "device": profile.name,
            "title": profile.title,
            "soc": profile.soc,
            "core": profile.core,
            "threads": profile.threads,
            "runtime": profile.runtime,
            "source": list(profile.source),
            "note": profile.note,
            "band_percent": BAND_PERCENT,
            "coverage": self.coverage(),
            "ms": self.ms,
            "low_ms": self.low_ms,
            "high_ms": self.high_ms,
            "rows": [dict(vars(row)) for row in self.rows],
            "by_kind": [asdict(group) for group in self.by_kind()],
        }


def _sum(kernel: str, rows: Sequence[Row]) -> KindSum:
    return KindSum(
        kernel,
        len(rows),
        sum(row.ms for row in rows),
        sum(row.share for row in rows),
        sum(row.macs for row in rows),
    )
