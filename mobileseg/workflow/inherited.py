"""The weights that a rung starts from: its parent's, or those of a pretrained encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mobileseg.errors import unknown
from mobileseg.files import shipped
from mobileseg.nets.module import build
from mobileseg.nets.pretrained import load_encoder
from mobileseg.recipe import Recipe
from mobileseg.runs import read_weights
from mobileseg.slim.inherit import Inherited, inherit
from mobileseg.workflow.plan import Rung

if TYPE_CHECKING:
    from torch import Tensor


def inherited_weights(recipe: Recipe, rung: Rung, rungs: list[Rung]) -> Inherited:
    """Return the rung's weights before its training, by way of its parent's."""
    if rung.step.prune is not None:
        return Inherited(read_weights(rung.run.start_path), 1.0, ())
    fresh = build(rung.spec, recipe.seed).state_dict()
    parent = parent_of(rung, rungs)
    state: Mapping[str, Tensor] = {}
    if parent is not None:
        trained = parent.run.trained
        state = (
            parent.run.load_weights() if trained else inherited_weights(recipe, parent, rungs).state
        )
    return inherit_from(recipe, parent, state, rung, fresh)


def parent_of(rung: Rung, rungs: list[Rung]) -> Rung | None:
    """Return the rung that a rung starts from, if there is one."""
    return next((r for r in rungs if r.step.name == rung.parent), None)


def inherit_from(
    recipe: Recipe,
    parent: Rung | None,
    state: Mapping[str, Tensor],
    rung: Rung,
    fresh: dict[str, Tensor],
) -> Inherited:
    """Return the fresh weights with what fits of the parent's state, or else of the encoder's."""
    if parent is not None:
        return inherit(parent.spec, state, rung.spec, fresh)
    if recipe.weights is not None:
        encoder = load_encoder(weights_path(recipe.weights))
        return inherit(encoder.spec, encoder.state, rung.spec, fresh)
    return Inherited(fresh, 0.0, tuple(block.name for block in rung.spec.blocks))


def weights_path(name: str) -> Path:
    """Return the file of shipped weights by name, or the path itself."""
    if name.endswith(".safetensors"):
        return Path(name)
    known = {path.stem: path for path in sorted(shipped("assets", "weights").glob("*.safetensors"))}
    if name not in known:
        raise unknown("weights", "shipped weights file", name, known)
    return known[name]
