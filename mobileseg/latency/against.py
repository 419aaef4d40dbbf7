"""An estimate beside a phone's measurement, operator by operator, the worst misses on top."""

from __future__ import annotations

from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Graph
from mobileseg.latency.measure import Measurement, match
from mobileseg.latency.table import Pricing


def against(graph: Graph, pricing: Pricing, measured: Measurement) -> dict[str, Any]:
    """Return the operators by how many milliseconds the estimate misses, and the totals.

    An operator that the runtime folded into its neighbour counts as nothing on both sides: what
    its estimate says is added to no other. Raises MobilesegError where the profile is of another
    network.
    """
    found = match(graph, measured)
    if all(each is None for each in found):
        names = ", ".join(one.name for one in measured.operators[:3])
        raise MobilesegError(
            f"{measured.path}: its {len(measured.operators)} operators ({names}, ...) do not line "
            f"up with this network's {len(graph.nodes)}; profile the file that was exported from it"
        )
    rows: list[dict[str, Any]] = []
    for row, us in zip(pricing.rows, found, strict=True):
        if not isinstance(us, float):
            continue
        ms = us / 1000.0
        rows.append(
            {
                "index": row.index,
                "layer": row.layer,
                "kernel": row.kernel,
                "estimated_ms": row.ms,
                "low_ms": row.low_ms,
                "high_ms": row.high_ms,
                "measured_ms": ms,
                "miss_ms": row.ms - ms,
                "inside": row.low_ms <= ms <= row.high_ms,
            }
        )
    rows.sort(key=lambda row: -abs(row["miss_ms"]))
    return {
        "file": str(measured.path),
        "runtime": measured.runtime,
        "threads": measured.threads,
        "how": measured.how,
        "measured_ms": measured.median_ms,
        "estimated_ms": pricing.ms,
        "inside": pricing.low_ms <= measured.median_ms <= pricing.high_ms,
        "operators_inside": sum(row["inside"] for row in rows),
        "fused": sum(each == "fused" for each in found),
        "rows": rows,
    }
