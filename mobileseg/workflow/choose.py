"""`--repair auto` and `--keep-float auto`: chosen by trial on pictures of the training split."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch

from mobileseg.graph.ir import Graph
from mobileseg.graph.ops import Conv2d, ConvTranspose2d
from mobileseg.quantize.config import QuantizeConfig, RangeBy, Repair
from mobileseg.quantize.edges import Interface
from mobileseg.quantize.repair import Observed, Quantized, post_train, with_kept
from mobileseg.recipe import Recipe
from mobileseg.train.compress.layers import clustered
from mobileseg.train.evaluate import load_eval
from mobileseg.workflow.int8 import Calibration, calibration_pairs, load_calibration
from mobileseg.workflow.network import graph_predict
from mobileseg.workflow.sensitivity import in_runtime, layers, sensitivity
from mobileseg.workflow.verdict import Judge

Say = Callable[[str], None]
Attempt = Callable[[RangeBy, Sequence[Repair]], "Trial"]

_REPAIRS: tuple[Repair, ...] = get_args(Repair)
# Those after which weights that were equal are not. What is exactly zero stays so with any.
_SPREADING: tuple[Repair, ...] = ("equalise", "round")
# Pictures that candidates are tried on: after those that calibrate, where there are enough.
_TRIAL_IMAGES = 32
_LEAST_IMAGES = 8
# Points of agreement that are worth another repair; less may be luck.
_WORTH = 0.02


@dataclass(frozen=True)
class Trial:
    """One way of quantizing, tried: what it loses in points, what share of pixels stays, percent.

    `val_drop` is what it loses on the pictures of the verdict, where these were looked at: it
    chooses nothing.
    """

    ranges: RangeBy
    repair: tuple[Repair, ...]
    drop: float
    agreement: float
    seconds: float
    val_drop: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "ranges": self.ranges,
            "repair": list(self.repair),
            "drop_points": self.drop,
            "agreement_percent": self.agreement,
            "val_drop_points": self.val_drop,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Settled:
    """A float graph in int8, how (nothing in `config` is auto), and what was tried for that."""

    made: Quantized
    config: QuantizeConfig
    seen: Calibration
    trials: tuple[Trial, ...] = ()


def as_recipe_says(
    graph: Graph,
    recipe: Recipe,
    config: QuantizeConfig,
    interface: Interface = "uint8",
    val: Judge | None = None,
    say: Say = lambda _: None,
) -> Settled:
    """Return the float graph in int8; what is auto is chosen on training pictures.

    val: where trials are to be looked at, too; it chooses nothing.
    """
    size = graph[graph.inputs[0]].shape[2:]
    seen = load_calibration(recipe, (size[0], size[1]), config.images)
    config = fitting(graph, config, say)
    if "auto" not in (config.repair, config.keep_float):
        return Settled(post_train(graph, seen, config, interface), config, seen)
    judge = trial_judge(graph, recipe, seen)
    tried: tuple[Trial, ...] = ()
    if config.repair == "auto":
        config, tried = choose_repair(Observed(graph, seen), config, judge, val, say)
    if config.keep_float == "auto":
        plain = post_train(graph, seen, replace(config, keep_float=()))
        config = replace(config, keep_float=choose_kept(plain, config, judge, say))
    return Settled(post_train(graph, seen, config, interface), config, seen, tried)


def fitting(graph: Graph, config: QuantizeConfig, say: Say = lambda _: None) -> QuantizeConfig:
    """Return the config without the repairs that would spread a clustered graph's few values."""
    if config.repair == "auto" or not {*config.repair} & {*_SPREADING}:
        return config
    fit = repairs_for(graph)
    out = [each for each in config.repair if each not in fit]
    if not out:
        return config
    say(f"quantize.repair: {', '.join(out)} left out, to keep the weights' few values")
    return replace(config, repair=tuple(each for each in config.repair if each in fit))


def repairs_for(graph: Graph) -> tuple[Repair, ...]:
    """Return the repairs that a float graph's weights may have, in the order of `Repair`."""
    weights = [
        torch.from_numpy(np.array(value.data))
        for node in graph.nodes
        # Depthwise ones have few weights, or the equal ones of an average.
        if isinstance(node.op, Conv2d | ConvTranspose2d) and getattr(node.op, "groups", 1) == 1
        for value in graph.constants(node)
        if len(value.shape) == 4
    ]
    if not clustered(weights):
        return _REPAIRS
    return tuple(each for each in _REPAIRS if each not in _SPREADING)


def trial_judge(graph: Graph, recipe: Recipe, seen: Calibration) -> Judge:
    """Return a judge on training pictures: others than calibrate, where there are enough."""
    chosen = calibration_pairs(recipe, len(seen.pairs) + _TRIAL_IMAGES)[len(seen.pairs) :]
    if len(chosen) < _LEAST_IMAGES:
        chosen = list(seen.pairs[:_TRIAL_IMAGES])
    size = graph[graph.inputs[0]].shape[2:]
    evalset = load_eval(chosen, recipe.data, (size[0], size[1]))
    return Judge(graph_predict(graph), evalset, "train")


def choose_repair(
    observed: Observed,
    config: QuantizeConfig,
    judge: Judge,
    val: Judge | None = None,
    say: Say = lambda _: None,
) -> tuple[QuantizeConfig, tuple[Trial, ...]]:
    """Return the config with the ranges and repairs that keep most pixels, and all that was tried.

    A trial that does more must keep more pixels by `_WORTH`. Repairs that do not fit the weights
    are not tried.
    """
    tried: dict[tuple[RangeBy, tuple[Repair, ...]], Trial] = {}

    def attempt(ranges: RangeBy, repair: Sequence[Repair]) -> Trial:
        key = ranges, tuple(each for each in _REPAIRS if each in repair)
        if key not in tried:
            asked = replace(config, ranges=ranges, repair=key[1], keep_float=())
            tried[key] = _trial(observed, asked, judge, val)
            say(f"{ranges} {'+'.join(key[1]) or '-'}: keeps {tried[key].agreement:.2f} %")
        return tried[key]

    _search(attempt, repairs_for(observed.graph))
    top = max(trial.agreement for trial in tried.values())
    enough = [trial for trial in tried.values() if trial.agreement >= top - _WORTH]
    chosen = min(enough, key=lambda trial: (len(trial.repair), -trial.agreement))
    return replace(config, ranges=chosen.ranges, repair=chosen.repair), tuple(tried.values())


def _search(attempt: Attempt, repairs: Sequence[Repair]) -> None:
    """Try all ranges bare; with the best of them each repair alone, then another beside the best
    ones for as long as that keeps more pixels; at last all of them.
    """
    bare = [attempt(ranges, ()) for ranges in get_args(RangeBy)]
    best = max(bare, key=lambda trial: trial.agreement)
    while len(best.repair) < len(repairs):
        others = [each for each in repairs if each not in best.repair]
        wider = [attempt(best.ranges, (*best.repair, each)) for each in others]
        widest = max(wider, key=lambda trial: trial.agreement)
        if widest.agreement <= best.agreement:
            break
        best = widest
    attempt(best.ranges, repairs)


def _trial(observed: Observed, config: QuantizeConfig, judge: Judge, val: Judge | None) -> Trial:
    started = time.perf_counter()
    made = post_train(observed.graph, observed.batches, config, observed=observed)
    seconds = time.perf_counter() - started
    predict = in_runtime(made.graph)
    verdict = judge.verdict(predict, config.max_drop)
    return Trial(
        config.ranges,
        tuple(each for each in _REPAIRS if each in config.repair),
        verdict.drop,
        100 * verdict.agreement,
        round(seconds, 2),
        None if val is None else val.verdict(predict, config.max_drop).drop,
    )


def choose_kept(
    made: Quantized, config: QuantizeConfig, judge: Judge, say: Say = lambda _: None
) -> tuple[str, ...]:
    """Return the fewest layers to keep in float, in running order, that lose no more than allowed.

    By one layer's error at a time: those that hurt most are kept until the loss is small enough,
    then each is given back that it does without.
    """

    def enough(kept: Sequence[str]) -> bool:
        graph = with_kept(made, kept)
        return judge.verdict(in_runtime(graph), config.max_drop).passed

    if enough(()):
        return ()
    say("looking for the layers to keep in float")
    errors = sorted(sensitivity(made, judge), key=lambda error: error.sqnr_db)
    order = [error.layer for error in errors]
    whole = len(order)
    count = next((count for count in _doubling(whole) if enough(order[:count])), whole)
    low = count // 2
    while count - low > 1:
        middle = (low + count) // 2
        low, count = (low, middle) if enough(order[:middle]) else (middle, count)
    kept = order[:count]
    for layer in list(kept):
        fewer = [name for name in kept if name != layer]
        kept = fewer if enough(fewer) else kept
    return tuple(name for name in layers(made.source) if name in kept)


def _doubling(last: int) -> Iterator[int]:
    """Count 1, 2, 4 ... and at the end to `last`, with which nothing is int8 and all is well."""
    count = 1
    while count < last:
        yield count
        count *= 2
    yield last
