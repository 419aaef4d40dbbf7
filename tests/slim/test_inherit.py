"""What a child inherits computes what it computed in the parent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks import IMAGE, Block, Conv, Deconv, Join, Separable, Sum, Upsample
from mobileseg.nets.module import build
from mobileseg.nets.spec import NetSpec
from mobileseg.slim.actions import Actions, Skip
from mobileseg.slim.channels import NONE, channel_maps
from mobileseg.slim.inherit import inherit
from mobileseg.slim.steps import apply
from tests.slim.ladder import rung


def crossed(a: int = 10, b: int = 6, d: int = 5, crelu: bool = True) -> NetSpec:
    """A net in which sums tie channels through a join and through CReLU, and joins repeat them."""
    blocks: tuple[Block, ...] = (
        Conv("a", (IMAGE,), a, stride=2),
        Conv("b", ("a",), b, kernel=1),
        Join("ab", ("a", "b")),
        Conv("c", ("ab",), a + b),
        Sum("abc", ("ab", "c")),
        Separable("d1", ("abc",), d, crelu=crelu),
        Separable("d2", ("d1",), d, crelu=crelu),
        Sum("dd", ("d1", "d2")),
        Join("many", ("abc", "a", "dd")),
        Conv("e", ("many",), 7, stride=2),
        Upsample("up", ("e",), (8, 6)),
        Join("last", ("up", "abc")),
        Deconv("out", ("last",), "classes", norm=False, activation="none"),
    )
    return NetSpec("crossed", (16, 12), 3, blocks)


def trained(spec: NetSpec, seed: int = 0) -> dict[str, Tensor]:
    """A state whose batch norms have something to say."""
    generator = torch.Generator().manual_seed(seed)
    state = build(spec, seed).state_dict()
    for name, tensor in state.items():
        if tensor.ndim == 1:
            noise = torch.rand(tensor.shape, generator=generator)
            state[name] = noise + 0.5 if "var" in name or "weight" in name else noise - 0.5
    return state


def run(spec: NetSpec, state: dict[str, Tensor]) -> Tensor:
    net = build(spec)
    net.load_state_dict(state)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        out: Tensor = net(torch.rand(2, 3, *spec.image_size, generator=generator) - 0.5)
    return out


def silenced(parent: NetSpec, state: dict[str, Tensor], child: NetSpec) -> dict[str, Tensor]:
    """The parent's state with every filter that the child dropped giving zeros."""
    state = {name: tensor.clone() for name, tensor in state.items()}
    for name, maps in channel_maps(parent, state, child).items():
        for norm, kept in (("norm", maps.out), ("dw_norm", maps.hidden)):
            for part in ("weight", "bias"):
                tensor = state.get(f"{name}.{norm}.{part}")
                if tensor is not None:
                    dropped = torch.ones_like(tensor, dtype=torch.bool)
                    dropped[torch.from_numpy(kept)] = False
                    tensor[dropped] = 0
    return state


def small(name: str) -> NetSpec:
    """A rung at an eighth of its width, for speed."""
    spec = rung(name)
    narrow = {b.name: b.depthwise // 8 for b in spec.blocks if narrowed(b)}  # type: ignore[attr-defined]
    width = {"*": 0.125}
    actions = Actions(width=width, multiple_of=4, depthwise=narrow, image_size=(32, 64))
    return apply(spec, actions, "small")


def narrowed(block: Block) -> bool:
    return getattr(block, "depthwise", None) is not None


NETS = {name: small(name) for name in ("v1", "v2.1.3", "v2.1.4", "v2.1.5", "v2.1.6")}
NETS["v2.1.6+"] = apply(NETS["v2.1.6"], Actions(crelu=("conv2_2", "conv3_*", "conv5_*")), "x")
NETS["v2.1.6++"] = apply(NETS["v2.1.6"], Actions(crelu=("conv4_2",), depthwise={"conv5_2": 8}), "x")
NETS["crossed"] = crossed()


@pytest.mark.parametrize("name", NETS)
def test_the_same_network_inherits_everything(name: str) -> None:
    spec = NETS[name]
    state = trained(spec)
    result = inherit(spec, state, spec, build(spec, 1).state_dict())
    assert (result.share, result.fresh) == (1, ())
    assert all(torch.equal(result.state[key], state[key]) for key in state)


@settings(deadline=None, max_examples=15)
@given(
    name=st.sampled_from(sorted(NETS.keys() - {"crossed"})),
    encoder=st.floats(0.2, 1),
    last=st.floats(0.2, 1),
    decoder=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_a_narrower_net_is_the_wide_net_with_silent_filters(
    name: str, encoder: float, last: float, decoder: tuple[int, int]
) -> None:
    parent = NETS[name]
    width = {"conv[1-4]*": encoder, "conv5_*": last, "deconv1": decoder[0], "deconv2": decoder[1]}
    # What a narrowed depthwise layer reads stays, and with it what each of its filters reads.
    width |= {source: 1.0 for b in parent.blocks if narrowed(b) for source in b.inputs}
    child = apply(parent, Actions(width=width, multiple_of=1), "x")
    state = trained(parent)
    result = inherit(parent, state, child, build(child, 1).state_dict())
    assert (result.share, result.fresh) == (1, ())
    wide = run(parent, silenced(parent, state, child))
    torch.testing.assert_close(run(child, result.state), wide, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=15)
@given(
    a=st.integers(1, 10),
    b=st.integers(1, 6),
    d=st.integers(1, 5),
    crelu=st.booleans(),
    seed=st.integers(0, 99),
)
def test_ties_through_joins_hold(a: int, b: int, d: int, crelu: bool, seed: int) -> None:
    parent, child = crossed(crelu=crelu), crossed(a, b, d, crelu)
    state = trained(parent, seed)
    result = inherit(parent, state, child, build(child, 1).state_dict())
    assert result.share == 1
    wide = run(parent, silenced(parent, state, child))
    torch.testing.assert_close(run(child, result.state), wide, atol=1e-5, rtol=1e-5)


def two_convs(channels: int, **second: object) -> NetSpec:
    blocks = (
        Conv("a", (IMAGE,), channels, kernel=1),
        replace(Conv("b", ("a",), 4, kernel=3), **second),  # type: ignore[arg-type]
        Conv("c", ("b",), "classes", kernel=1, norm=False, activation="none"),
    )
    return NetSpec("two", (6, 5), 2, blocks)


def test_filters_of_largest_norm_stay_in_their_order() -> None:
    wide, narrow = two_convs(5), two_convs(3)
    state = trained(wide)
    for filter_, size in enumerate([0.3, -0.9, 0.1, 0.5, -0.2]):
        state["a.conv.weight"][filter_] = size
    result = inherit(wide, state, narrow, build(narrow).state_dict())
    torch.testing.assert_close(result.state["a.conv.weight"], state["a.conv.weight"][[0, 1, 3]])
    torch.testing.assert_close(result.state["b.conv.weight"], state["b.conv.weight"][:, [0, 1, 3]])
    torch.testing.assert_close(
        result.state["a.norm.running_mean"], state["a.norm.running_mean"][[0, 1, 3]]
    )


def test_wider_blocks_keep_all_and_start_the_rest() -> None:
    narrow, wide = two_convs(3), two_convs(5)
    state, new = trained(narrow), build(wide, 7).state_dict()
    result = inherit(narrow, state, wide, new)
    torch.testing.assert_close(result.state["a.conv.weight"][:3], state["a.conv.weight"])
    torch.testing.assert_close(result.state["a.conv.weight"][3:], new["a.conv.weight"][3:])
    assert result.share == pytest.approx(narrow.params / wide.params)


def test_another_kernel_is_fresh_and_its_readers_are_not() -> None:
    parent, child = two_convs(5), two_convs(5, kernel=5)
    new = build(child, 7).state_dict()
    result = inherit(parent, trained(parent), child, new)
    assert result.fresh == ("b",)
    assert torch.equal(result.state["b.norm.running_var"], new["b.norm.running_var"])
    assert result.share == pytest.approx(1 - (5 * 4 * 25 + 8) / child.params)


def test_classes_are_not_ranked() -> None:
    parent = two_convs(5)
    child = replace(parent, classes=3)
    result = inherit(parent, trained(parent), child, build(child, 7).state_dict())
    assert result.fresh == ("c",)


def test_a_removed_block_is_bridged_by_position() -> None:
    parent = NETS["v1"]
    state = trained(parent)
    child = apply(parent, Actions(remove=("conv5_5",), width={"conv5_4": 0.5}), "x")
    result = inherit(parent, state, child, build(child, 1).state_dict())
    kept = channel_maps(parent, state, child)
    assert result.share == 1
    assert (kept["deconv1"].into == kept["conv5_4"].out).all()
    assert len(kept["deconv1"].into) == 32


def test_what_a_ladder_inherits() -> None:
    base, v0 = small("base160"), small("v0")
    first = inherit(base, trained(base), v0, build(v0, 1).state_dict())
    # deconv1 reads another block with another number of channels; the classifier is new
    assert first.fresh == ("deconv1", "classifier")
    v1 = NETS["v1"]
    second = inherit(v0, first.state, v1, build(v1, 2).state_dict())
    assert second.fresh == ("deconv4",)


@pytest.mark.parametrize("how", ["add", "concat"])
def test_a_new_skip_leaves_the_old_path_inherited(how: str) -> None:
    parent = small("v2.1.3")
    skip = Skip(how, ("conv3_2", "conv2_2"))  # type: ignore[arg-type]
    child = apply(parent, Actions(skip=skip), "x")
    state = trained(parent)
    result = inherit(parent, state, child, build(child, 1).state_dict())
    assert result.fresh == ("skip1", "skip2")
    maps = channel_maps(parent, state, child)["deconv2"].into
    assert (maps[: parent["deconv1"].channels] != NONE).all()  # type: ignore[attr-defined]
    back = inherit(child, result.state, parent, build(parent, 3).state_dict())
    assert all(torch.equal(back.state[key], state[key]) for key in state)


def test_crelu_doubles_what_it_has() -> None:
    parent = small("v2.1.3")
    child = apply(parent, Actions(crelu=("conv5_4",)), "x")
    state = trained(parent)
    result = inherit(parent, state, child, build(child, 1).state_dict())
    maps = channel_maps(parent, state, child)
    count = parent["conv5_4"].channels  # type: ignore[attr-defined]
    assert maps["conv5_4"].out.tolist() == [*range(count), *[NONE] * count]
    assert maps["deconv1"].into.tolist() == [*range(count), *[NONE] * count]
    assert torch.equal(result.state["conv5_4.pw.weight"], state["conv5_4.pw.weight"])


def grouped(
    depthwise: int | None, into: int = 8, channels: int = 5, crelu: bool = False
) -> NetSpec:
    blocks = (
        Conv("a", (IMAGE,), into, kernel=1),
        Separable("b", ("a",), channels, crelu=crelu, depthwise=depthwise),
        Conv("c", ("b",), "classes", kernel=1, norm=False, activation="none"),
    )
    return NetSpec("grouped", (6, 5), 2, blocks)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (grouped(None), grouped(4)),
        (grouped(4), grouped(None)),
        (grouped(4), grouped(2)),
        (grouped(4), grouped(None, into=4)),
        (grouped(4), grouped(4, into=4)),
        (grouped(4, into=4), grouped(4)),
    ],
)
def test_other_groups_of_channels_are_fresh(before: NetSpec, after: NetSpec) -> None:
    new = build(after, 7).state_dict()
    result = inherit(before, trained(before), after, new)
    assert result.fresh == ("b",)
    assert all(torch.equal(result.state[key], new[key]) for key in new if key.startswith("b."))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (grouped(None), grouped(8)),
        (grouped(8), grouped(None)),
        (grouped(4), grouped(4, channels=3)),
        (grouped(4, crelu=True), grouped(4, channels=3, crelu=True)),
        (grouped(8), grouped(6, into=6)),
    ],
)
def test_the_same_groups_of_channels_are_inherited(before: NetSpec, after: NetSpec) -> None:
    state = trained(before)
    result = inherit(before, state, after, build(after, 7).state_dict())
    assert (result.share, result.fresh) == (1, ())
    wide = run(before, silenced(before, state, after))
    torch.testing.assert_close(run(after, result.state), wide, atol=1e-5, rtol=1e-5)


def test_a_group_that_lost_a_channel_is_fresh_and_whole_ones_are_not() -> None:
    before, after = grouped(4), grouped(3, into=6)
    state = trained(before)
    for filter_ in range(8):  # 3 and 7 go: of the pairs 01 23 45 67 the first and third stay whole
        state["a.conv.weight"][filter_] = 0.1 if filter_ in (3, 7) else 1
    maps = channel_maps(before, state, after)["b"]
    assert maps.into.tolist() == [0, 1, 2, 4, 5, 6]
    assert maps.hidden.tolist() == [0, NONE, NONE]
    result = inherit(before, state, after, build(after, 7).state_dict())
    assert torch.equal(result.state["b.dw.weight"][0], state["b.dw.weight"][0])
    assert torch.equal(result.state["b.pw.weight"][:, 0], state["b.pw.weight"][:, 0])


def test_the_ladder_inherits_its_narrowed_block() -> None:
    v1, parent, child = small("v1"), small("v2.1.3"), small("v2.1.5")
    first = inherit(v1, trained(v1), parent, build(parent, 1).state_dict())
    assert first.fresh == ("conv5_1",)
    second = inherit(parent, first.state, child, build(child, 2).state_dict())
    assert second.fresh == ("skip1", "skip2", "skip3")


def test_weights_of_another_network_are_refused() -> None:
    spec = two_convs(5)
    state = trained(spec)
    del state["b.conv.weight"]
    with pytest.raises(MobilesegError, match=r"the parent's weights lack b\.conv\.weight"):
        inherit(spec, state, spec, build(spec).state_dict())


def test_a_large_network_inherits_in_a_moment() -> None:
    parent, child = rung("base160"), rung("v2.1.6")
    result = inherit(parent, build(parent).state_dict(), child, build(child, 1).state_dict())
    assert 0.5 < result.share < 1
