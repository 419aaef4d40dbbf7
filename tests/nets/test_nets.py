"""Specs as plain data, and the modules that they describe."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mobileseg.errors import MobilesegError
from mobileseg.graph.trace import trace
from mobileseg.nets.blocks import (
    BLOCKS,
    IMAGE,
    Activate,
    Bins,
    Block,
    Conv,
    Deconv,
    Depthwise,
    Gate,
    Join,
    Pool,
    Product,
    Separable,
    Sum,
    Unpool,
    Upsample,
    same_pads,
)
from mobileseg.nets.module import BUILDERS, build
from mobileseg.nets.spec import NetSpec, read_spec
from mobileseg.nets.zoo import zoo_net

ALL_KINDS: tuple[Block, ...] = (
    Conv("a", (IMAGE,), 6, stride=2),
    Conv("b", ("a",), 10, kernel=5, stride=3, dilation=1, norm=False, activation="relu6"),
    Separable("c", ("a",), 5, kernel=3, stride=3, crelu=True),
    Sum("bc", ("b", "c")),
    Conv("d", ("bc",), 7, dilation=2),
    Join("cd", ("c", "d")),
    Separable("e", ("cd",), 4, kernel=5, dilation=2, activation="none"),
    Separable("g", ("e",), 11, kernel=3, stride=1, depthwise=2),
    Deconv("f", ("g",), 9, kernel=5, stride=3),
    Upsample("up", ("f",), (17, 13)),
    Depthwise("h", ("up",), kernel=5, stride=2, activation="hard_swish"),
    Gate("i", ("h",), 6),
    Pool("j", ("i",), "max", kernel=3, stride=2),
    Pool("k", ("i",), "mean", kernel=3, stride=2),
    Sum("jk", ("j", "k", "j"), activation="relu"),
    Bins("l", ("jk",), 1),
    Conv("m", ("l",), 9, kernel=1, norm=False, activation="sigmoid"),
    Product("jkm", ("jk", "m")),
    Activate("n", ("jkm",), "hard_sigmoid"),
    Upsample("halved", ("n",), factor=0.5),
    Upsample("wide", ("halved", "up")),
    Bins("o", ("wide",), 3),
    Upsample("o_wide", ("o", "up")),
    Product("op", ("wide", "o_wide")),
    Conv("q", ("op",), 9, activation="none"),
    Upsample("even", ("q",), factor=2),
    Pool("evens", ("even",)),
    Unpool("back", ("op", "even", "evens")),
    Deconv("out", ("back",), "classes", kernel=2, norm=False, activation="none"),
)


def net_of(size: tuple[int, int] = (83, 61), blocks: tuple[Block, ...] = ALL_KINDS) -> NetSpec:
    return NetSpec("all", size, 3, blocks)


def outputs(spec: NetSpec) -> dict[str, tuple[int, ...]]:
    """The size of what every block's module really gives."""
    net = build(spec)
    seen: dict[str, tuple[int, ...]] = {}

    def watch(name: str) -> None:
        def see(_: nn.Module, __: object, out: Tensor) -> None:
            seen[name] = tuple(out.shape[1:])

        net.get_submodule(name).register_forward_hook(see)

    for block in spec.blocks:
        watch(block.name)
    with torch.no_grad():
        net(torch.zeros(1, 3, *spec.image_size))
    return seen


def test_the_example_has_every_kind() -> None:
    assert {type(block) for block in ALL_KINDS} == set(BLOCKS.values()) == set(BUILDERS)


@pytest.mark.parametrize("size", [(83, 61), (64, 96), (1, 1), (7, 130)])
def test_specs_modules_and_graphs_agree(size: tuple[int, int]) -> None:
    spec = net_of(size)
    sizes = spec.shapes()
    assert outputs(spec) == {block.name: sizes[block.name] for block in spec.blocks}
    net = build(spec, device="meta")
    assert sum(p.numel() for p in net.parameters()) == spec.params
    graph = trace(net, size)
    assert graph.total_macs == spec.macs
    assert graph[graph.outputs[0]].shape == (1, *sizes["out"])


def test_parameters_have_the_axes_that_blocks_tell() -> None:
    spec = net_of()
    sizes = spec.shapes()
    state = build(spec).state_dict()
    told = set()
    for block in spec.concrete():
        counts = {
            "out": sizes[block.name][0],
            "in": sum(sizes[name][0] for name in block.inputs),
            "filters": getattr(block, "channels", 0),
            "hidden": getattr(block, "depthwise", getattr(block, "channels", None)),
        }
        for name, axes in block.axes().items():
            told.add(f"{block.name}.{name}")
            shape = state[f"{block.name}.{name}"].shape
            assert len(shape) == len(axes)
            assert all(r is None or counts[r] == n for r, n in zip(axes, shape, strict=True))
    assert told == {name for name, tensor in state.items() if tensor.ndim}


def test_fresh_nets_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = build(net_of(), seed=1).state_dict()
    torch.manual_seed(6)
    second = build(net_of(), seed=1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = build(net_of(), seed=2).state_dict()
    assert not torch.equal(first["a.conv.weight"], other["a.conv.weight"])


def test_crelu_is_x_and_minus_x() -> None:
    spec = net_of(blocks=(Separable("c", (IMAGE,), 4, crelu=True, activation="none"),))
    net = build(spec)
    with torch.no_grad():
        out = net(torch.rand(1, 3, 83, 61))
    torch.testing.assert_close(out[:, 4:], -out[:, :4])


def test_a_depthwise_filter_reads_its_neighbours() -> None:
    blocks = (_conv(), Separable("s", ("a",), 5, activation="none", depthwise=2))
    net = build(net_of((6, 4), blocks))
    x = torch.rand(1, 3, 6, 4)
    weight = net.get_parameter("s.dw.weight")
    assert tuple(weight.shape) == (2, 2, 3, 3)
    seen: list[Tensor] = []
    net.get_submodule("s.dw").register_forward_hook(lambda *call: seen.extend([*call[1], call[2]]))
    net(x)
    into, out = seen
    halves = [F.conv2d(into[:, 2 * i : 2 * i + 2], weight[i : i + 1], padding=1) for i in (0, 1)]
    torch.testing.assert_close(out, torch.cat(halves, dim=1))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "pads"),
    [
        (160, 3, 2, 1, (0, 1)),
        (161, 3, 2, 1, (1, 1)),
        (5, 3, 1, 1, (1, 1)),
        (5, 1, 2, 1, (0, 0)),
        (9, 5, 3, 1, (1, 1)),
        (6, 3, 1, 4, (4, 4)),
    ],
)
def test_same_padding(
    size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]
) -> None:
    assert same_pads(size, kernel, stride, dilation) == pads


def test_strided_convolutions_pad_after() -> None:
    spec = net_of((6, 4), (Conv("a", (IMAGE,), 2, stride=2, norm=False, activation="none"),))
    net = build(spec)
    x = torch.rand(1, 3, 6, 4)
    weight = net.get_parameter("a.conv.weight")
    torch.testing.assert_close(net(x), F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, stride=2))


def test_specs_are_plain_data() -> None:
    spec = net_of()
    assert read_spec(json.loads(json.dumps(spec.as_dict())), "net.json") == spec
    zoo = zoo_net("mobilenet_deconv", (83, 61), 2, "x")
    assert read_spec(json.loads(json.dumps(zoo.as_dict())), "net.json") == zoo


def test_lookups() -> None:
    spec = net_of()
    assert spec["c"].kind == "separable"
    assert [block.name for block in spec.consumers("c")] == ["bc", "cd"]
    with pytest.raises(MobilesegError, match=r"no block is named 'outt'; did you mean 'out'"):
        spec["outt"]


@pytest.mark.parametrize("name", ["half", "forward", "spec"])
def test_names_that_torch_keeps(name: str) -> None:
    with pytest.raises(MobilesegError, match=rf"all: block name '{name}'; a torch module has"):
        build(net_of(blocks=(_conv(name),)))


def test_unpooling_puts_values_where_the_maximum_was() -> None:
    spec = net_of(
        (4, 6),
        (
            Conv("x", (IMAGE,), 3, kernel=1, norm=False, activation="none"),
            Pool("p", ("x",)),
            Unpool("u", ("p", "x", "p")),
        ),
    )
    net, image = build(spec), torch.rand(2, 3, 4, 6)
    with torch.no_grad():
        x = 100 * net.get_submodule("x")(image)
        pooled, where = F.max_pool2d(x, 2, return_indices=True)
        out = net.get_submodule("u")(pooled, x, pooled)
    torch.testing.assert_close(out, F.max_unpool2d(pooled, where, 2))


def test_heads_are_not_deployed() -> None:
    head = Conv("aux", ("a",), "classes", kernel=1, norm=False, activation="none")
    plain = net_of(blocks=(_conv(), _conv("b", "a")))
    spec = net_of(blocks=(_conv(), head, _conv("b", "a")))
    assert spec.heads() == ("aux",)
    assert (spec.params, spec.macs) == (plain.params, plain.macs)
    assert trace(build(spec), spec.image_size).total_macs == plain.macs


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(
        MobilesegError, match=r"recipe: net: no network is named 'mobilenet_deconf'"
    ):
        zoo_net("mobilenet_deconf", (64, 64), 2, "recipe: net")


def _conv(name: str = "a", source: str = IMAGE) -> Conv:
    return Conv(name, (source,), 4)


BAD_SPECS: list[tuple[tuple[Block, ...], str]] = [
    ((), "at least one block"),
    ((_conv("1a"),), "block name '1a'; letters, digits and _"),
    ((_conv("a.b"),), "block name"),
    ((_conv(IMAGE),), "block name 'image'"),
    ((_conv(), _conv()), "two blocks are named 'a'"),
    ((_conv("a", "b"), _conv("b")), "no block before it is named 'b'"),
    ((_conv("a", "a"),), "no block before it is named 'a'"),
    ((Conv("a", (IMAGE, IMAGE), 4),), "a: reads one block, not 2"),
    ((_conv(), Sum("s", ("a", IMAGE))), "s: adds two blocks of one size"),
    ((_conv(), Sum("s", ("a",))), "s: adds two blocks"),
    ((Conv("a", (IMAGE,), 4, stride=2), Join("j", ("a", IMAGE))), "j: joins two or more"),
    (
        (_conv(), Separable("s", ("a",), 5, depthwise=3)),
        "s: depthwise 3 does not divide the 4 channels .* a divisor of 4, such as 2",
    ),
    ((_conv(), Separable("s", ("a",), 5, depthwise=8)), "s: depthwise 8 .* such as 4"),
    ((_conv(), Separable("s", ("a",), 5, depthwise=0)), "s: depthwise 0 .* such as 1"),
    ((Deconv("d", (IMAGE,), 4, kernel=3),), "d: kernel 3 with stride 2; their difference"),
    ((Deconv("d", (IMAGE,), 4, kernel=1, stride=3),), "d: kernel 1 with stride 3"),
]


@pytest.mark.parametrize(("blocks", "message"), BAD_SPECS)
def test_blocks_that_do_not_fit(blocks: tuple[Block, ...], message: str) -> None:
    with pytest.raises(MobilesegError, match=message):
        net_of(blocks=blocks)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (9000, 5)])
def test_image_sizes_have_limits(size: tuple[int, int]) -> None:
    with pytest.raises(MobilesegError, match="each side is 1 to 8192"):
        replace(net_of(), image_size=size)


BAD_DATA: list[tuple[object, str]] = [
    (None, "net.json: no network"),
    ({"blocks": {}}, "net.json: no network"),
    ({"blocks": [3]}, r"blocks\[1\]: a block is a table with a kind"),
    ({"blocks": [{"kind": "cnv"}]}, "no kind of block is named 'cnv'; did you mean 'conv'"),
    (
        {"blocks": [{"kind": "conv", "name": "a", "inputs": [IMAGE]}]},
        "channels: this key is needed",
    ),
    ({"blocks": []}, "image_size: this key is needed"),
    ({"blocks": [], "name": "n", "image_size": [8, 8], "classes": 1}, "classes: 1"),
]


@pytest.mark.parametrize(("data", "message"), BAD_DATA)
def test_data_that_is_no_network(data: object, message: str) -> None:
    with pytest.raises(MobilesegError, match=message):
        read_spec(data, "net.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None, max_examples=80)
@given(
    place=st.integers(0, 12),
    key=st.sampled_from(["kind", "name", "inputs", "channels", "kernel", "stride", "size", "new"]),
    value=JSON
    | st.integers(-1, 9)
    | st.sampled_from(["conv", "a", IMAGE, ["a"], ["a", "c"], [2, 3]]),
)
def test_a_damaged_file_is_a_whole_network_or_our_error(
    place: int, key: str, value: object
) -> None:
    data = net_of((33, 18)).as_dict()
    if place < len(data["blocks"]):
        data["blocks"][place][key] = value
    else:
        data[{"kind": "blocks", "name": "name", "size": "image_size"}.get(key, "classes")] = value
    try:
        spec = read_spec(data, "net.json")
    except MobilesegError:
        return
    assert set(spec.shapes()) == {IMAGE, *(block.name for block in spec.blocks)}


@settings(deadline=None, max_examples=20)
@given(
    h=st.integers(1, 40),
    w=st.integers(1, 40),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    crelu=st.booleans(),
    depthwise=st.sampled_from([None, 1, 2, 3, 6]),
)
def test_any_convolution_has_the_size_its_block_tells(
    h: int, w: int, kernel: int, stride: int, dilation: int, crelu: bool, depthwise: int | None
) -> None:
    blocks = (
        Conv("a", (IMAGE,), 6, kernel, stride, dilation),
        Separable("b", ("a",), 3, kernel, stride, dilation, crelu, depthwise=depthwise),
        Deconv("c", ("b",), 2, stride + 2 * (kernel - 1), stride),
    )
    spec = net_of((h, w), blocks)
    assert outputs(spec) == {name: spec.shapes()[name] for name in "abc"}
    assert trace(build(spec, device="meta"), (h, w)).total_macs == spec.macs
