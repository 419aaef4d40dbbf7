"""What a device reaches at best: the lines that a roofline is drawn under."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mobileseg.latency.profile import Precision
from mobileseg.latency.table import Pricing


@dataclass(frozen=True)
class Roof:
    """giga_per_s: 1e9 multiply-adds a second of the best kernel in use; and the two bandwidths."""

    giga_per_s: float
    caches_gb_per_s: float
    memory_gb_per_s: float

    def as_dict(self) -> dict[str, float]:
        """Plain data for JSON."""
        return asdict(self)


def roof_of(pricing: Pricing, precision: Precision) -> Roof:
    """Return the roof over the operators that multiply."""
    table = pricing.profile.coefficients(precision)
    used = [row.kernel for row in pricing.rows if row.macs]
    peak = max((table.kernels[kernel].giga_per_s for kernel in used), default=1.0)
    return Roof(peak, table.bandwidth_gb_per_s, table.dram_gb_per_s)
