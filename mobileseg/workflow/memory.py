"""`mobileseg profile --train`: the bytes that a training keeps for the way back, and their peak."""

from __future__ import annotations

import multiprocessing
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch

from mobileseg.errors import unknown
from mobileseg.nets.module import build
from mobileseg.nets.spec import NetSpec, read_spec
from mobileseg.recipe import Recipe
from mobileseg.slim.actions import Actions
from mobileseg.slim.steps import apply
from mobileseg.train.memory.lean import lean_forward, make_lean
from mobileseg.train.memory.saved import Saved, saved_bytes
from mobileseg.workflow.plan import plan

_PART = re.compile(r"[A-Za-z]+")
_KB = 1024


def training_memory(
    recipe: Recipe,
    runs: Path,
    step: str | None,
    batch: int,
    image_size: tuple[int, int] | None,
    measure: bool,
) -> dict[str, Any]:
    """Return what autograd keeps per block and part of a step's network, plain and lean.

    Counted on the meta device, so that any size can be asked for. measure: also run one training
    step of each here, in a process of its own, for its time and the peak of its memory.
    """
    rungs = {rung.step.name: rung for rung in plan(recipe, runs)}
    name = step or next(iter(rungs))
    if name not in rungs:
        raise unknown("--step", "step", name, rungs)
    spec = rungs[name].spec
    if image_size is not None:
        spec = apply(spec, Actions(image_size=image_size), "--image")
    plain, lean = (_counted(spec, batch, each) for each in (False, True))
    kinds = {block.name: block.kind for block in spec.blocks}
    blocks = [
        {"block": block, "kind": kinds.get(block, "-"), "plain": count, "lean": lean.get(block, 0)}
        for block, count in plain.items()
    ]
    found: dict[str, Any] = {
        "step": rungs[name].name,
        "image_size": list(spec.image_size),
        "batch_size": batch,
        "plain_bytes": sum(plain.values()),
        "lean_bytes": sum(lean.values()),
        "blocks": blocks,
        "parts": _parts(blocks),
    }
    if measure:
        found["measured"] = {
            word: _measured(spec, batch, word == "lean") for word in ("plain", "lean")
        }
    return found


def _counted(spec: NetSpec, batch: int, lean: bool) -> dict[str, int]:
    """Return bytes per block. Batch norm over one pixel wants two pictures: halves of those."""
    pictures = max(batch, 2)
    net = build(spec, device="meta")
    if lean:
        make_lean(net)
    saved: Saved = saved_bytes(net, torch.empty(pictures, 3, *spec.image_size, device="meta"), lean)
    return {block: count * batch // pictures for block, count in saved.by_block().items()}


def _parts(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum blocks by the word that their names begin with: stem, entry, middle, decoder, ..."""
    sums: dict[str, dict[str, Any]] = {}
    for block in blocks:
        match = _PART.match(block["block"])
        part = match[0] if match else block["block"]
        one = sums.setdefault(part, {"part": part, "plain": 0, "lean": 0})
        for word in ("plain", "lean"):
            one[word] += block[word]
    return list(sums.values())


def _measured(spec: NetSpec, batch: int, lean: bool) -> dict[str, float]:
    """Run one step in a new process: the peak of this one has seen other things."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_one_step, (spec.as_dict(), batch, lean))


def _one_step(plain_spec: dict[str, Any], batch: int, lean: bool) -> dict[str, float]:
    spec = read_spec(plain_spec, "spec")
    net = build(spec).train()
    if lean:
        make_lean(net)
    inputs = torch.zeros(batch, 3, *spec.image_size)
    before = _peak()
    started = time.perf_counter()
    if lean:
        with lean_forward():
            loss = net(inputs).square().mean()
    else:
        loss = net(inputs).square().mean()
    loss.backward()
    seconds = time.perf_counter() - started
    return {"peak_bytes": _peak() - before, "seconds": seconds}


def _peak() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux kilobytes.
    return most if sys.platform == "darwin" else most * _KB
