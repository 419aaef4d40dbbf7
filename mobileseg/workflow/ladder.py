"""`mobileseg slim`: a recipe's steps, each inherited, trained, quantized, priced and compared."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mobileseg import __version__
from mobileseg.errors import GateError, MobilesegError, unknown
from mobileseg.files import read_json, write_json
from mobileseg.graph.ir import Graph
from mobileseg.nets.module import build
from mobileseg.recipe import Recipe
from mobileseg.runs import Run, find_runs, ladder_folder
from mobileseg.slim.inherit import inherit
from mobileseg.train.pairs import Pair, Split, split_note
from mobileseg.workflow.data import splits_of, warn_of_leaks
from mobileseg.workflow.export import Exported, export_net
from mobileseg.workflow.facts import facts
from mobileseg.workflow.inherited import inherit_from, inherited_weights, parent_of
from mobileseg.workflow.network import (
    plain_graph,
    with_weights,
)
from mobileseg.workflow.options import ExportOptions
from mobileseg.workflow.plan import Rung, plan
from mobileseg.workflow.prune import prune
from mobileseg.workflow.qat import QatOptions, qat_figures, train_int8
from mobileseg.workflow.ready import check_steps, lessons_key, note
from mobileseg.workflow.rung import SlimOptions, TestPictures, train_rung
from mobileseg.workflow.structure import keep_graphs

Say = Callable[[str], None]


def dry_run(recipe: Recipe, runs: Path) -> list[dict[str, Any]]:
    """Return what is known of every rung without training."""
    rungs = plan(recipe, runs)
    check_steps(recipe, rungs)
    nets = [build(rung.spec, device="meta") for rung in rungs]
    rows = facts(rungs, [plain_graph(net) for net in nets], recipe.devices)
    states = {rung.step.name: net.state_dict() for rung, net in zip(rungs, nets, strict=True)}
    for rung, row in zip(rungs, rows, strict=True):
        # Of hollow weights the shares are right; the values are not there.
        parent = parent_of(rung, rungs)
        above = states[parent.step.name] if parent is not None else {}
        row["inherited_share"] = inherit_from(
            recipe, parent, above, rung, states[rung.step.name]
        ).share
    return rows


def slim(recipe: Recipe, options: SlimOptions, say: Say) -> dict[str, Any]:
    """Train every rung that is not trained yet, export the last, and return the ladder's report.

    Finished rungs are kept and a broken-off training goes on. Raises MobilesegError where a rung
    was made from another recipe or other data, unless `restart`, which makes those anew.
    """
    started = time.perf_counter()
    rungs = plan(recipe, options.runs)
    check_steps(recipe, rungs)
    chosen = _chain(rungs, options.only) if options.only else rungs
    rows = facts(rungs, (_empty(rung) for rung in rungs), recipe.devices)
    test = TestPictures(recipe)
    say(split_note(recipe.data))
    splits = splits_of(recipe.data)
    warn_of_leaks(splits, say)
    origins = _origins(recipe, rungs, chosen, options.runs, _data_key(splits))
    exported: list[Exported] = []
    broken = ""
    names = [rung.step.name for rung in chosen]
    for number in range(len(rungs)):
        rung, row = rungs[number], rows[number]
        origin = {"recipe": rung.key} | origins[rung.step.name]
        to_prune = rung.step.prune is not None and rung.run.begun() != origin
        if rung.step.name in names and to_prune:
            _prune(recipe, rung, rungs, origin, options, say)
            # Its widths are known now, and with them what follows from them.
            rungs = plan(recipe, options.runs)
            rows[number:] = facts(rungs, map(_empty, rungs), recipe.devices)[number:]
            rung, row = rungs[number], rows[number]
        if rung.step.name in names:
            report = _climb(recipe, rung, rungs, origin, options, test, row, say)
        else:
            report = rung.run.report() if rung.run.begun() == origin else {}
        # What is counted and priced now goes before what a kept step said when it was made.
        row.update({**report, **row})
        if rung.step.name in names and rung.run.trained:
            keep_graphs(rung.run, rung.spec)
            row.update(_trained_on(recipe, rung, options, say))
    _compare(rows)
    last = rungs[[rung.step.name for rung in rungs].index(names[-1])]
    if last.run.trained:
        net = with_weights(last.spec, last.run.load_weights(), str(last.run.weights_path))
        say(f"{last.step.name}: exporting int8 TFLite and ONNX")
        wish = ExportOptions(formats=("tflite", "onnx"))
        try:
            exported = export_net(net, recipe, last.run, wish, say)
        except GateError as error:
            # Hours of training went before: their figures are not lost for it.
            broken = str(error)
    ladder = {
        "recipe": recipe.name,
        "recipe_digest": recipe.digest(),
        "seed": recipe.seed,
        "test_split": test.split,
        "test_images": len(test.pairs),
        "seconds": round(time.perf_counter() - started, 1),
        "versions": versions(),
        "steps": rows,
        "exported": [each.as_dict() for each in exported],
        "export_error": broken,
    }
    write_json(ladder_folder(options.runs, recipe) / "report.json", ladder)
    return ladder


def versions() -> dict[str, str]:
    """Return what computed the figures."""
    from importlib.metadata import version  # noqa: PLC0415

    names = ("torch", "onnx", "onnxruntime", "ai-edge-litert", "numpy")
    found = {name: version(name) for name in names}
    return {"mobileseg": __version__, "python": platform.python_version()} | found


def compare(names: Sequence[str], runs: Path) -> list[dict[str, Any]]:
    """Return the rows of trained steps, changes counted against the first of them."""
    chosen = {run.folder.resolve(): run for name in names for run in find_runs(name, runs)}
    for run in chosen.values():
        if not isinstance(run.report().get("miou_percent"), float):
            raise MobilesegError(f"{run.folder}: its training was not finished; slim it again")
    rows = rows_of(list(chosen.values()))
    for run, row in zip(chosen.values(), rows, strict=True):
        times = {kind: run.measured(kind) for kind in ("float32", "int8")}
        row["measured_ms"] = {kind: found["median_ms"] for kind, found in times.items() if found}
    return rows


def rows_of(chosen: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the rows of steps, trained or only counted; changes against the first trained one."""
    rungs = []
    for run in chosen:
        recipe = run.recipe()
        step = recipe[run.folder.name]
        parent = recipe.parent(step)
        above = f"{run.folder.parent.name}/{parent.name}" if parent is not None else None
        rungs.append(Rung(run.name, step, above, run.spec(), recipe.data.classes, run, ""))
    devices = dict.fromkeys(name for run in chosen for name in run.recipe().devices)
    rows = facts(rungs, (_empty(rung) for rung in rungs), tuple(devices))
    for rung, row in zip(rungs, rows, strict=True):
        row.update({**rung.run.report(), **row})
        row.update(qat_figures(rung.run.qat.report()))
    _compare(rows)
    return rows


def _empty(rung: Rung) -> Graph:
    return plain_graph(build(rung.spec, device="meta"))


def _chain(rungs: list[Rung], name: str) -> list[Rung]:
    """Return the named rung after its ancestors."""
    by_name = {rung.step.name: rung for rung in rungs}
    if name not in by_name:
        raise unknown("--step", "step", name, by_name)
    chain = [by_name[name]]
    while chain[0].parent is not None:
        chain.insert(0, by_name[chain[0].parent])
    return chain


def _prune(
    recipe: Recipe,
    rung: Rung,
    rungs: list[Rung],
    origin: Mapping[str, str],
    options: SlimOptions,
    say: Say,
) -> None:
    """Begin a pruning step's folder with its network and what is left of its parent's weights."""
    wish, parent, name = rung.step.prune, parent_of(rung, rungs), rung.step.name
    assert wish is not None and parent is not None
    _finished(rung, origin, options)
    whole = next((r for r in rungs if r.step.name == wish.of), parent)
    say(f"{name}: pruning {parent.step.name}")
    state = parent.run.load_weights()
    pruned = prune(recipe, wish, parent.spec, whole.spec, state, rung.run, say, options.progress)
    fresh = build(pruned.spec, recipe.seed).state_dict()
    rung.run.save_start(
        inherit(parent.spec, state, pruned.spec, fresh, pruned.scores).state, pruned.as_dict()
    )
    rung.run.begin(recipe, pruned.spec, origin)


def _climb(
    recipe: Recipe,
    rung: Rung,
    rungs: list[Rung],
    origin: Mapping[str, str],
    options: SlimOptions,
    test: TestPictures,
    counts: Mapping[str, Any],
    say: Say,
) -> dict[str, Any]:
    """Return the rung's report, its counts among the figures; train it first if need be."""
    name = rung.step.name
    done = _finished(rung, origin, options)
    if done:
        say(f"{name}: done before, kept")
        return done
    inherited = inherited_weights(recipe, rung, rungs)
    report: dict[str, Any] = {
        **counts,
        "recipe_digest": recipe.digest(),
        "seed": recipe.seed,
        "versions": versions(),
        "inherited_share": inherited.share,
        "fresh": list(inherited.fresh),
    }
    if options.command:
        report["command"] = options.command
    if rung.step.prune is not None:
        report["pruned"] = read_json(rung.run.pruned_path)
    rung.run.begin(recipe, rung.spec, origin)
    if rung.step.train:
        say(f"{name}: training; {100 * inherited.share:.0f} % of the weights are inherited")
        if noted := note(rung):
            say(f"{name}: {noted}")
        report |= train_rung(recipe, rung, inherited, options, test)
    rung.run.finish(report)
    return report


def _finished(rung: Rung, origin: Mapping[str, str], options: SlimOptions) -> dict[str, Any]:
    """Return the report of a rung that is done. Raises MobilesegError on another origin's."""
    begun, report = rung.run.begun(), rung.run.report()
    if begun == origin:
        return report if rung.run.trained or not rung.step.train else {}
    if (begun or report) and not options.restart:
        other = next(key for key in origin if begun.get(key) != origin[key])
        other = {"recipe": "recipe or weights", "lessons": "teacher or pictures for it"}.get(
            other, other
        )
        raise MobilesegError(
            f"{rung.run.folder}: was made from other {other}; use --restart to make it and what "
            "follows from it anew, or give the recipe another name"
        )
    return {}


def _origins(
    recipe: Recipe, rungs: Sequence[Rung], chosen: Sequence[Rung], runs: Path, data_key: str
) -> dict[str, dict[str, str]]:
    """Return what each rung is made of, beside what the recipe says.

    Raises MobilesegError where a chosen one's teacher or pictures are not there.
    """
    found = {rung.step.name: {"data": data_key} for rung in rungs}
    for rung in rungs:
        if rung.step.distill is None:
            continue
        try:
            found[rung.step.name]["lessons"] = lessons_key(rung.step.distill, recipe, runs)
        except MobilesegError as error:
            if rung in chosen:
                raise MobilesegError(f"{recipe.name}: step {rung.step.name!r}: {error}") from None
    return found


def _data_key(splits: Mapping[Split, Sequence[Pair]]) -> str:
    """Return a hash of the pictures and masks: their names and sizes."""
    files = [
        (split, file.name, file.stat().st_size if file.is_file() else 0)
        for split, chosen in splits.items()
        for pair in chosen
        for file in (pair.image, pair.mask)
    ]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def _trained_on(recipe: Recipe, rung: Rung, options: SlimOptions, say: Say) -> dict[str, Any]:
    """Return the figures of the rung trained as int8: now, if the recipe says so, or before."""
    if recipe.qat is None:
        return qat_figures(rung.run.qat.report())
    wish = QatOptions(options.device, options.restart, options.progress)
    return qat_figures(train_int8(rung.run, recipe, wish, say))


def _compare(rows: list[dict[str, Any]]) -> None:
    """Add each trained rung's change against its parent and against the first trained rung."""
    by_name = {row["step"]: row for row in rows}
    first = next((row for row in rows if "miou_percent" in row), None)
    for row in rows:
        parent = by_name.get(row["parent"])
        for key, other in (("change_parent_points", parent), ("change_base_points", first)):
            if other is None or other is row or "miou_percent" not in {*other} & {*row}:
                continue
            row[key] = round(row["miou_percent"] - other["miou_percent"], 2)
