"""A network's graph without its weights: from a file where one is, else built and kept there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from mobileseg import __version__
from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import FINISH, FOR_TFLITE, NORMALISE, REWRITES, SETTLE
from mobileseg.nets.spec import NetSpec
from mobileseg.reading.saved import load_graph, save_graph
from mobileseg.runs import Run
from mobileseg.workflow.forms import Forms


def spec_graph(spec: NetSpec, forms: Forms) -> Graph:
    """Return the graph of the file that a network would be exported as, with zeros for weights."""
    # torch takes seconds to import; a kept graph needs none.
    from mobileseg.workflow.network import as_int8, empty_graph  # noqa: PLC0415

    graph = empty_graph(spec, forms)
    return as_int8(graph) if forms.int8 else graph


def run_graph(run: Run, spec: NetSpec, forms: Forms) -> Graph:
    """Return `spec_graph` of a run. It is kept in the run's folder until the network changes."""
    path = run.graph_path("int8" if forms.int8 else "float32", forms.label())
    source = _source(spec, forms)
    try:
        return load_graph(path, source)
    except MobilesegError:
        # Missing, damaged or of another network: it holds nothing that the spec does not say.
        graph = spec_graph(spec, forms)
        save_graph(graph, path, constants=False, source=source)
        return graph


def keep_graphs(run: Run, spec: NetSpec) -> None:
    """Write what `mobileseg latency RUN` reads, so that it need not import torch."""
    for int8 in (False, True):
        run_graph(run, spec, Forms(int8))


def _source(spec: NetSpec, forms: Forms) -> str:
    """Return a digest of all that the graph depends on."""
    names = [each.__name__ for each in (*NORMALISE, *SETTLE, *FOR_TFLITE, *FINISH)]
    names += [each.name for each in REWRITES]
    judges = [repr(one) for one in forms.judges()]
    parts = [__version__, spec.as_dict(), asdict(forms), names, judges]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
