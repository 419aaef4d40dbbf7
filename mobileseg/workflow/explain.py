"""`mobileseg export --explain`: what every pass does to the network, and where its memory goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from mobileseg.export.arena import measure_arena
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.ir import Graph
from mobileseg.graph.memory import live_ranges, lower_bound, plan, plans
from mobileseg.graph.passes import FOR_TFLITE, Pass, batch_norm_as_products, run_passes
from mobileseg.graph.trace import trace
from mobileseg.latency.calibrate import Visits, noise, visits
from mobileseg.latency.place import HERE, Job, run_job
from mobileseg.nets.module import Net
from mobileseg.workflow.forms import FOR_INT8, Forms
from mobileseg.workflow.network import Output, as_int8, float_passes

JOB = Job(rounds=9, ms=40)


@dataclass(frozen=True)
class Stage:
    """The graph behind a pass. `name` and `does` are the pass's own words."""

    name: str
    does: str
    graph: Graph

    @cached_property
    def writable(self) -> Graph:
        """The graph as a file would say it at this point, if no further pass came."""
        return run_passes(self.graph, (batch_norm_as_products, *FOR_TFLITE))

    @cached_property
    def files(self) -> dict[str, bytes]:
        """That graph as files. Int8 has made-up ranges: right in types and sizes."""
        return {
            "float32": write_tflite(self.writable),
            "int8": write_tflite(as_int8(self.writable)),
        }


def stages(net: Net, output: Output = "logits", forms: Forms = FOR_INT8) -> list[Stage]:
    """Return the network as traced, then behind each pass of its export."""
    graph = trace(net, net.spec.image_size)
    found = [Stage("as traced", "the module's own operators", graph)]
    for each in float_passes(net, output, forms):
        graph = each(graph)
        found.append(Stage(each.__name__, _first_line(each), graph))
    return found


def _first_line(each: Pass) -> str:
    return (each.__doc__ or "").strip().partition("\n")[0]


def explain(
    net: Net,
    exported: Graph,
    output: Output,
    forms: Forms,
    say: Callable[[str], None],
    job: Job = JOB,
) -> dict[str, Any]:
    """Return the passes, measured in turns in one run, and the memory of the exported graph."""
    found = stages(net, output, forms)
    say(f"timing the network behind {len(found) - 1} passes, in turns")
    timed = _timed(found, job)
    rows = []
    for before, stage, seen in zip([None, *found], found, timed, strict=False):
        changed = before is None or str(before.graph) != str(stage.graph)
        rows.append(_row(stage, seen, changed))
    busy = noise([one for each in timed for one in each.values()])
    return {
        "passes": rows,
        "rounds": job.rounds,
        "spread_percent": busy.spread_percent,
        "memory": memory_facts(exported),
    }


def _timed(found: Sequence[Stage], job: Job) -> list[dict[str, Visits]]:
    """Time each different file once; return what was seen of each stage, by precision."""
    names: dict[bytes, str] = {}
    for stage in found:
        for precision, data in stage.files.items():
            names.setdefault(data, f"{len(names)}-{precision}.tflite")
    answer = run_job(HERE, job, {name: data for data, name in names.items()}, lambda _done: None)
    seen = {name: visits(answer["files"][name]) for name in names.values()}
    return [{key: seen[names[data]] for key, data in stage.files.items()} for stage in found]


def _row(stage: Stage, timed: Mapping[str, Visits], changed: bool) -> dict[str, Any]:
    graphs = {"float32": stage.writable, "int8": as_int8(stage.writable)}
    return {
        "pass": stage.name,
        "does": stage.does,
        "changed": changed,
        "nodes": len(stage.graph.nodes),
        "macs": stage.graph.total_macs,
        "live_bytes": {key: lower_bound(graph) for key, graph in graphs.items()},
        "host_ms": {key: one.ms for key, one in timed.items()},
    }


def memory_facts(graph: Graph) -> dict[str, Any]:
    """Return what the graph's activations need: at least, by every plan, and in the runtime."""
    return {
        "apart_bytes": sum(buffer.nbytes for buffer in live_ranges(graph)),
        "lower_bound_bytes": lower_bound(graph),
        "plans": {each.method: each.nbytes for each in plans(graph)},
        "in_place": {
            "lower_bound_bytes": lower_bound(graph, in_place=True),
            "plan_bytes": plan(graph, in_place=True).nbytes,
        },
        "litert_bytes": asdict(measure_arena(graph)),
    }
