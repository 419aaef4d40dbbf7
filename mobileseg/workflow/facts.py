"""What is known of a ladder's rungs without training: counts, sizes, estimated times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mobileseg.graph.ir import Graph
from mobileseg.graph.memory import lower_bound
from mobileseg.latency.price import price
from mobileseg.latency.profile import DeviceProfile
from mobileseg.workflow.advise import saves_no_time
from mobileseg.workflow.consumer import file_size
from mobileseg.workflow.device import device
from mobileseg.workflow.forms import FOR_FLOAT, FOR_INT8, Forms, choose
from mobileseg.workflow.network import as_int8
from mobileseg.workflow.plan import Rung


def facts(
    rungs: Sequence[Rung], graphs: Iterable[Graph], devices: Sequence[str]
) -> list[dict[str, Any]]:
    """Return counts, file sizes and estimated times of each rung, and the empty promises.

    `graphs`: each rung's plain float graph; its weights do not matter. Times and sizes are those of
    the files that `export` writes.
    """
    rows: list[dict[str, Any]] = []
    profiles = [device(name) for name in devices]
    for rung, plain in zip(rungs, graphs, strict=True):
        graph, int8 = _formed(plain, FOR_FLOAT), _formed(plain, FOR_INT8)
        row = {
            "step": rung.name,
            "parent": rung.parent,
            "foreseen": rung.foreseen,
            "image_size": list(rung.spec.image_size),
            "params": rung.spec.params,
            "macs": rung.spec.macs,
            "float32_bytes": file_size(graph, rung.run.name, rung.labels),
            "int8_bytes": file_size(int8, rung.run.name, rung.labels),
            "live_bytes": {"float32": lower_bound(graph), "int8": lower_bound(int8)},
            "estimated_ms": {each.name: _estimates(graph, int8, each) for each in profiles},
        }
        parent = next((r for r in rows if r["step"] == rung.parent), None)
        row["saves_no_time"] = parent is not None and _empty_promise(row, parent, profiles[0].name)
        rows.append(row)
    return rows


def _formed(plain: Graph, forms: Forms) -> Graph:
    graph = choose(plain, forms)(plain)
    return as_int8(graph) if forms.int8 else graph


def _estimates(graph: Graph, int8: Graph, profile: DeviceProfile) -> dict[str, Any]:
    priced = {"float32": price(graph, profile)}
    if profile.int8 is not None:
        priced["int8"] = price(int8, profile)
    return {
        name: {"ms": each.ms, "low_ms": each.low_ms, "high_ms": each.high_ms}
        for name, each in priced.items()
    }


def _empty_promise(row: Mapping[str, Any], parent: Mapping[str, Any], judge: str) -> bool:
    def ms(of: Mapping[str, Any]) -> float:
        estimates = of["estimated_ms"][judge]
        return float(estimates.get("int8", estimates["float32"])["ms"])

    return saves_no_time(row["macs"], parent["macs"], ms(row), ms(parent))
