"""A run's folder and the name of every file in it.

`runs/NAME/STEP/` holds one trained network: `recipe.json`, `net.json`, `origin.json` (hashes of
all that it is made from), `weights.safetensors`, `train.jsonl`, `checkpoint.safetensors`,
`report.json`, `export/`, `latency/`, `quantize/`, `qat/` (a training of its own, as int8); of a
pruning step also `sensitivity.json`, `pruned.json` and `start.safetensors`, what training begins
with;
`runs/NAME/shipped/` is a trained network that comes with mobileseg, once somebody has asked for it;
`runs/NAME/report.json` the ladder's table. `report.html`, in a step's folder or in the ladder's, is
what `mobileseg report` wrote last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobileseg.errors import MobilesegError
from mobileseg.files import read_json, shipped, write_atomic, write_json
from mobileseg.nets.spec import NetSpec, read_spec
from mobileseg.recipe import Recipe, Step, read_recipe, read_recipe_data, shipped_recipes

if TYPE_CHECKING:
    from torch import Tensor

RUNS = Path("runs")
SHIPPED = "shipped"


@dataclass(frozen=True)
class Run:
    """One step's folder. Its files are read and written here and nowhere else."""

    folder: Path

    @property
    def name(self) -> str:
        """`NAME/STEP`, as people name it."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def weights_path(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def report_path(self) -> Path:
        return self.folder / "report.json"

    @property
    def page_path(self) -> Path:
        return self.folder / "report.html"

    @property
    def ladder_page_path(self) -> Path:
        return self.folder.parent / "report.html"

    @property
    def export_folder(self) -> Path:
        return self.folder / "export"

    @property
    def latency_folder(self) -> Path:
        return self.folder / "latency"

    def measured(self, precision: str) -> dict[str, Any] | None:
        """Return the times that `latency --measure` found last; None where there are none.

        Raises MobilesegError for a file that is damaged or of another version.
        """
        path = self.latency_folder / f"{precision}.json"
        said = read_json(path) if path.is_file() else None
        times = said.get("measured") if isinstance(said, dict) else None
        if times is None:
            return None
        keys = ("median_ms", "p90_ms", "runtime", "threads")
        if not isinstance(times, dict) or any(key not in times for key in keys):
            raise MobilesegError(f"{path}: its measurement is of another version; measure again")
        return {key: times[key] for key in keys}

    @property
    def browser_path(self) -> Path:
        """What browsers measured: entries of demo/measurement.py's BrowserMeasurement."""
        return self.latency_folder / "browser.json"

    @property
    def quantize_folder(self) -> Path:
        return self.folder / "quantize"

    @property
    def qat(self) -> Qat:
        return Qat(self.folder / "qat")

    def graph_path(self, precision: str, form: str) -> Path:
        """Where the graph of a file is kept, without weights; `form` as file names say it."""
        stem = f"{precision}-{form}" if form else precision
        return self.latency_folder / f"{stem}.graph.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def sensitivity_path(self) -> Path:
        return self.folder / "sensitivity.json"

    @property
    def start_path(self) -> Path:
        return self.folder / "start.safetensors"

    @property
    def pruned_path(self) -> Path:
        return self.folder / "pruned.json"

    @property
    def trained(self) -> bool:
        """Whether weights are there."""
        return self.weights_path.is_file()

    def recipe(self) -> Recipe:
        """The recipe as used. Raises MobilesegError naming the damaged file."""
        path = self.folder / "recipe.json"
        return read_recipe_data(read_json(path), str(path))

    def spec(self) -> NetSpec:
        """The network. Raises MobilesegError naming the damaged file."""
        path = self.folder / "net.json"
        return read_spec(read_json(path), str(path))

    def history(self) -> list[dict[str, Any]]:
        """What training said after each epoch; nothing before the first one."""
        return _history(self.folder / "train.jsonl")

    def begun(self) -> dict[str, Any]:
        """What the step in this folder is made of: the `origin` it was begun with, or nothing."""
        path = self.folder / "origin.json"
        return _table(path) if path.is_file() else {}

    def begin(self, recipe: Recipe, spec: NetSpec, origin: Mapping[str, str]) -> None:
        """Write what the run will be made of. What another origin made of it goes."""
        if self.begun() != origin:
            for path in (self.report_path, self.weights_path, self.checkpoint_path):
                path.unlink(missing_ok=True)
            for folder in (
                self.export_folder,
                self.latency_folder,
                self.quantize_folder,
                self.qat.folder,
            ):
                shutil.rmtree(folder, ignore_errors=True)
        write_json(self.folder / "recipe.json", recipe.as_dict())
        write_json(self.folder / "net.json", spec.as_dict())
        write_json(self.folder / "origin.json", dict(origin))

    def save_weights(self, state: Mapping[str, Tensor]) -> None:
        """Write the weights."""
        _write_weights(self.weights_path, state)

    def save_start(self, state: Mapping[str, Tensor], pruned: Mapping[str, Any]) -> None:
        """Write what a pruning left, and what it took."""
        _write_weights(self.start_path, state)
        write_json(self.pruned_path, pruned)

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write the step's figures; with them it is done, and the checkpoint no longer needed."""
        write_json(self.report_path, report)
        self.checkpoint_path.unlink(missing_ok=True)

    @property
    def weights_digest(self) -> str:
        """The weights' SHA-256: what was made of them names it."""
        with self.weights_path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def load_weights(self) -> dict[str, Tensor]:
        """Read the weights. Raises MobilesegError where there are none or they are damaged."""
        return read_weights(self.weights_path)

    def report(self) -> dict[str, Any]:
        """The step's figures, or nothing before it was finished."""
        return _table(self.report_path) if self.report_path.is_file() else {}


@dataclass(frozen=True)
class Qat:
    """The folder of a run's quantization-aware training."""

    folder: Path

    @property
    def graph_path(self) -> Path:
        """The float graph with the trained constants."""
        return self.folder / "graph.safetensors"

    @property
    def int8_path(self) -> Path:
        """The int8 graph, without its constants: what pricing needs."""
        return self.folder / "int8.graph.safetensors"

    @property
    def ranges_path(self) -> Path:
        """The float graph's ranges; written last, so that with them the result is whole."""
        return self.folder / "ranges.json"

    def begun(self) -> dict[str, Any]:
        """What it is made of: the `origin` it was begun with, or nothing."""
        path = self.folder / "origin.json"
        return _table(path) if path.is_file() else {}

    def begin(self, origin: Mapping[str, Any]) -> None:
        """Write what it will be made of. What another origin made of it goes."""
        if self.begun() != origin:
            shutil.rmtree(self.folder, ignore_errors=True)
        write_json(self.folder / "origin.json", dict(origin))

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write the figures; with them it is done, and the checkpoint no longer needed."""
        write_json(self.folder / "report.json", report)
        (self.folder / "checkpoint.safetensors").unlink(missing_ok=True)

    def history(self) -> list[dict[str, Any]]:
        """What training said after each epoch; nothing before the first one."""
        return _history(self.folder / "train.jsonl")

    def report(self) -> dict[str, Any]:
        """The figures, or nothing before it was finished."""
        path = self.folder / "report.json"
        return _table(path) if path.is_file() else {}


def _table(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise MobilesegError(f"{path}: holds no table; delete it and run again")
    return found


def _history(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise MobilesegError(f"{path}: is no readable log ({error})") from None
    if not all(isinstance(record, dict) for record in found):
        raise MobilesegError(f"{path}: a line of it is no table")
    return found


def _write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save  # noqa: PLC0415

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_atomic(path, save(tensors))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file. Raises MobilesegError where it is missing or damaged."""
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    if not path.is_file():
        raise MobilesegError(f"{path}: there are no weights; train first (mobileseg slim RECIPE)")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise MobilesegError(f"{path}: is no readable safetensors file ({error})") from None


def ladder_folder(runs: Path, recipe: Recipe) -> Path:
    """Return the folder of all the recipe's steps."""
    return runs / recipe.name


def find_run(given: str, runs: Path = RUNS) -> Run:
    """Return the run that a person names; of a ladder its last trained step. See `find_runs`."""
    return find_runs(given, runs)[-1]


def find_runs(given: str, runs: Path = RUNS, counted: bool = False) -> list[Run]:
    """Return the step that a person names, or all trained steps of the ladder.

    given: a folder, or `NAME/STEP` or `NAME` below `runs`; where there is none, the trained network
    that comes with mobileseg under that name, which then is one. counted: steps that were only
    counted and priced, too. Raises MobilesegError with what there is.
    """
    name = given.removesuffix(f"/{SHIPPED}")
    if name != given and name in shipped_networks():
        return [_unpacked(name, runs)]
    for folder in (Path(given), runs / given):
        if (folder / "net.json").is_file():
            return [Run(folder)]
        steps = trained_steps(folder)
        if steps:
            return _steps(folder) if counted else steps
    if given in shipped_networks():
        return [_unpacked(given, runs)]
    known = [step.name for ladder in _folders(runs) for step in _with_weights(ladder)]
    known += [name for name in shipped_networks() if name not in known]
    near = get_close_matches(given, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise MobilesegError(f"{given}: is no run; {hint}there are: {', '.join(known)}")


def shipped_networks() -> dict[str, Path]:
    """Return the weights of the trained networks that come with mobileseg, by recipe."""
    recipes = shipped_recipes()
    weights = sorted(shipped("assets", "weights").glob("*.safetensors"))
    return {path.stem: path for path in weights if path.stem in recipes}


def _unpacked(name: str, runs: Path) -> Run:
    """Return a shipped network as a run, written where there is none of these weights."""
    from mobileseg.nets.pretrained import load_encoder  # noqa: PLC0415

    path, run = shipped_networks()[name], Run(runs / name / SHIPPED)
    origin = {SHIPPED: hashlib.sha256(path.read_bytes()).hexdigest()}
    if not (run.trained and run.begun() == origin):
        network = load_encoder(path)
        recipe = replace(read_recipe(name), step=(Step(name=SHIPPED),))
        run.begin(recipe, network.spec, origin)
        file = run.export_folder / f"{name}-{SHIPPED}-int8.tflite"
        write_atomic(file, path.with_suffix(".tflite").read_bytes())
        run.save_weights(network.state)
    return run


def trained_steps(ladder: Path) -> list[Run]:
    """Return a ladder's trained steps, in the recipe's order; copies under other names are none."""
    return [run for run in _steps(ladder) if run.trained]


def _steps(ladder: Path) -> list[Run]:
    found = {run.folder.name: run for run in _with_nets(ladder)}
    trained = [run for run in found.values() if run.trained]
    if not trained:
        return []
    return [found[name] for name in _order(trained[0]) if name in found]


def _order(run: Run) -> list[str]:
    """Return the names of the recipe's steps, even where another version wrote the rest of it."""
    path = run.folder / "recipe.json"
    try:
        return [str(step["name"]) for step in read_json(path)["step"]]
    except (KeyError, TypeError):
        return [step.name for step in run.recipe().step]


def _with_weights(ladder: Path) -> list[Run]:
    return [run for run in _with_nets(ladder) if run.trained]


def _with_nets(ladder: Path) -> list[Run]:
    runs = [Run(folder) for folder in _folders(ladder)]
    return [run for run in runs if (run.folder / "net.json").is_file()]


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
