"""Each action alone, together, and every way to get one wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks import IMAGE, Block, Conv, Deconv, Separable, Sum, Upsample
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo import zoo_net
from mobileseg.slim.actions import Actions, Skip
from mobileseg.slim.decoder import split
from mobileseg.slim.prune.groups import groups
from mobileseg.slim.steps import EDGES, apply
from mobileseg.validate import parse
from tests.slim.ladder import STEPS, rung


def channels(spec: NetSpec, *names: str) -> list[int]:
    return [spec.shapes()[name][0] for name in names]


def change(base: NetSpec | str, **actions: object) -> NetSpec:
    spec = rung(base) if isinstance(base, str) else base
    return apply(spec, Actions(**actions), "step 'x'")  # type: ignore[arg-type]


def bilinear_net(classes: int = 3) -> NetSpec:
    """A residual network whose decoder is no row of deconvolutions."""
    blocks: tuple[Block, ...] = (
        Conv("a", (IMAGE,), 16, stride=2),
        Separable("b", ("a",), 16),
        Sum("ab", ("a", "b")),
        Separable("c", ("ab",), 24, stride=2),
        Upsample("c_up", ("c",), (20, 12)),
        Conv("d", ("c_up",), 16),
        Sum("ad", ("ab", "d")),
        Conv("head", ("ad",), "classes", kernel=1, norm=False, activation="none"),
        Upsample("out", ("head",), (40, 24)),
    )
    return NetSpec("bilinear", (40, 24), classes, blocks)


def test_no_actions_no_change() -> None:
    for name in STEPS:
        assert change(name) == rung(name)


@pytest.mark.parametrize("name", ["base160", *STEPS])
def test_decoders_come_apart_and_together(name: str) -> None:
    assert split(rung(name))[1] is not None


def test_widths() -> None:
    spec = change("v1", width={"conv5_*": 0.3, "conv5_2": 100, "conv1": 0.01, "conv4_1": 1.5})
    assert channels(spec, "conv5_1", "conv5_2", "conv1", "conv4_1") == [152, 100, 8, 384]
    assert channels(change("v1", width={"conv5_1": 0.3}, multiple_of=4), "conv5_1") == [152]
    assert channels(change("v1", width={"conv5_1": 0.3}, multiple_of=5), "conv5_1") == [155]


def test_a_factor_up_to_one_never_widens() -> None:
    assert channels(change("v1", width={"deconv3": 0.5}), "deconv3") == [8]
    narrow = change("v1", deconv=(32, 16, 4, "classes"))
    assert channels(change(narrow, width={"deconv*": 0.9}), "deconv1", "deconv3") == [32, 4]


def test_skips_follow_the_width_of_their_stage() -> None:
    spec = change("v2.1.5", width={"deconv1": 24})
    assert channels(spec, "deconv1", "skip1", "sum1") == [24, 24, 24]


def test_a_star_takes_every_block_that_has_channels() -> None:
    spec = change("v2.1.6", width={"*": 0.5})
    assert channels(spec, "conv1", "conv5_4", "deconv1", "skip1", "deconv4") == [16, 128, 16, 16, 3]


def test_short_decoders_end_in_a_resize() -> None:
    spec = change("v1", deconv=(32, 16))
    assert [b.name for b in spec.blocks][-3:] == ["deconv2", "classifier", "upsample"]
    assert spec["upsample"] == Upsample("upsample", ("classifier",), (80, 80))
    assert [b.name for b in change("v1", deconv=()).blocks][-2:] == ["classifier", "upsample"]
    assert change(spec, deconv=(32, 16, 8, "classes")) == rung("v1")
    assert change(change("v1", deconv=()), deconv=(32, 16, 8, "classes")) == rung("v1")


def test_a_resize_follows_the_image() -> None:
    short = change("v1", deconv=(32, "classes"))
    assert change(short, image_size=(112, 64))["upsample"] == Upsample(
        "upsample", ("deconv2",), (112, 64)
    )


def test_a_new_decoder_keeps_its_skips() -> None:
    spec = change("v2.1.6", deconv=(48, 24, 16, "classes"))
    assert channels(spec, "skip1", "join1", "skip3") == [48, 96, 16]
    assert change(spec, skip=Skip("add", ()), deconv=(32, 16, 8, "classes")) == rung("v2.1.3")


def test_removal_rewires() -> None:
    spec = change("v1", remove=("conv5_[234]",))
    assert spec["conv5_5"].inputs == ("conv5_1",)
    assert change("v1", remove=("conv5_5",))["deconv1"].inputs == ("conv5_4",)


def test_removing_a_stride_with_a_skip_lands_the_skips_anew() -> None:
    spec = change("v2.1.5", remove=("conv4_2",), deconv=(32, 16, "classes"), skip=Skip("add", ()))
    skipped = change(spec, skip=Skip("concat", ("conv2_2", "conv2_1")))
    assert [skipped[f"skip{i}"].inputs for i in (1, 2)] == [("conv2_2",), ("conv2_1",)]


def test_depthwise_layers_narrow() -> None:
    spec = change("v1", width={"conv5_*": 256}, depthwise={"conv5_[12]": 128, "conv5_1": 64})
    found = {b.name: b.depthwise for b in spec.blocks if isinstance(b, Separable)}
    assert [found[f"conv5_{i}"] for i in (1, 2, 3)] == [64, 128, None]
    assert channels(spec, "conv5_1", "conv5_2") == [256, 256]
    assert change("v2.1.3", depthwise={"conv*": 8})["conv4_2"].depthwise == 8  # type: ignore[attr-defined]


def test_widths_leave_depthwise_layers_as_they_are() -> None:
    spec = change("v2.1.3", width={"conv5_1": 0.5, "conv4_2": 256})
    assert [spec["conv5_1"].channels, spec["conv5_1"].depthwise] == [128, 256]  # type: ignore[attr-defined]
    anew = change("v2.1.3", width={"conv4_2": 128}, depthwise={"conv5_1": 64})
    assert anew["conv5_1"].hidden(128) == 64  # type: ignore[attr-defined]


def test_networks_of_other_kinds() -> None:
    net = bilinear_net()
    wide = change(net, image_size=(80, 60))
    assert wide["c_up"] == Upsample("c_up", ("c",), (40, 30))
    assert wide["out"] == Upsample("out", ("head",), (80, 60))
    assert channels(change(net, width={"*": 0.5}), "a", "b", "d", "c", "head") == [8, 8, 8, 16, 3]
    assert "c" not in [b.name for b in change(net, remove=("c",)).blocks]
    crelu = change(net, crelu=("c",))
    assert channels(crelu, "c") == [48]


MISTAKES: list[tuple[str, dict[str, object], str]] = [
    ("v1", {"remove": ("conv5-5",)}, "remove: no block is named 'conv5-5'; did you mean 'conv5_5'"),
    ("v1", {"remove": ("deconv2",)}, "remove: deconv2 is of the decoder; give its `deconv`"),
    ("v1", {"remove": ("c*",)}, "remove: no block is left"),
    ("v1", {"remove": ("conv4_2",)}, r'such as deconv = \[16, 8, "classes"\]'),
    ("base160", {"remove": ("conv5_6", "conv6")}, r'deconv = \[256, 128, 32, "classes"\]'),
    ("v2.1.5", {"remove": ("conv2_2",)}, r'sources = \["conv3_2", "conv2_1"\]'),
    ("v1", {"image_size": (90, 80)}, r"image_size the stride divides, such as \[96, 80\]"),
    ("v1", {"image_size": (9000, 16)}, "image_size"),
    ("v1", {"width": {"conv1": 0}}, r"width\.conv1: 0; with a point it is a factor up to 4"),
    ("v1", {"width": {"conv1": 256.0}}, r"width\.conv1: 256\.0; .* without one a number"),
    ("v1", {"width": {"conv1": float("nan")}}, r"width\.conv1: nan"),
    ("v1", {"width": {"conv7": 0.5}}, "width: no block is named 'conv7'; did you mean"),
    ("v1", {"width": {"deconv4": 8}}, "deconv4 gives the classes; their number is the data's"),
    ("v2.1.5", {"width": {"sum*": 8}}, "sum1 \\(sum\\) has no channels of its own"),
    ("v2.1.5", {"width": {"skip1": 8}}, "skip1 has the channels of its decoder stage; .* deconv1"),
    ("v1", {"width": {"deconv1": 8}, "deconv": (8, "classes")}, "from this step's `deconv`"),
    ("v1", {"width": {"conv5_*": 8, "conv*": 9}}, "both match conv5_1"),
    ("v1", {"deconv": ("classes", 8)}, '"classes" is the last entry'),
    ("v1", {"deconv": (8, 8, 8, 8, "classes")}, "160x160, larger than the image of 80x80"),
    ("v1", {"crelu": ("conv1",)}, "crelu: conv1 is a conv; separable blocks can: conv2_1"),
    ("v1", {"crelu": ("nope",)}, "crelu: no block is named 'nope'"),
    (
        "v1",
        {"depthwise": {"conv1": 8}},
        "depthwise: conv1 is a conv; separable blocks can: conv2_1",
    ),
    ("v1", {"depthwise": {"deconv1": 8}}, "depthwise: deconv1 is a deconv; separable blocks can"),
    ("v1", {"depthwise": {"nope": 8}}, "depthwise: no block is named 'nope'"),
    ("v1", {"depthwise": {"conv5*": 8, "c*": 9}}, "both match conv5_1; give each block one depth"),
    (
        "v1",
        {"depthwise": {"conv5_1": 300}},
        "depthwise: conv5_1: depthwise 300 .* such as 256, with",
    ),
    ("v1", {"depthwise": {"conv5_1": 1024}}, "does not divide the 512 .* such as 512"),
    ("v1", {"depthwise": {"conv5_1": 0}}, "depthwise 0 does not divide the 512 .* such as 1,"),
    (
        "v2.1.3",
        {"width": {"conv4_2": 0.75}},
        r"depthwise: conv5_1: depthwise 256 .* the 384 channels .*; take a divisor of 384, "
        "such as 192, with this step's `depthwise`",
    ),
    ("v2.1.5", {"width": {"*": 0.125}}, "depthwise: conv5_1: depthwise 256 .* the 64 channels"),
    ("v1", {"skip": Skip("add", ("conv2_3",))}, "no encoder block is named 'conv2_3'"),
    ("v1", {"skip": Skip("add", ("conv5_1",))}, "conv5_1 is 5x5 .* there are: deconv1 10x10"),
    ("v1", {"skip": Skip("add", ("conv3_2", "conv4_1"))}, "both are 10x10 and meet deconv1"),
    ("v1", {"skip": Skip("add", ("image",))}, "meets deconv4, which gives the classes"),
    ("v1", {"skip": Skip("add", ("conv3_2", "conv3_2"))}, "conv3_2 stands there twice"),
    ("v2.1.5", {"deconv": (32, "classes")}, "conv2_2 is 20x20 and meets deconv2, which gives"),
    ("v2.1.5", {"deconv": (32, 16)}, "conv2_1 is 40x40 and no decoder stage's output is"),
]


@pytest.mark.parametrize(("base", "actions", "message"), MISTAKES)
def test_mistakes(base: str, actions: dict[str, object], message: str) -> None:
    with pytest.raises(MobilesegError, match=message) as caught:
        change(base, **actions)
    assert str(caught.value).startswith("step 'x': ")


OTHER_MISTAKES: list[tuple[dict[str, object], str]] = [
    ({"deconv": (8, "classes")}, "bilinear has no decoder of plain deconvolutions"),
    ({"skip": Skip("add", ("a",))}, "bilinear has no decoder"),
    ({"remove": ("out",)}, "out is the network's output"),
    ({"remove": ("ab",)}, "ab reads a and b; only a block with one input"),
    ({"width": {"b": 8}}, "the step leaves blocks that do not fit: ab: adds two blocks"),
    ({"remove": ("c_up",)}, "ad: adds two blocks of one size"),
    ({"remove": ("d",)}, "ad: adds two blocks of one size"),
    ({"width": {"*_up": 8}}, "c_up \\(upsample\\) has no channels"),
]


@pytest.mark.parametrize(("actions", "message"), OTHER_MISTAKES)
def test_mistakes_in_networks_of_other_kinds(actions: dict[str, object], message: str) -> None:
    with pytest.raises(MobilesegError, match=message):
        change(bilinear_net(), **actions)


def test_actions_are_read_from_a_recipe() -> None:
    data = {
        "image_size": [80, 80],
        "width": {"conv5_*": 0.5, "conv1": 16, "conv6": 1.0},
        "depthwise": {"conv5_1": 256},
        "deconv": [32, "classes"],
        "skip": {"how": "concat", "sources": ["conv3_2"]},
    }
    actions = parse(Actions, data, "step")
    assert actions.deconv == (32, "classes")
    assert [type(value) for value in actions.width.values()] == [float, int, float]
    assert actions.skip == Skip("concat", ("conv3_2",))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"width": {"conv1": "8"}}, r"width\.conv1"),
        ({"depthwise": {"conv5_1": 0.5}}, r"depthwise\.conv5_1: 0\.5"),
        ({"depthwise": {"conv5_1": 0}}, r"depthwise\.conv5_1: 0"),
        ({"deconv": [0]}, r"deconv\[1\]: 0"),
        ({"deconv": ["class"]}, r"deconv\[1\]"),
        ({"skip": {"how": "mul", "sources": []}}, r"skip\.how"),
        ({"skip": {"how": "add", "from": []}}, r"skip\.from: there is no such key"),
        ({"widths": {}}, "did you mean 'width'"),
    ],
)
def test_recipe_mistakes(data: object, message: str) -> None:
    with pytest.raises(MobilesegError, match=message):
        parse(Actions, data, "step")


@pytest.mark.parametrize(
    ("name", "deeper"), [("mobilenet_deconv", "conv2_1"), ("unet_mobilenet_v2", "up4_wide")]
)
def test_edges_are_a_head_that_no_file_has(name: str, deeper: str) -> None:
    base = zoo_net(name, (64, 64), 3, "x")
    spec = apply(base, Actions(edges="conv1"), "step")
    assert spec.heads() == (EDGES,)
    assert (spec.params, spec.macs) == (base.params, base.macs)
    assert spec.shapes()[EDGES] == (1, 32, 32)
    # It goes where it is told, stays through other steps, and its one channel is no width.
    narrow = apply(apply(spec, Actions(edges=deeper), "step"), Actions(width={"*": 0.5}), "step")
    assert narrow.heads() == (EDGES,)
    assert narrow[EDGES].inputs == (deeper,)
    assert next(g for g in groups(spec) if EDGES in g.places).held
    assert apply(spec, Actions(remove=(EDGES,)), "step") == base
    with pytest.raises(MobilesegError, match=r"edges: no block before the output"):
        apply(base, Actions(edges="nothing"), "step")
    with pytest.raises(MobilesegError, match=r"width: edges says where classes meet"):
        apply(spec, Actions(width={EDGES: 4}), "step")


NAMES = [block.name for block in zoo_net("mobilenet_deconv", (32, 32), 3, "x").blocks] + ["conv*"]


@settings(deadline=None, max_examples=60)
@given(
    size=st.none() | st.tuples(st.integers(1, 100), st.integers(1, 100)),
    remove=st.lists(st.sampled_from(NAMES), max_size=2),
    width=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 64) | st.floats(0, 5), max_size=2),
    deconv=st.none() | st.lists(st.integers(1, 32) | st.just("classes"), max_size=6),
    depthwise=st.dictionaries(st.sampled_from(NAMES), st.integers(-1, 70), max_size=2),
    crelu=st.lists(st.sampled_from(NAMES), max_size=2),
    skip=st.none() | st.lists(st.sampled_from(NAMES), max_size=2),
    how=st.sampled_from(["add", "concat"]),
)
def test_any_step_gives_a_whole_network_or_our_error(  # type: ignore[no-untyped-def]
    size, remove, width, depthwise, deconv, crelu, skip, how
) -> None:
    actions = Actions(
        image_size=size,
        remove=tuple(remove),
        width=width,
        depthwise=depthwise,
        deconv=None if deconv is None else tuple(deconv),
        crelu=tuple(crelu),
        skip=None if skip is None else Skip(how, tuple(skip)),
    )
    base = zoo_net("mobilenet_deconv", (64, 64), 3, "x")
    try:
        spec = apply(base, actions, "step")
    except MobilesegError as error:
        assert str(error).startswith("step: ")
        return
    assert spec.shapes()[spec.blocks[-1].name] == (3, *spec.image_size)
    assert split(spec)[1] is not None
    assert isinstance(spec.blocks[-1], Conv | Deconv | Upsample)
