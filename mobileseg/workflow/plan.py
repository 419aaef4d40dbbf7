"""A recipe's steps as networks, each with its folder: all that needs neither weights nor torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileseg.errors import MobilesegError
from mobileseg.nets.spec import NetSpec, read_spec_file
from mobileseg.nets.zoo import zoo_net
from mobileseg.recipe import Recipe, Step
from mobileseg.runs import Run, ladder_folder
from mobileseg.slim.actions import Actions
from mobileseg.slim.prune.config import Prune
from mobileseg.slim.steps import apply


@dataclass(frozen=True)
class Rung:
    """A step with its network and its folder. `name` and `parent` are what tables call them."""

    name: str
    step: Step
    parent: str | None
    spec: NetSpec
    labels: tuple[str, ...]
    run: Run
    # What everything that the rung's weights depend on hashes to.
    key: str
    # Whether its widths are a guess: a pruning is to come that has not been done.
    foreseen: bool = False


def plan(recipe: Recipe, runs: Path) -> list[Rung]:
    """Return the recipe's rungs. Raises MobilesegError naming the step that does not work."""
    labels = recipe.data.classes
    base = find_net(recipe.net, recipe.image_size, len(labels), f"{recipe.name}: net")
    rungs: dict[str, Rung] = {}
    for step in recipe.step:
        parent = recipe.parent(step)
        before = rungs[parent.name] if parent is not None else None
        start, where = before.spec if before else base, f"{recipe.name}: step {step.name!r}"
        run = Run(ladder_folder(runs, recipe) / step.name)
        if step.prune is None:
            spec = apply(start, step, where)
            key = _key(recipe, step, spec, before.key if before else "", rungs)
        else:
            # Its widths follow from what the key says, once the step before is trained.
            key = _key(recipe, step, start, before.key if before else "", rungs)
            whole = rungs[step.prune.of].spec if step.prune.of else start
            spec = _pruned(recipe, step.prune, start, whole, run, key, where)
        above = before.name if before else None
        to_come = step.prune is not None and run.begun().get("recipe") != key
        foreseen = to_come or (before is not None and before.foreseen)
        rungs[step.name] = Rung(step.name, step, above, spec, labels, run, key, foreseen)
    return list(rungs.values())


def _pruned(
    recipe: Recipe,
    wish: Prune,
    start: NetSpec,
    whole: NetSpec,
    run: Run,
    key: str,
    where: str,
) -> NetSpec:
    """Return the network that was pruned, or the one to be expected before that.

    whole: the network whose shares a budget is in.
    """
    if run.begun().get("recipe") == key:
        return run.spec()
    from mobileseg.workflow.prune import foreseen  # noqa: PLC0415  (needs torch)

    try:
        return foreseen(start, whole, wish, recipe.devices)
    except MobilesegError as error:
        raise MobilesegError(f"{where}: prune: {error}") from None


def find_net(given: str, image_size: tuple[int, int], classes: int, where: str) -> NetSpec:
    """Return a network of the zoo, or of a .toml file that describes one, at a size.

    Raises MobilesegError with the names that there are, or with the file's mistakes.
    """
    if not given.endswith(".toml"):
        return zoo_net(given, image_size, classes, where)
    spec = dataclasses.replace(read_spec_file(Path(given)), classes=classes)
    made = spec.shapes()[spec.blocks[-1].name][0]
    if made != classes:
        raise MobilesegError(
            f"{given}: gives {made} channels, and there are {classes} classes; say "
            'channels = "classes" where it classifies'
        )
    return apply(spec, Actions(image_size=image_size), f"{where}: {given}")


def _key(
    recipe: Recipe, step: Step, spec: NetSpec, parent_key: str, rungs: Mapping[str, Rung]
) -> str:
    plain = recipe.as_dict()
    plain["data"].pop("root")
    said = [
        parent_key,
        spec.as_dict(),
        step.train,
        dataclasses.asdict(recipe.training(step)),
        *(plain.get(part) for part in ("seed", "weights", "data", "augment")),
    ]
    # What a step does not say is not said here: older runs keep their keys.
    prune = step.prune and dataclasses.replace(
        step.prune, device=step.prune.device or recipe.devices[0]
    )
    for wish in (step.augment, prune, step.sparse, step.cluster, step.distill):
        if wish is not None:
            said.append({type(wish).__name__: dataclasses.asdict(wish)})
    if prune and prune.of:
        said.append(rungs[prune.of].key)
    if step.distill and step.distill.teacher in rungs:
        said.append(rungs[step.distill.teacher].key)
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:16]
