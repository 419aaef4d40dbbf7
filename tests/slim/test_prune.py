"""Filters go together or not at all, and what is left computes what it computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks import IMAGE, Conv, Sum
from mobileseg.nets.module import build
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo import ZOO, zoo_net
from mobileseg.slim.channels import NONE, channel_maps
from mobileseg.slim.inherit import inherit
from mobileseg.slim.prune.choose import Chooser
from mobileseg.slim.prune.config import Budget
from mobileseg.slim.prune.groups import Counts, Group, Scores, groups, narrowed
from mobileseg.slim.prune.importance import importance
from tests.slim.test_inherit import NETS, crossed, run, trained

SIZE = (192, 256)  # the least that every network of the zoo takes


def thin(name: str) -> NetSpec:
    """A network of the zoo at a quarter of its width."""
    spec = zoo_net(name, SIZE, 4, "test")
    found = groups(spec)
    return narrowed(spec, found, {g.name: -(-len(g) // 4) for g in found if not g.held})


def flat(spec: NetSpec) -> Scores:
    """Every filter as important as every other."""
    scores = importance(spec, trained(spec), "l1")
    return {name: np.ones_like(each) for name, each in scores.items()}


def drawn(found: tuple[Group, ...], seed: int) -> Counts:
    generator = np.random.default_rng(seed)
    return {g.name: int(generator.integers(1, len(g) + 1)) for g in found if not g.held}


def silenced(
    parent: NetSpec, state: dict[str, Tensor], child: NetSpec, scores: Scores
) -> dict[str, Tensor]:
    """The parent's state with zeros wherever the child has nothing."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    for name, maps in channel_maps(parent, state, child, scores).items():
        for tensor, axes in parent[name].axes().items():
            for axis, role in enumerate(axes):
                if role:
                    kept = maps.role(role)
                    assert NONE not in kept
                    gone = np.setdiff1d(np.arange(state[f"{name}.{tensor}"].shape[axis]), kept)
                    state[f"{name}.{tensor}"].index_fill_(axis, torch.from_numpy(gone), 0)
    return state


@pytest.mark.parametrize("name", [*ZOO, *NETS])
def test_a_pruned_net_is_the_wide_net_with_silent_filters(name: str) -> None:
    parent = NETS[name] if name in NETS else thin(name)
    found = groups(parent)
    state = trained(parent, 1)
    scores = importance(parent, state, "l1")
    child = narrowed(parent, found, drawn(found, 2))
    assert child.params < parent.params
    result = inherit(parent, state, child, build(child, 3).state_dict(), scores)
    assert result.share == 1
    wide, slim = run(parent, silenced(parent, state, child, scores)), run(child, result.state)
    scale = float(wide.abs().max())
    torch.testing.assert_close(slim / scale, wide / scale, rtol=0, atol=1e-5)


def test_the_least_important_go() -> None:
    parent = crossed()
    found = groups(parent)
    state = trained(parent)
    scores = {name: np.random.default_rng(1).random(len(s)) for name, s in flat(parent).items()}
    counts = drawn(found, 4)
    child = narrowed(parent, found, counts)
    maps = channel_maps(parent, state, child, scores)
    for group in found:
        if group.held or len(group.places) > 1:
            continue
        kept = np.isin(group.places[group.name], maps[group.name].role("out"))
        worth = group.importance(scores)
        assert kept.sum() == counts[group.name]
        assert worth[kept].min() >= worth[~kept].max(initial=0)


def test_groups_are_what_sums_and_doubling_tie() -> None:
    assert {g.name: (len(g), *g.places) for g in groups(crossed(), keep=("e",))} == {
        "a": (10, "a", "c"),
        "b": (6, "b", "c"),
        "d1": (5, "d1", "d2"),
        "e": (7, "e"),
        "out": (3, "out"),
    }
    held = {g.name: g.held for g in groups(crossed(), keep=("e",)) if g.held}
    assert held == {"e": "is to be kept", "out": "gives the classes"}


def test_what_a_narrowed_depthwise_layer_reads_is_refused_by_name() -> None:
    held = {name: g.held for g in groups(NETS["v2.1.4"]) for name in g.places}
    assert held["conv3_1"] == ""
    assert "conv5_1 reads several" in held["conv4_2"]


def test_the_picture_and_what_is_tied_to_itself_stay() -> None:
    blocks = (
        Conv("a", (IMAGE,), 3),
        Sum("s", ("a", IMAGE)),
        Conv("out", ("s",), "classes", norm=False, activation="none"),
    )
    spec = NetSpec("net", (8, 8), 2, blocks)
    assert [g.held for g in groups(spec)] == ["is added to the picture", "gives the classes"]
    with pytest.raises(MobilesegError, match="no filter that may go"):
        Chooser(groups(spec), 1, 0.0, {})
    with pytest.raises(MobilesegError, match=r"keep: .*'b'"):
        groups(spec, keep=("b",))


def priced(spec: NetSpec, found: tuple[Group, ...], of: str = "macs"):  # type: ignore[no-untyped-def]
    return lambda counts: float(getattr(narrowed(spec, found, counts), of))


@pytest.mark.parametrize("name", ["crossed", "v2.1.5"])
@pytest.mark.parametrize("multiple", [1, 4])
def test_every_way_keeps_its_budget_and_is_near_it(name: str, multiple: int) -> None:
    spec = NETS[name] if name != "crossed" else crossed(24, 16, 12)
    found = groups(spec)
    scores = importance(spec, trained(spec), "l2")
    cost = priced(spec, found)
    budget = 0.6 * spec.macs
    chooser = Chooser(found, multiple, 0.1, {})
    drops = {g.name: {0.25: 0.1, 0.5: 1.0 + len(g), 0.75: 20.0} for g in found if not g.held}
    ways = {
        "uniform": chooser.uniform(cost, budget),
        "ranked": chooser.ranked(scores, cost, budget),
        "sensitive": chooser.sensitive(drops, cost, budget),
        "greedy": chooser.greedy(scores, cost, cost, budget, lambda _: None),
    }
    for way, counts in ways.items():
        assert 0.3 * spec.macs < cost(counts) <= budget, way
        for group in chooser.free:
            count = counts[group.name]
            assert count % multiple == 0 or count == len(group), way


def test_greedy_saves_more_worth_than_uniform() -> None:
    spec = crossed(24, 16, 12)
    found = groups(spec)
    layers = {"a": 1.0, "b": 30.0, "c": 1.0, "d1": 0.01, "d2": 0.01, "e": 5.0}
    scores = {name: layers.get(name, 1.0) * s for name, s in flat(spec).items()}
    cost = priced(spec, found)
    chooser = Chooser(found, 1, 0.0, {})

    def worth(counts: Counts) -> float:
        kept = (np.sort(g.importance(scores))[-counts[g.name] :].sum() for g in chooser.free)
        return float(sum(kept))

    for share in (0.8, 0.6, 0.4):
        budget = share * spec.macs
        greedy = chooser.greedy(scores, cost, cost, budget, lambda _: None)
        assert worth(greedy) > worth(chooser.uniform(cost, budget))
        # Nothing that went would still fit.
        for group in chooser.free:
            if (count := greedy[group.name]) < len(group):
                assert cost({**greedy, group.name: count + 1}) > budget


def test_shares_are_taken_as_they_stand() -> None:
    spec = crossed()
    found = groups(spec)
    chooser = Chooser(found, 1, 0.0, {"d*": 0.4})
    cost = priced(spec, found)
    assert chooser.uniform(cost, spec.macs * 0.7)["d1"] == 3
    with pytest.raises(MobilesegError, match=r"shares\.out: out gives the classes"):
        Chooser(found, 1, 0.0, {"out": 0.5})
    with pytest.raises(MobilesegError, match=r"shares: .*'x'"):
        Chooser(found, 1, 0.0, {"x": 0.5})
    with pytest.raises(MobilesegError, match="cannot be met"):
        Chooser(found, 1, 0.9, {}).uniform(cost, spec.macs * 0.2)
    with pytest.raises(MobilesegError, match="cannot be met"):
        greedy = Chooser(found, 1, 0.9, {})
        greedy.greedy(flat(spec), cost, cost, spec.macs * 0.2, lambda _: None)


def test_a_budget_is_one_number_and_may_be_met_part_of_the_way() -> None:
    assert Budget(ms=4.0, way=0.5).most(16.0) == pytest.approx(8)
    assert Budget(macs_share=0.25, way=0.5).most(1000.0) == pytest.approx(500)
    assert Budget(bytes=300).most(1000.0) == pytest.approx(300)
    for given in ({}, {"ms": 1.0, "bytes": 2}):
        with pytest.raises(ValueError, match=f"not {len(given)}"):
            Budget(**given)


@pytest.mark.parametrize("kind", ["l1", "l2", "norm"])
def test_importance_is_of_the_filter_whatever_the_layers_scale(kind: str) -> None:
    spec = crossed()
    state = trained(spec)
    found = importance(spec, state, kind)  # type: ignore[arg-type]
    assert all(np.isclose(np.mean(s**2), 1) for s in found.values())
    key = "a.norm.weight" if kind == "norm" else "a.conv.weight"
    # Of a single number both norms are its size.
    expected = state[key].reshape(len(state[key]), -1).norm(dim=1, p=1 if kind == "l1" else 2)
    ratio = found["a"] / expected.double().numpy()
    assert np.allclose(ratio, ratio[0])
    louder = importance(spec, state | {key: state[key] * 7}, kind)  # type: ignore[arg-type]
    assert np.allclose(louder["a"], found["a"])


def test_sums_count_all_that_is_added() -> None:
    spec = crossed()
    scores = {name: np.arange(len(s), dtype=np.float64) for name, s in flat(spec).items()}
    d = next(g for g in groups(spec) if g.name == "d1")
    assert d.importance(scores).tolist() == [0, 2, 4, 6, 8]
