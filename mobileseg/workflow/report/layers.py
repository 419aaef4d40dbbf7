"""What every layer of the runs costs on the device that judges, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mobileseg.demo.measurement import BrowserMeasurement, read_measurements
from mobileseg.files import read_json
from mobileseg.latency.price import price
from mobileseg.latency.profile import Precision
from mobileseg.latency.roof import roof_of
from mobileseg.runs import Run
from mobileseg.workflow.device import device
from mobileseg.workflow.forms import Forms
from mobileseg.workflow.report.parts import Gathered, Shown
from mobileseg.workflow.structure import run_graph

_KEYS = ("layer", "kernel", "macs", "params", "bytes_moved", "ms", "share", "bound", "output_shape")


def layers(runs: Sequence[Shown], gathered: Gathered) -> list[dict[str, Any]]:
    """Return each run's operators as priced for the recipe's first device, in int8 if it has that.

    Estimates of the same files as in the ladder: row i is operator i of the file.
    """
    found = []
    for each in runs:
        priced = gathered.attempt("layers", each.label, _priced, each.run)
        if priced is not None:
            found.append(priced | {"label": each.label})
    return found


def _priced(run: Run) -> dict[str, Any]:
    profile = device(run.recipe().devices[0])
    precision: Precision = "float32" if profile.int8 is None else "int8"
    pricing = price(run_graph(run, run.spec(), Forms(precision == "int8")), profile)
    times = _operator_times(run, precision, len(pricing.rows))
    return {
        "device": profile.name,
        "precision": precision,
        "rows": [
            {key: getattr(row, key) for key in _KEYS} | {"measured_ms": time}
            for row, time in zip(pricing.rows, times, strict=True)
        ],
        "kinds": [kind.kernel for kind in pricing.by_kind()],
        "roof": roof_of(pricing, precision).as_dict(),
    }


def _operator_times(run: Run, precision: Precision, count: int) -> list[Any]:
    """Return each operator's measured milliseconds; None for those that have none of their own."""
    path = run.latency_folder / f"{precision}.json"
    said = read_json(path) if path.is_file() else None
    times = said.get("measured", {}).get("operators_ms", []) if isinstance(said, dict) else []
    if len(times) != count:
        return [None] * count
    return [time if isinstance(time, float) else None for time in times]


def sensitivity(runs: Sequence[Shown], gathered: Gathered) -> list[dict[str, Any]]:
    """Return what each layer alone costs in int8, of the runs that `mobileseg quantize` tried."""
    found = []
    for each in runs:
        path = each.run.quantize_folder / "report.json"
        said = gathered.attempt("int8", each.label, read_json, path) if path.is_file() else None
        errors = said.get("sensitivity") if isinstance(said, dict) else None
        if errors:
            found.append({"label": each.label, "errors": errors})
    if not found:
        gathered.lacks(
            "int8", "all", "no layer was tried alone; mobileseg quantize RUN --sensitivity"
        )
    return found


def measured(runs: Sequence[Shown], gathered: Gathered) -> list[dict[str, Any]]:
    """Return the times that `mobileseg latency RUN --measure` and `demo` left in the runs' folders.

    `here`: whether the whole network was timed in its own runtime, not in a browser.
    """
    found: list[dict[str, Any]] = []
    for each in runs:
        for precision in ("float32", "float16", "int8"):
            row = gathered.attempt("layers", each.label, each.run.measured, precision)
            more = {"label": each.label, "precision": precision, "here": True}
            found += [row | more] if row else []
        browsers = gathered.attempt("layers", each.label, read_measurements, each.run.browser_path)
        found += [_in_browser(one) | {"label": each.label} for one in browsers or ()]
    return found


def _in_browser(one: BrowserMeasurement) -> dict[str, Any]:
    return {
        "precision": one.file,
        "here": False,
        "median_ms": one.median_ms,
        "p90_ms": one.p90_ms,
        "threads": one.threads,
        "runtime": f"{one.runtime} ({one.backend}) in {one.browser} on {one.device}",
    }
