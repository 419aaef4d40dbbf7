"""`mobileseg latency`: what every operator of the file costs on a device, and on this machine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError, unknown
from mobileseg.export.tflite import write_tflite
from mobileseg.files import shipped, write_atomic, write_json
from mobileseg.graph.ir import Graph
from mobileseg.latency.against import against
from mobileseg.latency.benchmark_model import read_profile
from mobileseg.latency.measure import match, measure
from mobileseg.latency.plot import plot
from mobileseg.latency.price import price
from mobileseg.latency.profile import (
    DeviceProfile,
    Precision,
    load_profile,
    precisions,
    profiles,
)
from mobileseg.latency.table import Pricing
from mobileseg.nets.spec import NetSpec
from mobileseg.recipe import Recipe, read_recipe, shipped_recipes
from mobileseg.runs import Run, find_run
from mobileseg.workflow.advise import advise
from mobileseg.workflow.calibrate import THIS_MACHINE, Where, measure_on
from mobileseg.workflow.frame import whole_frame
from mobileseg.workflow.network import as_int8, empty_graph
from mobileseg.workflow.plan import plan


@dataclass(frozen=True)
class LatencyOptions:
    """What is asked. devices: by default those of the recipe. step: of a recipe; the last one.

    advise: what slows each operator down, and what each cut would save. frame: (height, width) of
    the camera's pictures. against: a profile that benchmark_model wrote. plot: folder for pictures.
    where: the machine that `measure` times the file on.
    """

    devices: tuple[str, ...] = ()
    precision: Precision = "float32"
    rewrite: bool = True
    measure: bool = False
    threads: int = 1
    step: str | None = None
    advise: bool = False
    frame: tuple[int, int] | None = None
    against: Path | None = None
    plot: Path | None = None
    where: Where = THIS_MACHINE


def devices() -> dict[str, Path]:
    """Return the shipped device profiles by name."""
    return profiles(shipped("assets", "devices"))


def device(name: str) -> DeviceProfile:
    """Return a profile by its name or path. Raises MobilesegError with the names there are."""
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return load_profile(path)
    known = devices()
    if name not in known and any(word in name.lower() for word in _NEURAL):
        raise MobilesegError(
            f"--device {name!r}: the time on a neural processor cannot be told from the network: "
            "its compiler fuses, splits and refuses operators by rules of its own. Measure it on "
            f"the phone; CPU and GPU devices are: {', '.join(known)}"
        )
    if name not in known:
        raise unknown("--device", "device", name, known)
    return load_profile(known[name])


_NEURAL = ("npu", "dsp", "hexagon", "edgetpu", "nnapi", "ane")


def device_facts() -> list[dict[str, Any]]:
    """Return what every shipped profile says of itself, and its cross-validated error."""
    rows = []
    for path in devices().values():
        profile = load_profile(path)
        row: dict[str, Any] = {
            "name": profile.name,
            "title": profile.title,
            "soc": profile.soc,
            "core": profile.core,
            "threads": profile.threads,
            "runtime": profile.runtime,
            "year": profile.year,
        }
        row |= dict.fromkeys(("float32", "float16", "int8"))
        for precision, table in precisions(profile):
            row[precision] = {
                "basis": table.basis,
                "median_error_percent": table.error.median_percent,
                "spearman": table.error.spearman,
                "check": table.error.check,
                "band_factor": table.error.factor,
            }
        rows.append(row)
    return rows


def latency(given: str, options: LatencyOptions, runs: Path) -> dict[str, Any]:
    """Return the priced operators per device and, if asked, the file's times on this machine.

    given: a run, or a recipe (path or shipped name). The estimate needs no weights; a measured
    file of a recipe holds zeros, which take as long.
    """
    name, recipe, spec, run = _network(given, options.step, runs)
    profiles_ = [device(each) for each in options.devices or recipe.devices]
    graph = _graph(spec, options)
    result: dict[str, Any] = {
        "network": name,
        "precision": options.precision,
        "image_size": list(spec.image_size),
        "macs": spec.macs,
        "params": spec.params,
    }
    result["devices"] = [_priced(graph, spec, each, options) for each in profiles_]
    if options.measure:
        result["measured"] = _measured(graph, options)
    if run is not None:
        write_json(run.latency_folder / f"{result['precision']}.json", result)
    return result


def _graph(spec: NetSpec, options: LatencyOptions) -> Graph:
    graph = empty_graph(spec, options.rewrite)
    return as_int8(graph) if options.precision == "int8" else graph


def _priced(
    graph: Graph, spec: NetSpec, profile: DeviceProfile, options: LatencyOptions
) -> dict[str, Any]:
    """One device's estimate and all else that was asked of it."""
    half = options.precision == "float16"
    pricing = price(graph, profile, half)
    found = pricing.as_dict()
    if options.advise:

        def price_of(other: NetSpec) -> tuple[Graph, Pricing]:
            smaller = _graph(other, options)
            return smaller, price(smaller, profile, half)

        found["advice"] = advise(spec, price_of)
    if options.frame is not None:
        found["frame"] = whole_frame(graph, pricing, options.frame, half)
    if options.against is not None:
        found["against"] = against(graph, pricing, read_profile(options.against))
    if options.plot is not None:
        title = f"{spec.name} {options.precision} on {profile.title}"
        stem = f"{profile.name}-{options.precision}"
        found["pictures"] = [str(path) for path in plot(pricing, half, title, options.plot, stem)]
    return found


def _network(given: str, step: str | None, runs: Path) -> tuple[str, Recipe, NetSpec, Run | None]:
    """Return the name, recipe and network that a person means, and the run if it is one."""
    if given.endswith(".toml") or (given in shipped_recipes() and not (runs / given).exists()):
        recipe = read_recipe(given)
        rungs = {rung.step.name: rung for rung in plan(recipe, runs)}
        chosen = step or recipe.step[-1].name
        if chosen not in rungs:
            raise unknown("--step", "step", chosen, rungs)
        return f"{recipe.name}/{chosen}", recipe, rungs[chosen].spec, None
    run = find_run(f"{given}/{step}" if step else given, runs)
    return run.name, run.recipe(), run.spec(), run


def _measured(graph: Graph, options: LatencyOptions) -> dict[str, Any]:
    if options.where.on:
        found = measure_on(graph, options.where, options.threads)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.tflite"
            write_atomic(path, write_tflite(graph))
            found = measure(path, options.threads)
    matched = match(graph, found)
    operators = [each / 1000 if isinstance(each, float) else each for each in matched]
    return found.as_dict() | {"operators_ms": operators}
