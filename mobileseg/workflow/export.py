"""`mobileseg export`: a trained run to the files a phone loads, each checked in its runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.check import FLOAT_TOLERANCE, Check, check_file, require
from mobileseg.export.contract import Contract, contract_of
from mobileseg.export.runtime import load, pixels_as
from mobileseg.files import write_atomic, write_json
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import float16_weights
from mobileseg.nets.module import Net
from mobileseg.quantize.repair import Quantized
from mobileseg.recipe import Recipe
from mobileseg.report.memory import memory_picture
from mobileseg.runs import Run
from mobileseg.train.evaluate import load_eval, module_predict
from mobileseg.train.pairs import Split, pairs
from mobileseg.workflow.check import require_kept, static_rows
from mobileseg.workflow.choose import as_recipe_says
from mobileseg.workflow.consumer import segmenter_file, write_snippets
from mobileseg.workflow.explain import explain
from mobileseg.workflow.forms import UNCHANGED, Choice
from mobileseg.workflow.int8 import (
    calibration_path,
    changed_words,
    graph_for,
    read_pictures,
    wished,
    write_calibration,
)
from mobileseg.workflow.network import (
    Output,
    Pictures,
    file_predict,
    load_net,
)
from mobileseg.workflow.options import ExportOptions
from mobileseg.workflow.sensitivity import blamed
from mobileseg.workflow.trained import Trained, load_trained
from mobileseg.workflow.verdict import (
    Judge,
    Labels,
    Verdict,
    agreements,
    next_mend,
    recorded,
)

Say: TypeAlias = Callable[[str], None]

# Files are compared with our execution on so many real pictures: every value of each counts.
_CHECK_IMAGES = 8


@dataclass(frozen=True)
class Exported:
    """A written and checked file, the graph it says, and the code beside it that uses it."""

    path: Path
    bytes: int
    check: Check
    choice: Choice
    contract: Contract
    snippets: tuple[Path, ...]
    graph: Graph = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            "check": self.check.as_dict(),
            "contract": self.contract.as_dict(),
            "snippets": [str(path) for path in self.snippets],
            "forms": self.choice.as_dicts(),
        }


@dataclass(frozen=True)
class Exports:
    """What an export wrote; of int8 files with the verdict on each; explained where asked for.

    agreement: of a second int8 file, the share of pixels that it and the first one call alike.
    """

    files: list[Exported]
    verdicts: tuple[Verdict, ...] = ()
    agreement: float | None = None
    explained: dict[str, Any] | None = None


def export(
    run: Run, options: ExportOptions, data: Path | None = None, say: Say = lambda _: None
) -> Exports:
    """Write the run's files, check each on real pictures in its real runtime, judge int8 on val.

    Raises GateError where a file computes something else than the graph, MobilesegError where
    the run or its data are not there.
    """
    net, recipe = load_net(run), run.recipe().with_data(data)
    files, made = _export(net, recipe, run, options, say)
    explained = _explained(net, files[0].graph, run, options, say)
    if made is None:
        return Exports(files, explained=explained)
    config, judge = wished(recipe, options.quantize), judge_of(net, recipe)
    mend = next_mend(run.name, config, trained=_trained(run, options) is not None)
    verdicts, alike = judged(files, made, judge, config.max_drop, mend, say)
    return Exports(files, verdicts, alike, explained)


def judged(
    files: Sequence[Exported],
    made: Quantized,
    judge: Judge,
    max_drop: float,
    mend: str,
    say: Say = lambda _: None,
) -> tuple[tuple[Verdict, ...], float | None]:
    """Return the verdict on each int8 file, and of two the share of pixels they call alike.

    mend: what to try next where int8 loses too much.
    """
    labels: list[list[Labels]] = [[] for _ in files]
    verdicts = [
        judge.verdict(recorded(file_predict(load(file.path, trusted=True)), mine), max_drop)
        for file, mine in zip(files, labels, strict=True)
    ]
    if not all(verdict.passed for verdict in verdicts):
        say("int8 loses too much; looking for the layers to blame")
        found = blamed(made, judge)
        verdicts = [
            verdict if verdict.passed else replace(verdict, blamed=found, mend=mend)
            for verdict in verdicts
        ]
    alike = float(np.mean(agreements(labels[0], labels[1]))) if len(files) > 1 else None
    return tuple(verdicts), alike


def _explained(
    net: Net, graph: Graph, run: Run, options: ExportOptions, say: Say
) -> dict[str, Any] | None:
    found = None
    if options.explain:
        found = explain(net, graph, options.output, options.forms, say)
    if options.plot is not None:
        title = f"{run.name} {options.precision}"
        path = options.plot / f"{title.replace('/', '-').replace(' ', '-')}-memory.png"
        found = (found or {}) | {"picture": str(memory_picture(graph, title, path))}
    return found


def judge_of(net: Net, recipe: Recipe, split: Split = "val") -> Judge:
    """Return the float network's answers on a split."""
    evalset = load_eval(pairs(recipe.data, split), recipe.data, net.spec.image_size)
    return Judge(module_predict(net), evalset, split)


def export_net(
    net: Net, recipe: Recipe, run: Run, options: ExportOptions, say: Say = lambda _: None
) -> list[Exported]:
    """See `export`; for a module at hand, whose weights the run holds, and without a verdict."""
    return _export(net, recipe, run, options, say)[0]


def _export(
    net: Net, recipe: Recipe, run: Run, options: ExportOptions, say: Say
) -> tuple[list[Exported], Quantized | None]:
    """Return the files, and of int8 ones what they were made of."""
    options.require()
    made = None
    graph, choice = graph_for(net, options.quantize, options.output, options.forms)
    shown = evaluation_pictures(recipe, net.spec.image_size)
    require_equal(net, graph, shown, options.output)
    trained = _trained(run, options)
    folder = options.folder or run.export_folder
    stem = export_stem(recipe, run, options, trained is not None)
    if trained is not None:
        say(f"{run.name}: int8 as trained (mobileseg qat); --no-qat leaves that out")
        if options.output == "softmax":
            say("softmax stays an operator of its own, in no XNNPACK: other forms change weights")
        made = trained.int8(options.output, options.interface)
        graph, choice = made.graph, UNCHANGED
    elif options.precision == "int8":
        config = wished(recipe, options.quantize)
        settled = as_recipe_says(graph, recipe, config, options.interface, say=say)
        made, seen = settled.made, settled.seen
        if "images" in options.quantize and len(seen.pairs) < config.images:
            say(f"calibrated on {len(seen.pairs)} pictures: the training split holds no more")
        graph = made.graph
        path = calibration_path(folder, stem)
        write_calibration(path, made, settled.config, seen, recipe, run)
    elif options.precision == "float16":
        graph = float16_weights(graph)
    named = Named(folder, stem, run.name, recipe.data.classes)
    return write_files(graph, choice, named, options, shown), made


@dataclass(frozen=True)
class Named:
    """Where files go, what their names begin with, and what they say of themselves."""

    folder: Path
    stem: str
    title: str
    labels: tuple[str, ...]


def write_files(
    graph: Graph, choice: Choice, named: Named, options: ExportOptions, shown: Pictures
) -> list[Exported]:
    """Write the graph in the formats wished for, with code that uses it, and check each file.

    Raises GateError where a file computes something else than the graph on the pictures `shown`.
    """
    written = []
    for kind in options.formats:
        path = named.folder / f"{named.stem}.{kind}"
        contract = contract_of(graph, named.title, named.labels, kind, options.output)
        write_atomic(path, segmenter_file(graph, contract, options.memory_plan))
        check = check_file(path, graph, shown)
        snippets = write_snippets(path, contract, options.target)
        size = path.stat().st_size
        written.append(Exported(path, size, check, choice, contract, snippets, graph))
    write_json(
        named.folder / f"{named.stem}.json",
        [asdict(options) | {"folder": None, "plot": None}, *(w.as_dict() for w in written)],
    )
    for each in written:
        require(each.check)
        require_kept(each.path, options.target, static_rows(each.path, options.target))
    return written


def _trained(run: Run, options: ExportOptions) -> Trained | None:
    """Return the run's result of training as int8, if it is wished for and there.

    Raises MobilesegError where it cannot be what else is wished for.
    """
    trained = load_trained(run) if options.qat and options.precision == "int8" else None
    if trained is None:
        return None
    others = [f"--{key.replace('_', '-')}" for key in options.quantize if key != "max_drop"]
    others += ["--rewrite"] * (options.rewrite != "auto") + ["--device"] * bool(options.devices)
    if others:
        raise MobilesegError(
            f"{run.name}: was trained as the int8 graph that it is, which {', '.join(others)} "
            "would change; leave it out, or the training with --no-qat"
        )
    return trained


def export_stem(recipe: Recipe, run: Run, options: ExportOptions, trained: bool = False) -> str:
    """Return the file's name: what is not the default is said in it, so no file hides another.

    trained: by quantization-aware training.
    """
    name = (recipe.name, run.folder.name, *(["qat"] if trained else []))
    return stem_of(name, recipe, options)


def stem_of(name: Sequence[str], recipe: Recipe, options: ExportOptions) -> str:
    """Return the name of a file of the network of this name; see `export_stem`."""
    words = [*name, options.precision]
    if options.precision == "int8":
        words += changed_words(recipe, options.quantize)
    if options.precision == "int8" and options.interface != "uint8":
        words.append(f"{options.interface}io")
    if options.output != "logits":
        words.append(options.output)
    if options.target != "raw":
        words.append(options.target)
    if options.memory_plan:
        words.append("planned")
    form = options.forms.label()
    return "-".join([*words, form] if form else words)


def evaluation_pictures(recipe: Recipe, size: tuple[int, int]) -> Pictures:
    """Return the first few validation pictures at the network's size."""
    return read_pictures(pairs(recipe.data, "val")[:_CHECK_IMAGES], size)


def require_equal(net: Net, graph: Graph, images: Pictures, output: Output) -> float:
    """Return the graph's largest error against the module, relative to the largest output.

    Raises GateError above `FLOAT_TOLERANCE`. Of classes the logits before them are compared.
    """
    x = torch.from_numpy(pixels_as(images, np.dtype(np.float32)))
    if output == "argmax":
        graph = graph.edit(graph.nodes[:-1], outputs=(graph.nodes[-1].inputs[0],))
    with torch.inference_mode():
        expected = _SEEN_AS[output](net(x))
        error = float((execute(graph, x) - expected).abs().max() / expected.abs().max())
    if not error <= FLOAT_TOLERANCE:
        raise GateError(
            f"{net.spec.name}: the graph differs from the module by {error:.1e} of its largest "
            f"output; {FLOAT_TOLERANCE:.0e} is allowed"
        )
    return error


_SEEN_AS: dict[Output, Callable[[torch.Tensor], torch.Tensor]] = {
    "logits": lambda logits: logits,
    "argmax": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(dim=1),
    "sigmoid": torch.sigmoid,
}
