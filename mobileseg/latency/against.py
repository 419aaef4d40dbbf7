"""An estimate beside a measurement, operator by operator, the worst misses on top."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.files import read_json
from mobileseg.graph.ir import Graph
from mobileseg.latency.benchmark_model import read_profile
from mobileseg.latency.measure import Matched, Measurement, Operator, match
from mobileseg.latency.profile import Precision
from mobileseg.latency.table import Pricing
from mobileseg.validate import Table, parse


@dataclass(frozen=True)
class _Kept(Table):
    """`Measurement.as_dict`, and the same by the network's operators, which are matched anew."""

    file: str
    runtime: str
    threads: int | None
    runs: int | None
    median_ms: float
    p90_ms: float
    operators: tuple[Operator, ...]
    how: str
    operators_ms: tuple[float | str | None, ...]


def read_times(path: Path) -> Measurement:
    """Read what `latency --measure --json` printed (.json), or a profile by benchmark_model.

    Raises MobilesegError where the file is neither.
    """
    if path.suffix != ".json":
        return read_profile(path)
    done = read_json(path)
    if not isinstance(done, dict) or "measured" not in done:
        raise MobilesegError(
            f"{path}: holds no times; keep what `mobileseg latency NETWORK --measure --json` prints"
        )
    kept = parse(_Kept, done["measured"], f"{path}: measured")
    return Measurement(
        path=Path(kept.file),
        runtime=kept.runtime,
        threads=kept.threads,
        runs=kept.runs,
        median_ms=kept.median_ms,
        p90_ms=kept.p90_ms,
        operators=kept.operators,
        how=kept.how,
    )


def against(
    graph: Graph, pricing: Pricing, precision: Precision, measured: Measurement, where: str
) -> dict[str, Any]:
    """Return the operators by how many milliseconds the estimate misses, and the totals.

    where: what the measurement was read from. An operator that the runtime folded into its
    neighbour counts as nothing on both sides: what its estimate says is added to no other. Raises
    MobilesegError where the measurement is of another network or precision.
    """
    _require_same_precision(precision, measured, where)
    found = match(graph, measured)
    _require_same_network(pricing, measured, found, where)
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
        "file": where,
        "runtime": measured.runtime,
        "threads": measured.threads,
        "how": measured.how,
        "measured_ms": measured.median_ms,
        "operators_ms": sum(row["measured_ms"] for row in rows),
        "estimated_ms": pricing.ms,
        "inside": pricing.low_ms <= measured.median_ms <= pricing.high_ms,
        "operators_inside": sum(row["inside"] for row in rows),
        "fused": sum(each == "fused" for each in found),
        "rows": rows,
    }


# What XNNPACK appends to an operator's name, as in "Convolution (NHWC, QC8) IGEMM".
_NUMBERS = re.compile(r"\((?:\w+, )*?(F32|F16|Q[CSU]8)")
_PRECISIONS = {"F32": "float32", "F16": "float16", "QC8": "int8", "QS8": "int8", "QU8": "int8"}


def _require_same_precision(precision: Precision, measured: Measurement, where: str) -> None:
    """Plain kernels do not say what they compute in; those that do must hold the one asked for."""
    found = (_NUMBERS.search(one.name) for one in measured.operators)
    said = {_PRECISIONS[one[1]] for one in found if one is not None}
    if said and precision not in said:
        raise MobilesegError(
            f"{where}: was measured in {', '.join(sorted(said))}, and {precision} is asked for; "
            "give --precision, or measure the other file"
        )


def _require_same_network(
    pricing: Pricing, measured: Measurement, found: list[Matched], where: str
) -> None:
    """Every multiply-add must have its time: no runtime folds a convolution into another one."""
    if not measured.operators:
        raise MobilesegError(f"{where}: has no times of operators ({measured.how})")
    untimed = [
        row for row, us in zip(pricing.rows, found, strict=True) if row.macs and us == "fused"
    ]
    if not untimed and not all(each is None for each in found):
        return
    names = ", ".join(one.name for one in measured.operators[:3])
    missing = f"; it has no time for {untimed[0].layer!r} ({untimed[0].kernel})" if untimed else ""
    raise MobilesegError(
        f"{where}: its {len(measured.operators)} operators ({names}, ...) do not line up with this "
        f"network's {len(pricing.rows)}{missing}; measure the file that was exported from it"
    )
