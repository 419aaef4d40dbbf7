"""`mobileseg latency`: what every operator of the file costs on a device, and on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError, unknown
from mobileseg.files import write_atomic, write_json
from mobileseg.graph.ir import Graph
from mobileseg.graph.memory import lower_bound
from mobileseg.latency.against import against, read_times
from mobileseg.latency.apart import measure_apart
from mobileseg.latency.measure import Measurement, match, measure
from mobileseg.latency.plot import plot
from mobileseg.latency.price import price
from mobileseg.latency.profile import DeviceProfile, Precision
from mobileseg.latency.table import Pricing
from mobileseg.nets.spec import NetSpec
from mobileseg.reading.read import ENDINGS, read_network
from mobileseg.reading.saved import load_graph
from mobileseg.reading.sketch import Reading
from mobileseg.recipe import Recipe, read_recipe, shipped_recipes
from mobileseg.runs import Run, find_run
from mobileseg.workflow.advise import block_cuts, slow_layers
from mobileseg.workflow.device import device
from mobileseg.workflow.forms import Forms
from mobileseg.workflow.frame import whole_frame
from mobileseg.workflow.plan import plan
from mobileseg.workflow.structure import run_graph, spec_graph
from mobileseg.workflow.where import THIS_MACHINE, Where, measure_on


@dataclass(frozen=True)
class LatencyOptions:
    """What is asked. devices: by default those of the recipe. step: of a recipe; the last one.

    input_size: (height, width) where an .onnx file leaves it open.
    advise: what slows each operator down, and, but for files, what cuts would save.
    frame: (height, width) of the camera's pictures. threads: of the devices' profiles, by default
    what each is for; and of the measurement, by default one. against: a measurement to compare
    with (see `read_times`).
    plot: folder for pictures.
    where: the machine that `measure` times the file on. qat: whether int8 of a run is the graph of
    its quantization-aware training, where there is one and no `rewrite` is asked for.
    say: hears of progress.
    """

    devices: tuple[str, ...] = ()
    precision: Precision = "float32"
    rewrite: str = "auto"
    measure: bool = False
    threads: int | None = None
    step: str | None = None
    input_size: tuple[int, int] | None = None
    advise: bool = False
    frame: tuple[int, int] | None = None
    against: Path | None = None
    plot: Path | None = None
    where: Where = THIS_MACHINE
    qat: bool = True
    say: Callable[[str], None] = lambda _: None


def latency(given: str, options: LatencyOptions, runs: Path) -> dict[str, Any]:
    """Return the priced operators per device and, if asked, the file's times on this machine.

    given: a run, a recipe (path or shipped name), anybody's .tflite or .onnx file, or a graph that
    `save_graph` wrote. The estimate needs no weights; a measured file of a recipe holds zeros,
    which take as long.
    """
    if Path(given).suffix in {*ENDINGS, _SAVED}:
        return _file_latency(Path(given), options)
    if options.input_size is not None:
        raise MobilesegError("--input-size: is for .onnx files; a recipe says image_size")
    name, recipe, spec, run = _network(given, options.step, runs)
    chosen = options.devices or recipe.devices
    profiles_ = [_profile(each, options) for each in chosen]
    # The form is that of the exported file, whatever the device: what is told is what is shipped.
    forms = Forms(options.precision == "int8", options.rewrite)
    trained = _trained(run, options) if run is not None else None
    if trained is not None:
        graph = trained
    else:
        graph = spec_graph(spec, forms) if run is None else run_graph(run, spec, forms)
    result: dict[str, Any] = {
        "network": name,
        "precision": options.precision,
        "image_size": list(spec.image_size),
        "macs": graph.total_macs,
        "params": spec.params,
        "live_bytes": lower_bound(graph),
        "notes": [] if trained is None else [_AS_TRAINED],
    }
    result["devices"] = [_priced(graph, name, each, options) for each in profiles_]
    if options.advise:
        for found, profile in zip(result["devices"], profiles_, strict=True):
            found["advice"] |= _cuts(graph, spec, profile, forms, options)
    if options.measure:
        result["measured"] = _measured(graph, options)
    if run is not None:
        write_json(run.latency_folder / f"{result['precision']}.json", result)
    return result


def _profile(name: str, options: LatencyOptions) -> DeviceProfile:
    """Return the device's profile for that many threads; for a measurement any number will do, and
    the estimate beside it says its own."""
    try:
        return device(name, options.threads)
    except MobilesegError:
        if not options.measure:
            raise
        return device(name)


def _trained(run: Run, options: LatencyOptions) -> Graph | None:
    """Return the int8 graph of the run's training on, if it is meant and there."""
    meant = options.qat and options.precision == "int8" and options.rewrite == "auto"
    if not meant or not run.qat.ranges_path.is_file():
        return None
    return load_graph(run.qat.int8_path, run.weights_digest)


_AS_TRAINED = "int8 as trained (mobileseg qat); --no-qat leaves that out"


def _file_latency(path: Path, options: LatencyOptions) -> dict[str, Any]:
    """Return the same for a file as it is: nothing in it is rewritten or quantized."""
    _require_as_it_is(path, options)
    reading = _reading(path, options)
    graph = reading.graph
    precision: Precision = "int8" if _is_int8(graph) else "float32"
    if options.precision == "int8" and precision != "int8":
        raise MobilesegError(
            f"{path}: is a float file; leave out --int8, or name a file that is quantized"
        )
    if options.precision == "float16" and precision == "float32":
        precision = "float16"
    result: dict[str, Any] = {
        "network": path.name,
        "precision": precision,
        "image_size": list(graph[graph.inputs[0]].shape[2:]),
        "macs": graph.total_macs,
        "params": sum(prod(each.shape) for each in graph.tensors.values() if each.data is not None),
        "live_bytes": lower_bound(graph),
        "notes": list(reading.notes),
    }
    chosen = options.devices or Recipe.devices
    result["devices"] = [
        _priced(graph, path.name, _profile(each, options), replace(options, precision=precision))
        for each in chosen
    ]
    if options.measure:
        result["measured"] = _measured_file(graph, path, options)
    return result


# Of a saved graph, as a run's folder holds them: latency/float32.graph.safetensors.
_SAVED = ".safetensors"


def _reading(path: Path, options: LatencyOptions) -> Reading:
    if path.suffix != _SAVED:
        return read_network(path, options.input_size)
    if options.input_size is not None:
        raise MobilesegError(f"--input-size: {path} has a size of its own; leave it out")
    return Reading(load_graph(path))


def _require_as_it_is(path: Path, options: LatencyOptions) -> None:
    if options.step is not None:
        raise MobilesegError(f"--step: {path} is a file, which has no steps; leave it out")
    if options.rewrite != "auto":
        raise MobilesegError(f"--rewrite: {path} is priced as it is; leave it out")


def _is_int8(graph: Graph) -> bool:
    made = (graph[node.output] for node in graph.nodes if graph.activations(node))
    return any(each.dtype in {"int8", "uint8"} for each in made)


def _priced(
    graph: Graph, name: str, profile: DeviceProfile, options: LatencyOptions
) -> dict[str, Any]:
    """One device's estimate and all else that can be asked of a graph."""
    half = options.precision == "float16"
    pricing = price(graph, profile, half)
    found = pricing.as_dict()
    if options.advise:
        found["advice"] = {"layers": slow_layers(graph, pricing, half)}
    if options.frame is not None:
        found["frame"] = whole_frame(graph, pricing, options.frame, half)
    if options.against is not None:
        times = read_times(options.against)
        found["against"] = against(graph, pricing, options.precision, times, str(options.against))
    if options.plot is not None:
        title = f"{name} {options.precision} on {profile.title}"
        stem = f"{profile.name}-{options.precision}"
        written = plot(pricing, options.precision, title, options.plot, stem)
        found["pictures"] = [str(path) for path in written]
    return found


def _cuts(
    graph: Graph, spec: NetSpec, profile: DeviceProfile, forms: Forms, options: LatencyOptions
) -> dict[str, Any]:
    """What each cut of the network would save on one device."""
    half = options.precision == "float16"

    def price_of(other: NetSpec) -> Pricing:
        return price(spec_graph(other, forms), profile, half)

    return block_cuts(spec, price(graph, profile, half), price_of, options.say)


def _network(given: str, step: str | None, runs: Path) -> tuple[str, Recipe, NetSpec, Run | None]:
    """Return the name, recipe and network that a person means, and the run if it is one."""
    made = runs / given / step if step else runs / given
    if given.endswith(".toml") or (given in shipped_recipes() and not made.exists()):
        recipe = read_recipe(given)
        rungs = {rung.step.name: rung for rung in plan(recipe, runs)}
        chosen = step or recipe.step[-1].name
        if chosen not in rungs:
            raise unknown("--step", "step", chosen, rungs)
        return f"{recipe.name}/{chosen}", recipe, rungs[chosen].spec, None
    if "/" not in given and not made.exists() and not Path(given).exists():
        known = {*shipped_recipes(), *(folder.name for folder in runs.glob("*/"))}
        raise unknown("latency", "run or recipe", given, known)
    run = find_run(f"{given}/{step}" if step else given, runs)
    return run.name, run.recipe(), run.spec(), run


def _measured(graph: Graph, options: LatencyOptions) -> dict[str, Any]:
    # A price needs no schema of files, which takes as long to import as all the rest.
    from mobileseg.export.tflite import write_tflite  # noqa: PLC0415

    data = write_tflite(graph)
    if options.where.on:
        return _matched(graph, measure_on(data, options.where, options.threads or 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        write_atomic(path, data)
        found = measure(path, options.threads or 1)
    return _matched(graph, found)


def _measured_file(graph: Graph, path: Path, options: LatencyOptions) -> dict[str, Any]:
    if path.suffix == _SAVED:
        return _measured(graph, options)
    if not options.where.on:
        return _matched(graph, measure_apart(path, options.threads or 1))
    if path.suffix != ".tflite":
        raise MobilesegError(f"--on: {path} is no .tflite file, which is what boards run")
    return _matched(graph, measure_on(path.read_bytes(), options.where, options.threads or 1))


def _matched(graph: Graph, found: Measurement) -> dict[str, Any]:
    matched = match(graph, found)
    operators = [each / 1000 if isinstance(each, float) else each for each in matched]
    return found.as_dict() | {"operators_ms": operators}
