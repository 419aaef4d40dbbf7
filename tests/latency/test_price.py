"""Prices by hand, for every operator, and what must hold for any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import DType, Graph, Node, Tensor, assemble
from mobileseg.latency.kernels import PRICES, features, kernel_of
from mobileseg.latency.price import price
from mobileseg.latency.profile import KERNELS, TRANSFER_FACTOR, DeviceProfile
from tests.latency.small import DEVICE, KERNEL, TABLE, graph_of

CONV = graph_of(ops.Conv2d(pad=(1, 1, 1, 1)), ((1, 5, 6, 7),), ((9, 5, 3, 3), (9,)))


def by_hand(
    filled: float, reduction: int, pixels: int, nbytes: int, bandwidth: float, weights: int = 0
) -> float:
    """Milliseconds on the small device of an operator that is the whole graph."""
    whole = -(-pixels // 4) * 4
    arithmetic = filled / 2e6 * (1 + 3 / reduction) * (1 + 5 / whole)
    every = nbytes + weights
    outside = every / (every + 1024)
    memory = every / 1e6 * ((1 - outside) / bandwidth + outside / 4)
    cold = weights / 1e6 * every**2 / (every**2 + 2048**2) * (1 / 4 - 1 / bandwidth)
    first = arithmetic * 4 / whole
    waiting = (np.hypot(first, cold) - first) * (1 - 4 / whole)
    return float(np.hypot(arithmetic, memory) + waiting) + 0.007


def test_a_convolution_costs_what_a_hand_computation_says() -> None:
    row = price(CONV, DEVICE).rows[0]
    # 9 output channels fill two steps of 8; 42 positions fill eleven of 4.
    filled = (16 * 5 * 9) * 44
    nbytes, weights = 4 * (5 * 42 + 9 * 42), 4 * (9 * 45 + 9)
    assert row.ms == pytest.approx(by_hand(filled, 5, 42, nbytes, 10.0, weights))
    assert (row.kernel, row.macs, row.params, row.bytes_moved) == (
        "dense",
        9 * 45 * 42,
        414,
        nbytes + weights,
    )
    assert (row.low_ms, row.high_ms) == pytest.approx((row.ms / 1.5, row.ms * 1.5))
    assert row.input_shapes == ((1, 5, 6, 7),)
    assert row.output_shape == (1, 9, 6, 7)


def test_an_int8_operator_is_priced_by_the_int8_table() -> None:
    row = price(graph_of(ops.Add(), ((1, 5, 6, 7), (1, 5, 6, 7)), dtype="int8"), DEVICE).rows[0]
    # 5 channels fill one step of 8; 210 elements fill 53 steps of 4.
    assert row.ms == pytest.approx(by_hand(212 * 8 / 5, 1, 210, 630, 20.0))


# operator, inputs, constants, kernel, work, reduction, output positions.
CASES = [
    (ops.Conv2d(), [(1, 5, 6, 7)], [(9, 5, 1, 1)], "pointwise", 9 * 5 * 42, 5, 42),
    (ops.Conv2d(), [(1, 5, 6, 7)], [(9, 5, 3, 2)], "dense", 9 * 30 * 24, 5, 24),
    (ops.Conv2d(dilation=(2, 3)), [(1, 5, 6, 7)], [(9, 5, 3, 2)], "dilated", 9 * 30 * 8, 5, 8),
    (ops.Conv2d(dilation=(2, 2)), [(1, 5, 6, 7)], [(9, 5, 1, 1)], "pointwise", 9 * 5 * 42, 5, 42),
    (ops.Conv2d(groups=2), [(1, 4, 6, 7)], [(10, 2, 3, 2)], "grouped", 10 * 12 * 24, 2, 24),
    (ops.Conv2d(groups=5), [(1, 5, 6, 7)], [(5, 1, 3, 2)], "depthwise", 5 * 6 * 24, 6, 24),
    (
        ops.Conv2d(dilation=(2, 3), groups=5),
        [(1, 5, 6, 7)],
        [(5, 1, 3, 2)],
        "depthwise_dilated",
        5 * 6 * 8,
        6,
        8,
    ),
    (
        ops.ConvTranspose2d(pad=(1, 1, 1, 1)),
        [(1, 5, 6, 7)],
        [(5, 3, 4, 4)],
        "transposed",
        42 * 5 * 3 * 16,
        5 * 4,
        12 * 14,
    ),
    (ops.Activation("relu6"), [(1, 5, 6, 7)], [], "relu", 210, 1, 210),
    (ops.Activation("hard_swish"), [(1, 5, 6, 7)], [], "hard_swish", 210, 1, 210),
    (ops.LeakyRelu(), [(1, 5, 6, 7)], [], "relu", 210, 1, 210),
    (ops.PRelu(), [(1, 5, 6, 7)], [(1, 5, 1, 1)], "relu", 210, 1, 210),
    (ops.Neg(), [(1, 5, 6, 7)], [], "neg", 210, 1, 210),
    (ops.Add(), [(1, 5, 6, 7), (1, 5, 1, 1)], [], "add", 210, 1, 210),
    (ops.Mul(), [(1, 5, 6, 7), (1, 5, 1, 1)], [], "mul", 210, 1, 210),
    (ops.Concat(), [(1, 5, 6, 7), (1, 3, 6, 7)], [], "concat", 8 * 42, 8, 42),
    (ops.Pad((1, 2, 3, 4)), [(1, 5, 6, 7)], [], "pad", 5 * 10 * 13, 5, 130),
    (ops.Crop((1, 2), (3, 4)), [(1, 5, 6, 7)], [], "crop", 5 * 12, 5, 12),
    (ops.DepthToSpace(2), [(1, 12, 6, 7)], [], "depth_to_space", 3 * 168, 3, 168),
    (ops.Pool("max", (3, 2), (1, 1)), [(1, 5, 6, 7)], [], "max_pool", 5 * 24 * 6, 6, 24),
    (ops.Pool("mean", (3, 2), (1, 1)), [(1, 5, 6, 7)], [], "mean_pool", 5 * 24 * 6, 6, 24),
    (ops.GlobalMean(), [(1, 5, 6, 7)], [], "global_mean", 210, 42, 42),
    (ops.Resize((11, 13)), [(1, 5, 6, 7)], [], "resize_bilinear", 5 * 143, 5, 143),
    (ops.Resize((11, 13), "nearest"), [(1, 5, 6, 7)], [], "resize_nearest", 5 * 143, 5, 143),
    (ops.Softmax(), [(1, 5, 6, 7)], [], "softmax", 210, 5, 42),
    (ops.ArgMax(), [(1, 5, 6, 7)], [], "argmax", 210, 5, 42),
    (ops.Quantize(), [(1, 5, 6, 7)], [], "quantize", 210, 1, 210),
    (ops.Dequantize(), [(1, 5, 6, 7)], [], "dequantize", 210, 1, 210),
]


@pytest.mark.parametrize(
    ("op", "inputs", "constants", "kernel", "work", "reduction", "pixels"),
    CASES,
    ids=[case[3] + str(i) for i, case in enumerate(CASES)],
)
def test_features(op, inputs, constants, kernel, work, reduction, pixels) -> None:  # type: ignore[no-untyped-def]
    graph = graph_of(op, tuple(inputs), tuple(constants))
    found = features(graph, graph.nodes[0], 7.0)
    assert (found.kernel, found.work, found.reduction, found.pixels) == (
        kernel,
        work,
        reduction,
        pixels,
    )
    assert kernel in KERNELS


def test_every_price_is_tried() -> None:
    assert {type(case[0]) for case in CASES} == set(PRICES)


def test_a_training_operator_is_an_error_that_names_it() -> None:
    graph = graph_of(ops.BatchNorm(), ((1, 5, 6, 7),), ((5,),) * 4)
    with pytest.raises(MobilesegError, match=r"layer: BatchNorm belongs to training"):
        price(graph, DEVICE)


def test_an_operator_of_no_known_kind_is_an_error_that_names_it() -> None:
    class Fancy(ops.Op):
        pass

    with pytest.raises(MobilesegError, match=r"layer: no priced operator is named 'Fancy'"):
        price(graph_of(Fancy(), ((1, 5, 6, 7),)), DEVICE)


def test_a_kernel_that_the_device_does_not_price_is_an_error_that_names_both() -> None:
    kernels = {name: kernel for name, kernel in TABLE.kernels.items() if name != "dense"}
    device = replace(DEVICE, float32=replace(TABLE, kernels=kernels))
    with pytest.raises(MobilesegError, match=r"layer: .*'dense'.* small .*float32"):
        price(CONV, device)


def test_a_precision_that_the_device_does_not_have_is_an_error() -> None:
    graph = graph_of(ops.Neg(), ((1, 5, 6, 7),), dtype="int8")
    with pytest.raises(MobilesegError, match="small: has no int8 coefficients"):
        price(graph, replace(DEVICE, int8=None))


def test_a_type_without_price_is_an_error() -> None:
    graph = graph_of(ops.Neg(), ((1, 5, 6, 7),), dtype="float16")
    with pytest.raises(MobilesegError, match="Neg on float16 has no price"):
        price(graph, DEVICE)


def test_half_precision_moves_half_the_bytes_at_its_own_rates() -> None:
    device = replace(DEVICE, float16=replace(TABLE, overhead_us=0.0, dram_gb_per_s=0.004))
    full = price(CONV, replace(DEVICE, float32=replace(TABLE, overhead_us=0, dram_gb_per_s=0.004)))
    half = price(CONV, device, half=True)
    assert half.rows[0].bytes_moved * 2 == full.rows[0].bytes_moved
    assert 0.2 < half.ms / full.ms < 0.55
    with pytest.raises(MobilesegError, match="small: has no float16 coefficients"):
        price(CONV, DEVICE, half=True)


def test_coverage_is_the_share_of_time_by_where_the_price_comes_from() -> None:
    assumed = replace(KERNEL, basis="assumed")
    device = replace(
        DEVICE, fuses=(), float32=replace(TABLE, kernels=TABLE.kernels | {"pad": assumed})
    )
    pricing = price(padded(), device)
    pad = pricing.rows[0].share
    assert pricing.coverage() == pytest.approx(
        {"fitted": 1.0 - pad, "transferred": 0.0, "assumed": pad}
    )


def padded() -> Graph:
    """A pad before a convolution whose weights are kept as float16."""
    x = Tensor("x", (1, 5, 6, 7))
    half = Tensor("half", (9, 5, 3, 3), "float16", data=np.zeros((9, 5, 3, 3), np.float16))
    nodes = [
        Node(ops.Pad((1, 1, 1, 1)), ("x",), "p", "pad"),
        Node(ops.Dequantize(), ("half",), "w", "weights"),
        Node(ops.Conv2d(), ("p", "w"), "y", "conv"),
    ]
    return assemble([x], nodes, ["y"], {"half": half})


def test_what_the_runtime_folds_costs_nothing_and_says_so() -> None:
    pad, weights, conv = price(padded(), DEVICE).rows
    assert (pad.ms, pad.bound, pad.note) == (0.0, "folded", "the runtime folds it into conv")
    assert (weights.ms, weights.bound) == (0.0, "folded")
    assert "when the file is loaded" in weights.note
    assert conv.share == 1.0


def test_a_pad_costs_where_the_runtime_does_not_fold_it() -> None:
    assert price(padded(), replace(DEVICE, fuses=())).rows[0].ms > 0.007


def test_what_is_kept_of_a_graph_is_kept_apart_by_what_it_hangs_on() -> None:
    device = replace(DEVICE, float16=TABLE)
    asked = [(device, False), (replace(device, fuses=()), False), (device, True), (DEVICE, False)]
    graph = padded()
    for profile, half in [*asked, *reversed(asked)]:
        assert price(graph, profile, half) == price(padded(), profile, half)


def test_bounds_name_the_largest_part() -> None:
    def bound(**changes: float) -> str:
        device = replace(DEVICE, float32=replace(TABLE, **changes))  # type: ignore[arg-type]
        return price(CONV, device).rows[0].bound

    assert bound(overhead_us=0.0) == "arithmetic"
    assert bound(overhead_us=1e3) == "overhead"
    assert bound(dram_gb_per_s=1e-3) == "memory"


def chained(channels: int) -> Graph:
    """A small pointwise convolution before one with that many channels."""
    shapes = {"w": (7, 5, 1, 1), "v": (channels, 7, 1, 1)}
    weights = {n: Tensor(n, s, data=np.zeros(s, np.float32)) for n, s in shapes.items()}
    nodes = [
        Node(ops.Conv2d(), ("x", "w"), "y", "small"),
        Node(ops.Conv2d(), ("y", "v"), "z", "large"),
    ]
    return assemble([Tensor("x", (1, 5, 8, 9))], nodes, ["z"], weights)


def test_a_network_larger_than_the_caches_fetches_its_weights_anew() -> None:
    device = replace(DEVICE, float32=replace(TABLE, weights_cache_kb=64.0))
    alone, among = (price(chained(n), device).rows[0].ms for n in (3, 4000))
    least = replace(TABLE, weights_cache_kb=1e9)
    warm = price(chained(4000), replace(DEVICE, float32=least)).rows[0].ms
    fetched = 5 * 7 * 4 * 1e-6 * (1 / TABLE.dram_gb_per_s - 1 / TABLE.bandwidth_gb_per_s)
    assert warm <= alone < among <= warm + fetched


def test_a_profile_says_what_a_kernels_price_stands_on() -> None:
    assert DEVICE.basis(kernel_of(CONV, CONV.nodes[0]), "float32") == "fitted"
    with pytest.raises(MobilesegError, match="no kernel is named 'conv'"):
        DEVICE.basis("conv", "float32")


def test_sums() -> None:
    pricing = price(padded(), replace(DEVICE, fuses=()))
    assert pricing.ms == pytest.approx(sum(row.ms for row in pricing.rows))
    assert sum(row.share for row in pricing.rows) == pytest.approx(1.0)
    assert [group.kernel for group in pricing.by_kind()] == ["dense", "pad", "dequantize"]
    assert [row.layer for row in pricing.top(2)] == ["conv", "pad"]
    assert (pricing.low_ms, pricing.high_ms) == pytest.approx((pricing.ms / 1.2, pricing.ms * 1.2))
    told = pricing.as_dict()
    assert (told["device"], told["ms"], len(told["rows"])) == ("small", pricing.ms, 3)


def test_assumed_kernels_widen_the_band_by_their_share() -> None:
    doubtful = replace(KERNEL, basis="assumed", error_factor=3.0)
    device = replace(DEVICE, float32=replace(TABLE, kernels=TABLE.kernels | {"dense": doubtful}))
    pricing = price(CONV, device)
    spread = np.exp(np.hypot(np.log(1.2), np.log(3.0)))
    assert pricing.high_ms == pytest.approx(pricing.ms * spread)


def test_kernels_that_another_device_told_widen_the_band_by_their_share() -> None:
    borrowed = replace(KERNEL, basis="transferred")
    kernels = TABLE.kernels | {"dense": borrowed}
    pricing = price(CONV, replace(DEVICE, float32=replace(TABLE, kernels=kernels)))
    spread = np.exp(np.hypot(np.log(1.2), np.log(TRANSFER_FACTOR)))
    assert pricing.high_ms == pytest.approx(pricing.ms * spread)
    # A table that is transferred as a whole has it in its own error.
    whole = replace(TABLE, kernels=kernels, basis="transferred")
    assert price(CONV, replace(DEVICE, float32=whole)).high_ms == pytest.approx(pricing.ms * 1.2)


def test_winograds_transform_leaves_fewer_multiplications_to_3x3_in_floats_at_stride_1() -> None:
    def work(conv: ops.Conv2d, kernel: int, dtype: DType, *fuses: str) -> float:
        graph = graph_of(conv, ((1, 5, 9, 8),), ((7, 5, kernel, kernel),), dtype)
        return features(graph, graph.nodes[0], 7.0, fuses).work / graph.total_macs

    assert work(ops.Conv2d(), 3, "float32", "winograd") == pytest.approx(16 / 36)
    assert work(ops.Conv2d(), 3, "float32", "pad") == 1.0
    assert work(ops.Conv2d(), 3, "int8", "winograd") == 1.0
    assert work(ops.Conv2d(), 5, "float32", "winograd") == 1.0
    assert work(ops.Conv2d(stride=(2, 2)), 3, "float32", "winograd") == 1.0
    assert work(ops.Conv2d(dilation=(2, 2)), 3, "float32", "winograd") == 1.0


def test_one_channel_is_a_loop_of_one_unless_the_convolution_is_depthwise() -> None:
    one = graph_of(ops.Conv2d(), ((1, 1, 9, 8),), ((7, 1, 3, 3),))
    assert features(one, one.nodes[0], 7.0).reduction == 1
    each = graph_of(ops.Conv2d(groups=5), ((1, 5, 9, 8),), ((5, 1, 3, 3),))
    assert features(each, each.nodes[0], 7.0).reduction == 9


positive = st.floats(1e-2, 1e3)
sizes = st.integers(1, 40)


@st.composite
def devices(draw: st.DrawFn) -> DeviceProfile:
    """Any device that a profile can describe."""
    kernel = replace(
        KERNEL,
        giga_per_s=draw(positive),
        reduction_half=draw(positive),
        pixels_half=draw(positive),
        channel_tile=draw(st.sampled_from([1, 4, 8])),
        pixel_tile=draw(st.sampled_from([1, 4, 6])),
    )
    bandwidth = draw(positive)
    table = replace(
        TABLE,
        bandwidth_gb_per_s=bandwidth,
        dram_gb_per_s=bandwidth * draw(st.floats(1e-2, 1.0)),
        cache_kb=draw(positive),
        weights_cache_kb=draw(positive),
        overlap=draw(st.floats(1.0, 20.0)),
        kernels=dict.fromkeys(KERNELS, kernel),
    )
    return replace(DEVICE, float32=table)


@given(device=devices(), shape=st.tuples(sizes, sizes, sizes, sizes), axis=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_larger_layer_never_costs_less_nor_less_than_its_kernels_rate(
    device: DeviceProfile, shape: tuple[int, int, int, int], axis: int
) -> None:
    larger = list(shape)
    larger[axis] += 1

    def ms(cin: int, cout: int, height: int, width: int) -> float:
        graph = graph_of(ops.Conv2d(), ((1, cin, height, width),), ((cout, cin, 1, 1),))
        found = price(graph, device).rows[0]
        # That no shipped rate is beyond its device's data sheet: test_peak.
        table = device.float32
        assert found.ms >= found.macs / table.kernels["pointwise"].giga_per_s / 1e6
        assert found.ms >= found.bytes_moved / table.bandwidth_gb_per_s / 1e6
        return found.ms

    assert ms(*larger) >= ms(*shape) * (1 - 1e-9)
