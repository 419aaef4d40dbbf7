"""`--repair auto`: each repair alone, then the best together, by trial on training pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

from mobileseg.graph.ir import Graph
from mobileseg.quantize.config import QuantizeConfig, RangeBy, Repair
from mobileseg.quantize.edges import Interface
from mobileseg.quantize.repair import Observed, post_train
from mobileseg.recipe import Recipe
from mobileseg.workflow import choose
from mobileseg.workflow.choose import Settled, Trial, trial_judge
from mobileseg.workflow.int8 import load_calibration
from mobileseg.workflow.sensitivity import in_runtime
from mobileseg.workflow.verdict import Judge

Say = Callable[[str], None]
Attempt = Callable[[RangeBy, Sequence[Repair]], Trial]

_REPAIRS: tuple[Repair, ...] = get_args(Repair)
# Points of agreement that are worth another repair; less may be luck.
_WORTH = 0.02


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
    tried: tuple[Trial, ...] = ()
    if config.repair == "auto":
        size = graph[graph.inputs[0]].shape[2:]
        seen = load_calibration(recipe, (size[0], size[1]), config.images)
        judge = trial_judge(graph, recipe, seen)
        config, tried = choose_repair(Observed(graph, seen), config, judge, val, say)
    settled = choose.as_recipe_says(graph, recipe, config, interface, say=say)
    return replace(settled, trials=tried)


def choose_repair(
    observed: Observed,
    config: QuantizeConfig,
    judge: Judge,
    val: Judge | None = None,
    say: Say = lambda _: None,
) -> tuple[QuantizeConfig, tuple[Trial, ...]]:
    """Return the config with the ranges and repairs that keep most pixels, and all that was tried.

    A trial that does more must keep more pixels by `_WORTH`.
    """
    tried: dict[tuple[RangeBy, tuple[Repair, ...]], Trial] = {}

    def attempt(ranges: RangeBy, repair: Sequence[Repair]) -> Trial:
        key = ranges, tuple(each for each in _REPAIRS if each in repair)
        if key not in tried:
            asked = replace(config, ranges=ranges, repair=key[1], keep_float=())
            tried[key] = _trial(observed, asked, judge, val)
            say(f"{ranges} {'+'.join(key[1]) or '-'}: keeps {tried[key].agreement:.2f} %")
        return tried[key]

    _search(attempt)
    top = max(trial.agreement for trial in tried.values())
    enough = [trial for trial in tried.values() if trial.agreement >= top - _WORTH]
    chosen = min(enough, key=lambda trial: (len(trial.repair), -trial.agreement))
    return replace(config, ranges=chosen.ranges, repair=chosen.repair), tuple(tried.values())


def _search(attempt: Attempt) -> None:
    """Try all ranges bare; with the best of them each repair alone, then another beside the best
    ones for as long as that keeps more pixels; at last all of them.
    """
    bare = [attempt(ranges, ()) for ranges in get_args(RangeBy)]
    best = max(bare, key=lambda trial: trial.agreement)
    while len(best.repair) < len(_REPAIRS):
        others = [each for each in _REPAIRS if each not in best.repair]
        wider = [attempt(best.ranges, (*best.repair, each)) for each in others]
        widest = max(wider, key=lambda trial: trial.agreement)
        if widest.agreement <= best.agreement:
            break
        best = widest
    attempt(best.ranges, _REPAIRS)


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
