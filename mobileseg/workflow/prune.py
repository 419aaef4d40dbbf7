"""A recipe's pruning steps: the widths that a trained network keeps within a budget."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.files import read_json, write_json
from mobileseg.latency.price import price
from mobileseg.latency.profile import DeviceProfile
from mobileseg.nets.module import build
from mobileseg.nets.spec import NetSpec
from mobileseg.recipe import Recipe
from mobileseg.runs import Run
from mobileseg.slim.inherit import inherit
from mobileseg.slim.prune.choose import Chooser, Cost
from mobileseg.slim.prune.config import Budget, Prune, Unit
from mobileseg.slim.prune.groups import Counts, Group, Scores, groups, narrowed
from mobileseg.slim.prune.importance import importance
from mobileseg.train import data as train_data
from mobileseg.train.console import Display
from mobileseg.train.evaluate import evaluate, load_eval, module_predict
from mobileseg.train.losses import class_weights, make_loss
from mobileseg.train.pairs import pairs
from mobileseg.train.taylor import taylor
from mobileseg.workflow.consumer import file_size
from mobileseg.workflow.device import device
from mobileseg.workflow.network import as_int8, empty_graph, with_weights

# How far each group is tried alone; between them the loss is taken to rise in a straight line.
_TRIED = (0.25, 0.5, 0.75)
# Enough pictures for a mean gradient and for points of mIoU that mean something.
_MOST_PICTURES = 256

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pruned:
    """The narrower network, and the importance that decided which filters stay."""

    spec: NetSpec
    scores: Scores
    groups: tuple[Group, ...]
    counts: Counts

    def as_dict(self) -> dict[str, Any]:
        """Return per group what it had and what it has, as plain JSON."""
        return {
            group.name: {
                "blocks": list(group.places),
                "filters_before": len(group),
                "filters": self.counts.get(group.name, len(group)),
                "held": group.held,
            }
            for group in self.groups
        }


@dataclass
class _Costs:
    """What a network with narrower groups costs, in every unit of a budget; each asked once."""

    spec: NetSpec
    found: tuple[Group, ...]
    profile: DeviceProfile
    seen: dict[tuple[Unit, tuple[int, ...]], float] = field(default_factory=dict)

    def of(self, unit: Unit) -> Cost:
        """Return the function of counts."""
        return partial(self._cost, unit)

    def _cost(self, unit: Unit, counts: Counts) -> float:
        kept = tuple(counts.get(group.name, len(group)) for group in self.found)
        if (unit, kept) not in self.seen:
            self.seen[unit, kept] = self._count(unit, narrowed(self.spec, self.found, counts), kept)
        return self.seen[unit, kept]

    def _count(self, unit: Unit, spec: NetSpec, kept: Sequence[int]) -> float:
        if unit == "ms":
            return self._ms(spec)
        if unit == "bytes":
            return file_size(as_int8(empty_graph(spec)), spec.name, _labels(spec))
        if unit == "channels_share":
            return sum(kept)
        return spec.macs if unit == "macs_share" else spec.params

    def _ms(self, spec: NetSpec) -> float:
        graph = empty_graph(spec)
        return price(as_int8(graph) if self.profile.int8 else graph, self.profile).ms


def _labels(spec: NetSpec) -> list[str]:
    return [str(number) for number in range(spec.classes)]


def foreseen(spec: NetSpec, whole: NetSpec, wish: Prune, devices: Sequence[str]) -> NetSpec:
    """Return the network that keeps the budget where no filter is known to matter more.

    whole: whose shares the budget is in. Raises MobilesegError where no network keeps it.
    """
    chooser, costs = _chooser(spec, wish, devices)
    if wish.to is None:
        return narrowed(spec, costs.found, chooser.fixed)
    budget = _budget(wish.to, _cost_of(whole, wish, devices))
    return narrowed(spec, costs.found, chooser.uniform(costs.of(wish.to.unit), budget))


def prune(
    recipe: Recipe,
    wish: Prune,
    spec: NetSpec,
    whole: NetSpec,
    state: Mapping[str, Tensor],
    run: Run,
    say: Say,
    progress: bool = True,
) -> Pruned:
    """Return what is left of a trained network within the budget.

    whole: the network whose shares the budget is in. run: the pruning step's; it keeps what was
    measured, so that a broken-off search goes on.
    """
    chooser, costs = _chooser(spec, wish, recipe.devices)
    found = costs.found
    if wish.to is None:
        say(f"pruned: {', '.join(wish.shares)} by given shares")
        scores = _scores(recipe, wish, spec, state, progress)
        return Pruned(narrowed(spec, found, chooser.fixed), scores, found, chooser.fixed)
    cost = costs.of(wish.to.unit)
    before = cost({})
    # Asked before the importance, which takes a while.
    budget = _budget(wish.to, before if whole == spec else _cost_of(whole, wish, recipe.devices))
    scores = _scores(recipe, wish, spec, state, progress)
    if wish.how == "uniform":
        counts = chooser.uniform(cost, budget)
    elif wish.how == "global":
        counts = chooser.ranked(scores, cost, budget)
    elif wish.how == "sensitivity":
        drops = _Sensitivity(recipe, spec, state, found, scores, run.sensitivity_path)
        counts = chooser.sensitive(drops.measure(chooser.free, progress), cost, budget)
    else:
        counts = _by_price(chooser, scores, costs, wish.to.unit, budget, progress)
    was, now = (_words(wish.to.unit, number) for number in (before, cost(counts)))
    say(f"pruned by {wish.how}: {was} -> {now}")
    return Pruned(narrowed(spec, found, counts), scores, found, counts)


def _cost_of(whole: NetSpec, wish: Prune, devices: Sequence[str]) -> float:
    assert wish.to is not None
    keeping = dataclasses.replace(wish, keep=(), shares={})
    return _chooser(whole, keeping, devices)[1].of(wish.to.unit)({})


def _budget(to: Budget, before: float) -> float:
    most, unit = to.most(before), to.unit
    if most >= before:
        raise MobilesegError(
            f"to.{unit}: {_words(unit, most)} are kept already: {to.of or 'the step before'} has "
            f"{_words(unit, before)}; ask for less"
        )
    return most


def _chooser(spec: NetSpec, wish: Prune, devices: Sequence[str]) -> tuple[Chooser, _Costs]:
    profile = device(wish.device or devices[0])
    found = groups(spec, wish.keep)
    table = profile.int8 or profile.float32
    multiple = wish.multiple_of or table.kernels["pointwise"].channel_tile
    return Chooser(found, multiple, wish.least, wish.shares), _Costs(spec, found, profile)


def _words(unit: Unit, number: float) -> str:
    words: dict[Unit, str] = {
        "ms": f"{number:.2f} ms",
        "bytes": f"{number:,.0f} bytes",
        "macs_share": f"{number / 1e6:,.1f} M multiply-adds",
        "params_share": f"{number / 1e6:,.3f} M parameters",
        "channels_share": f"{number:,.0f} filters",
    }
    return words[unit]


def _by_price(
    chooser: Chooser, scores: Scores, costs: _Costs, unit: Unit, budget: float, progress: bool
) -> Counts:
    cost = costs.of(unit)
    start = cost({})
    with Display(100, 0, progress) as display:

        def tell(now: float) -> None:
            way = (start - now) / max(start - budget, 1e-9)
            display.step(round(100 * min(1.0, way)), f"pruning  {_words(unit, now)}")

        return chooser.greedy(scores, costs.of("ms"), cost, budget, tell)


def _scores(
    recipe: Recipe, wish: Prune, spec: NetSpec, state: Mapping[str, Tensor], progress: bool
) -> Scores:
    if wish.importance != "taylor":
        return importance(spec, state, wish.importance)
    train = train_data.load(recipe.data, "train", spec.image_size)
    chosen = train.first(_MOST_PICTURES)
    net = with_weights(spec, state, spec.name)
    weights = class_weights(train, recipe.data, recipe.train, torch.device("cpu"))
    loss = make_loss(recipe.train.loss, weights, recipe.train.label_smoothing)
    with Display(len(chosen), 0, progress) as display:
        products = taylor(
            net,
            chosen,
            loss,
            recipe.train.batch_size,
            lambda done, _: display.step(done, "importance"),
        )
    return importance(spec, products, "taylor")


@dataclass(frozen=True)
class _Sensitivity:
    """What it costs to narrow each group alone, on the validation pictures; kept in a file."""

    recipe: Recipe
    spec: NetSpec
    state: Mapping[str, Tensor]
    found: tuple[Group, ...]
    scores: Scores
    path: Path

    def measure(self, free: Sequence[Group], progress: bool) -> dict[str, dict[float, float]]:
        """Return per group, per share that is taken, the points of mIoU lost."""
        recipe = self.recipe
        chosen = pairs(recipe.data, "val")[:_MOST_PICTURES]
        evalset = load_eval(chosen, recipe.data, self.spec.image_size)
        known = self._read()
        tries = [(group, share) for group in free for share in _TRIED]

        def miou(counts: Counts) -> float:
            child = narrowed(self.spec, self.found, counts)
            fresh = build(child).state_dict()
            kept = inherit(self.spec, self.state, child, fresh, self.scores)
            net = with_weights(child, kept.state, child.name)
            return 100 * evaluate(module_predict(net), evalset, boundary=False).miou

        with Display(len(tries), 0, progress) as display:
            whole = miou({}) if any(_key(*each) not in known for each in tries) else 0.0
            for done, (group, share) in enumerate(tries, 1):
                key = _key(group, share)
                if key not in known:
                    stay = max(1, round(len(group) * (1 - share)))
                    known[key] = whole - miou({group.name: stay})
                    write_json(self.path, {"made_of": self._made_of(), "points_lost": known})
                display.step(done, f"sensitivity  {group.name}")
        return {g.name: {s: known[_key(g, s)] for s in _TRIED} for g in free}

    def _made_of(self) -> str:
        """Return a hash of all that the figures depend on."""
        digest = hashlib.sha256()
        data = {**self.recipe.as_dict()["data"], "root": ""}
        digest.update(json.dumps([data, self.spec.as_dict()], sort_keys=True).encode())
        tensors = [self.state[name].detach() for name in sorted(self.state)]
        # Which filters go first.
        tensors += [torch.as_tensor(self.scores[name]) for name in sorted(self.scores)]
        for tensor in tensors:
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    def _read(self) -> dict[str, float]:
        if not self.path.is_file():
            return {}
        table = read_json(self.path)
        if not isinstance(table, dict) or table.get("made_of") != self._made_of():
            return {}
        try:
            return {str(key): float(value) for key, value in table["points_lost"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise MobilesegError(f"{self.path}: holds no figures; delete it") from None


def _key(group: Group, share: float) -> str:
    return f"{group.name} {share:g}"
