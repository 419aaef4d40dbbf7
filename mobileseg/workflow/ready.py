"""What would stop a step's training, found before the first step takes its hours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from mobileseg.errors import MobilesegError, matching
from mobileseg.nets.module import build
from mobileseg.recipe import Recipe
from mobileseg.runs import find_run
from mobileseg.train.compress.layers import convolutions
from mobileseg.train.compress.sparse import Masks
from mobileseg.train.config import Distill
from mobileseg.train.memory.recompute import units
from mobileseg.train.pairs import pictures_of
from mobileseg.workflow.plan import Rung


def check_steps(recipe: Recipe, rungs: Iterable[Rung]) -> None:
    """Raise MobilesegError for a step that names blocks its network does not have."""
    for rung in rungs:
        if not rung.step.train:
            continue
        try:
            _check_blocks(recipe, rung)
        except MobilesegError as error:
            raise MobilesegError(f"{recipe.name}: step {rung.step.name!r}: {error}") from None


def _check_blocks(recipe: Recipe, rung: Rung) -> None:
    net, step = build(rung.spec, device="meta"), rung.step
    units(net, recipe.train.recompute)
    if step.sparse is not None:
        convolutions(net, step.sparse.keep)
    if step.cluster is not None:
        convolutions(net, step.cluster.keep)
    if step.distill is not None:
        names = [block.name for block in rung.spec.blocks]
        matching("distill.features", "block", step.distill.features, names)
        matching("distill.mimic", "block", step.distill.mimic, names)


def note(rung: Rung) -> str:
    """Return what a person should know of a step before it trains; nothing in most cases."""
    wish = rung.step.sparse
    return Masks(build(rung.spec, device="meta"), wish, 1).note() if wish else ""


def lessons_key(wish: Distill, recipe: Recipe, runs: Path) -> str:
    """Return a hash of the teacher, unless it is a step, and of the pictures without masks.

    Raises MobilesegError where they are not there.
    """
    said: list[object] = []
    if wish.of_file:
        path = Path(wish.teacher)
        if not path.is_file():
            raise MobilesegError(f"distill.teacher: {path}: there is no such file")
        said.append(hashlib.sha256(path.read_bytes()).hexdigest())
    elif wish.teacher not in {step.name for step in recipe.step}:
        run = find_run(wish.teacher, runs)
        if not run.trained:
            raise MobilesegError(f"distill.teacher: {run.name} is not trained; climb to it first")
        said.append(run.weights_digest)
    if wish.unlabelled is not None:
        found = pictures_of(recipe.data.root, wish.unlabelled)
        said += [(path.name, path.stat().st_size) for path in found]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
