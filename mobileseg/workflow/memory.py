"""`mobileseg profile --train`: what a training keeps for the way back, its peak, less of both."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mobileseg.errors import MobilesegError, unknown
from mobileseg.nets.module import build
from mobileseg.nets.spec import NetSpec, read_spec
from mobileseg.recipe import Recipe
from mobileseg.slim.actions import Actions
from mobileseg.slim.steps import apply
from mobileseg.train.memory.measure import free_bytes, measured
from mobileseg.train.memory.way import Trial, Way
from mobileseg.workflow.plan import plan

_WORD = re.compile(r"[A-Za-z]+")
_SHARE = 0.5  # of the free memory: what may be used for a measurement
_LEAST_SIDE = 64


@dataclass(frozen=True)
class Asked:
    """What to count. None: as the recipe says. measure: also run steps here, in a new process."""

    step: str | None
    batch: int | None
    image_size: tuple[int, int] | None
    measure: bool


def training_memory(recipe: Recipe, runs: Path, asked: Asked) -> dict[str, Any]:
    """Return what autograd keeps per block, part and side of a network, and the peak, per way.

    Counted on tensors without values, so that any size can be asked for. Measured is at the same
    size or, where that does not fit here, at the first half of a half of it that does.
    """
    rungs = {rung.step.name: rung for rung in plan(recipe, runs)}
    name = asked.step or next(iter(rungs))
    if name not in rungs:
        raise unknown("--step", "step", name, rungs)
    batch = asked.batch or recipe.train.batch_size
    spec = rungs[name].spec
    if asked.image_size is not None:
        spec = apply(spec, Actions(image_size=asked.image_size), "--image")
    ways = _ways(recipe, batch)
    counts = {str(way): _counted(spec, batch, way) for way in ways}
    kinds = {block.name: block.kind for block in spec.blocks}
    sides = _sides(spec)
    blocks: list[dict[str, Any]] = [
        {"block": block, "kind": kinds[block], "side": sides[block], **_each(counts, block)}
        for block in dict.fromkeys(name for count in counts.values() for name in count.kept)
    ]
    found: dict[str, Any] = {
        "step": name,
        "image_size": list(spec.image_size),
        "batch_size": batch,
        "ways": [
            {
                "way": str(way),
                **asdict(way),
                "kept_bytes": counts[str(way)].total,
                "peak_bytes": counts[str(way)].peak,
            }
            for way in ways
        ],
        "blocks": blocks,
        "sides": _sums(blocks, list(counts), ("side",)),
        "parts": _sums(
            [{**block, "part": _part(block["block"])} for block in blocks],
            list(counts),
            ("side", "part"),
        ),
    }
    if asked.measure:
        found["measured"] = _measured(spec, batch, ways, counts)
    return found


@dataclass(frozen=True)
class _Count:
    kept: dict[str, int]  # per block
    peak: int

    @property
    def total(self) -> int:
        return sum(self.kept.values())


def _ways(recipe: Recipe, batch: int) -> list[Way]:
    """Return the ways to compare, each once: single ones, all together, and the recipe's own."""
    train = recipe.train
    globs = train.recompute or ("*",)
    parts = min(batch, max(train.accumulate, 2))
    own = Way(train.memory, train.recompute, train.precision, min(batch, train.accumulate))
    all_but_parts = Way("lean", globs, "bfloat16")
    ways = [
        Way(),
        Way("lean"),
        Way(recompute=globs),
        Way("lean", globs),
        Way(precision="bfloat16"),
        Way(accumulate=parts),
        all_but_parts,
        replace(all_but_parts, accumulate=parts),
        own,
    ]
    return list(dict.fromkeys(ways))


def _counted(spec: NetSpec, batch: int, way: Way) -> _Count:
    with FakeTensorMode():
        trial = Trial(build(spec), way, spec.heads())
        images = torch.empty(batch, 3, *spec.image_size)
        return _Count(trial.saved(images).by_block(), trial.peak(images))


def _each(counts: dict[str, _Count], block: str) -> dict[str, int]:
    return {way: count.kept.get(block, 0) for way, count in counts.items()}


def _sides(spec: NetSpec) -> dict[str, str]:
    """Return for each block whether it is of the encoder, the decoder or an auxiliary head.

    The encoder ends where the map is smallest for the last time, in neighbours whose names agree
    up to the first `_`: what happens inside of them, as the mean of a context that is spread again,
    is no end. So a DeepLab's ASPP is of the encoder, and what only makes its output wide is the
    decoder of a network that has no other.
    """
    live, shapes = spec.live(), spec.shapes()
    running = [block.name for block in spec.blocks if block.name in live]
    stages = [list(stage) for _, stage in groupby(running, lambda name: name.split("_")[0])]
    areas = [shapes[stage[-1]][1] * shapes[stage[-1]][2] for stage in stages]
    end = len(areas) - areas[::-1].index(min(areas))
    encoder = {name for stage in stages[:end] for name in stage}
    return {
        block.name: ("encoder" if block.name in encoder else "decoder")
        if block.name in live
        else "auxiliary heads"
        for block in spec.blocks
    }


def _part(block: str) -> str:
    """Return the word that a block's name begins with: stem, entry, middle, decoder, ..."""
    match = _WORD.match(block)
    return match[0] if match else block


def _sums(
    blocks: Sequence[dict[str, Any]], ways: Sequence[str], keys: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the blocks added up that agree in the keys, in running order."""
    sums: dict[tuple[str, ...], dict[str, Any]] = {}
    for block in blocks:
        said = {key: block[key] for key in keys}
        one = sums.setdefault(tuple(said.values()), {**said, **dict.fromkeys(ways, 0)})
        for way in ways:
            one[way] += block[way]
    return list(sums.values())


def _measured(
    spec: NetSpec, batch: int, ways: Sequence[Way], counts: dict[str, _Count]
) -> dict[str, Any]:
    """Return seconds and peak of a step per way, at a size whose plain step fits here."""
    smaller = _fitting(spec, batch, counts["plain"].peak)
    if smaller is not spec:
        counts = {str(way): _counted(smaller, batch, way) for way in ways}
    # A process of its own: this one has memory to reuse.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        figures = pool.apply(_steps, (smaller.as_dict(), batch, ways))
    rows = [
        {"way": str(way), "counted_bytes": counts[str(way)].peak, **each}
        for way, each in zip(ways, figures, strict=True)
    ]
    threads = torch.get_num_threads()
    return {"image_size": list(smaller.image_size), "threads": threads, "ways": rows}


def _fitting(spec: NetSpec, batch: int, peak: int) -> NetSpec:
    """Return the network at the largest half of a half of its size that fits."""
    room = _SHARE * free_bytes()
    while peak > room:
        height, width = (side // 2 for side in spec.image_size)
        if min(height, width) < _LEAST_SIDE:
            raise MobilesegError(
                f"--measure: a step on {batch} pictures does not fit into {room / 1e9:.1f} GB at "
                "any useful size; give a smaller --batch"
            )
        spec = apply(spec, Actions(image_size=(height, width)), "--measure")
        peak = _counted(spec, batch, Way()).peak
    return spec


def _steps(plain_spec: dict[str, Any], batch: int, ways: Sequence[Way]) -> list[dict[str, float]]:
    spec = read_spec(plain_spec, "spec")
    images = torch.zeros(batch, 3, *spec.image_size).to(memory_format=torch.channels_last)
    found = []
    for way in ways:
        net = build(spec)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found.append(measured(Trial(net, way, spec.heads()), images))
    return found
