"""The fit finds what is there, keeps its prior where nothing is, and repeats itself."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.latency.devices import DEVICES, THREADED, TRANSFERS
from mobileseg.latency.error import band_log, fit_error, inside, layer_band, macs_only
from mobileseg.latency.expand import BLOCKS, NETWORKS, Block, block_graph, network_graph
from mobileseg.latency.facts import read_facts
from mobileseg.latency.fit import chosen, fit_devices
from mobileseg.latency.kernels import features, touched
from mobileseg.latency.price import price
from mobileseg.latency.profile import KERNELS, load_profile, precisions, profiles
from mobileseg.latency.solve import Sample, linear, names, operators_ms, problem, rows_ms, solve
from mobileseg.latency.starts import RELATIONS, STARTS, start
from tests.latency.small import DEVICE, graph_of

ASSETS = Path(__file__).parents[2] / "assets"
TILES = {"pointwise": (8, 1), "depthwise": (8, 1), "add": (1, 1)}


def samples() -> list[Sample]:
    """Layers of many sizes, as rows of one."""
    random = np.random.default_rng(5)
    found = []
    for _ in range(240):
        cin, cout, size, kernel = (int(random.integers(*span)) for span in SPANS)
        plane = (1, cin, size, size + 3)
        for graph in (
            graph_of(ops.Conv2d(), (plane,), ((cout, cin, 1, 1),)),
            graph_of(ops.Conv2d(groups=cin), (plane,), ((cin, 1, kernel, kernel),)),
            graph_of(ops.Add(), (plane, plane)),
        ):
            row = tuple(features(graph, node, touched(graph)) for node in graph.nodes)
            found.append(Sample(row, row[0].kernel, 1.0))
    return found


SPANS = ((3, 200), (3, 200), (7, 60), (2, 7))


def test_known_coefficients_are_recovered() -> None:
    data = problem(samples(), TILES)
    prior = start(1.0, tuple(TILES))
    order = names(tuple(TILES))
    random = np.random.default_rng(11)
    off = np.array([random.uniform(-0.8, 0.8) * prior[name].sigma for name in order])
    truth = np.log([prior[name].value for name in order]) + off
    measured = rows_ms(data, truth) * np.exp(random.normal(0, 0.01, len(data.ms)))
    found = solve(problem([*map(_with, samples(), measured)], TILES), prior)
    assert np.abs(rows_ms(data, found.theta) / rows_ms(data, truth) - 1).max() < 0.05
    for name in ("pointwise.giga_per_s", "depthwise.giga_per_s"):
        at = order.index(name)
        assert found.theta[at] == pytest.approx(truth[at], abs=0.1)
        assert found.seen[at]


def test_the_slopes_are_the_formulas() -> None:
    """Against finite differences, where blocks and whole networks meet all of its parts."""
    bottleneck = Block("mbconv", 28, 16, 24, 5, 2, 3, se=True)
    head = Block("mbpool_head", 7, 96, 1280, 1, 1, 6, se=False)
    graphs = [
        *map(block_graph, (bottleneck, head)),
        network_graph("mobilenet_v1", 1.0, 96, "float32"),
    ]
    rows = [
        Sample(tuple(features(graph, node, touched(graph)) for node in graph.nodes), "x", 1.0)
        for graph in graphs
    ]
    data = problem(rows, dict.fromkeys(STARTS, (8, 4)))
    order = names(data.kernels)
    theta = np.log([start(1.0, data.kernels)[name].value for name in order])
    slopes, _, _ = linear(data, theta)
    for column in range(len(order)):
        step = np.zeros_like(theta)
        step[column] = 1e-5
        change = np.log(rows_ms(data, theta + step)) - np.log(rows_ms(data, theta - step))
        assert slopes[:, column] == pytest.approx(change / 2e-5, abs=1e-6), order[column]


def test_a_layers_band_holds_four_of_five_blocks_of_other_families() -> None:
    data = problem(samples(), TILES)
    prior = start(1.0, tuple(TILES))
    theta = np.log([prior[name].value for name in names(tuple(TILES))])
    truth = rows_ms(data, theta)
    measured = truth * np.exp(np.random.default_rng(3).normal(0.0, 0.1, len(truth)))
    data = problem([*map(_with, samples(), measured)], TILES)
    band = layer_band(data, theta, truth, [sample.family for sample in samples()])
    # One operator a row: the 80 % quantile of a normal error's size is 1.28 times its spread.
    assert band.log == pytest.approx(0.128, rel=0.2)
    assert band.inside_percent >= 80.0


def _with(sample: Sample, ms: float) -> Sample:
    return Sample(sample.operators, sample.family, float(ms))


def test_a_slip_in_the_table_does_not_move_the_fit() -> None:
    data = problem(samples(), TILES)
    prior = start(1.0, tuple(TILES))
    truth = np.log([prior[name].value for name in names(tuple(TILES))])
    measured = rows_ms(data, truth)
    measured[::40] *= 5.0
    found = solve(problem([*map(_with, samples(), measured)], TILES), prior)
    assert np.median(np.abs(rows_ms(data, found.theta) / rows_ms(data, truth) - 1)) < 0.01


def test_what_no_row_tells_keeps_its_prior() -> None:
    only = [sample for sample in samples() if sample.family == "add"]
    prior = start(1.0, tuple(TILES))
    found = solve(problem(only, TILES), prior)
    at = names(tuple(TILES)).index("pointwise.giga_per_s")
    assert np.exp(found.theta[at]) == pytest.approx(prior["pointwise.giga_per_s"].value)
    assert not found.seen[at]


def test_the_fits_formula_is_the_prices() -> None:
    """A fitted row and the priced graph give the same number."""
    block = Block("mbconv", 28, 16, 24, 5, 2, 3, se=True)
    graph = block_graph(block)
    row = tuple(features(graph, node, touched(graph)) for node in graph.nodes)
    data = problem([Sample(row, block.family, 1.0)], dict.fromkeys(STARTS, (8, 4)))
    table = DEVICE.float32
    kernel = table.kernels["add"]
    shared = (
        table.bandwidth_gb_per_s,
        table.bandwidth_gb_per_s / table.dram_gb_per_s - 1.0,
        table.cache_kb,
        table.weights_cache_kb,
        table.overlap - 1.0,
        table.overhead_us,
    )
    own = (kernel.giga_per_s, kernel.reduction_half, kernel.pixels_half)
    theta = np.log([*shared, *own * len(STARTS)])
    expected = [line.ms for line in price(graph, DEVICE).rows]
    assert operators_ms(data, theta) == pytest.approx(expected)


# Millions of MACs and of parameters, from the papers' own tables or the published files.
PUBLISHED = [
    ("mobilenet_v1", 1.0, 224, 568.74, 4.222),
    ("mobilenet_v1", 0.25, 128, 13.57, 0.468),
    ("mobilenet_v2", 1.4, 224, 582.20, 6.087),
    ("mobilenet_v2", 0.35, 96, 11.94, 1.671),
    ("mobilenet_v3_large", 0.75, 224, 140.59, 3.920),
    ("mobilenet_v3_small", 1.0, 224, 56.51, 2.538),
    ("mobilenet_v3_large_minimal", 1.0, 224, 209.14, 3.913),
    ("mobilenet_v3_small_minimal", 1.0, 224, 52.29, 2.040),
    ("mnasnet_b1", 1.3, 224, 526.36, 6.259),
    ("resnet50", 1.0, 224, 4089.19, 25.533),
    ("squeezenet", 1.0, 224, 887.61, 1.249),
]


@pytest.mark.parametrize(("name", "width", "size", "macs", "params"), PUBLISHED)
def test_networks_are_the_published_ones(
    name: str, width: float, size: int, macs: float, params: float
) -> None:
    graph = network_graph(name, width, size, "float32")
    assert graph.total_macs / 1e6 == pytest.approx(macs, abs=0.006)
    assert sum(graph.params(node) for node in graph.nodes) / 1e6 == pytest.approx(params, abs=6e-4)


def test_every_network_is_checked() -> None:
    assert {row[0] for row in PUBLISHED} == set(NETWORKS)


@pytest.mark.parametrize(
    ("block", "mmacs"),
    [
        (Block("firstconv", 128, 3, 16, 3, 2, 1, False), 1.7695),
        (Block("mbconv", 112, 16, 32, 3, 2, 2, False), 12.1426),
        (Block("mbconv", 64, 16, 16, 5, 2, 4, True), 6.8833),
        (Block("mbconv_ds", 16, 80, 152, 3, 1, 6, True), 32.8422),
        (Block("mbpool_head", 2, 248, 1984, 1, 1, 6, False), 6.4123),
        (Block("transformer_ffn", 8, 128, 128, 1, 1, 2, False), 4.1943),
    ],
)
def test_blocks_are_the_published_ones(block: Block, mmacs: float) -> None:
    assert block_graph(block).total_macs / 1e6 == pytest.approx(mmacs, abs=6e-5)


def test_every_kernel_is_fitted_or_related_to_one() -> None:
    assert STARTS.keys() | RELATIONS.keys() == KERNELS.keys()
    assert {relation.like for relation in RELATIONS.values()} <= STARTS.keys()
    assert len(BLOCKS) == 5


def test_errors_are_summed_up() -> None:
    foretold, measured = np.array([1.0, 2.2, 3.0, 8.0]), np.array([1.0, 2.0, 4.0, 8.0])
    error = fit_error("family", foretold, measured, ["a", "a", "b", "b"])
    assert (error.rows, error.families) == (4, 2)
    assert (error.median_percent, error.mean_percent) == (5.0, 8.75)
    assert (error.spearman, error.within_10_percent) == (1.0, 50.0)
    assert error.factor == pytest.approx((4 / 3) ** 1.5, abs=1e-3)


def test_the_band_is_conformal_over_rows_and_over_families() -> None:
    logs = np.arange(1.0, 101.0)
    many = [str(i % 10) for i in range(100)]
    # ceil(0.8 * 101) = 81 of the rows; the ninth of the ten families' own eighty-odd percent.
    assert 81.0 <= band_log(logs, many) <= 99.0
    # One family of a hundred speaks for itself only: the small ones decide.
    lopsided = np.concatenate([np.full(100, 0.01), [0.5], [0.6], [0.7]])
    assert band_log(lopsided, ["big"] * 100 + ["x", "y", "z"]) == 0.7


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_eight_of_ten_unseen_rows_fall_into_the_band(seed: int) -> None:
    random = np.random.default_rng(seed)
    families = [str(i) for i in range(12) for _ in range(40)]
    spread = np.repeat(random.uniform(0.05, 0.2, 12), 40)
    assert inside(np.abs(random.normal(0, spread)), families) >= 0.8


def test_what_unseen_kernels_add_is_not_counted_twice() -> None:
    measured = np.full(10, 1.0)
    foretold = measured * 1.5
    families = list("abcdefghij")
    plain = fit_error("family", foretold, measured, families)
    widened = fit_error("family", foretold, measured, families, np.full(10, np.log(1.3)))
    assert plain.factor == pytest.approx(1.5)
    assert np.log(widened.factor) == pytest.approx(
        np.sqrt(np.log(1.5) ** 2 - np.log(1.3) ** 2), abs=1e-3
    )
    mostly = np.where(np.arange(10) < 5, np.log(1.8), 0.0)
    unlike = np.where(mostly > 0, 9.0, 1.0)
    assert fit_error("family", unlike, measured, families, mostly).factor == 1.3
    assert widened.median_percent == plain.median_percent == pytest.approx(50.0)


def test_the_naive_model_is_checked_on_other_families() -> None:
    macs, ms = np.array([10.0, 20.0, 10.0]), np.array([1.0, 2.0, 4.0])
    assert macs_only(macs, ms, ["a", "a", "b"]) == pytest.approx([4.0, 8.0, 1.0])


def test_names_of_devices() -> None:
    names_ = [device.name for device in DEVICES]
    assert [device.name for device in chosen([])] == names_
    assert [device.name for device in chosen(["sd865"])] == ["pixel4", "sd855", "sd865"]
    with pytest.raises(MobilesegError, match="'pixel9' has no facts"):
        chosen(["pixel9"])


def test_facts_name_their_source_and_stay_small() -> None:
    folder = ASSETS / "latency"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.5e6
    with gzip.open(folder / "blocks.csv.gz", "rt", encoding="utf-8") as file:
        assert all(line.strip().rpartition(",")[2] for line in file)
    assert all(row.source for row in read_facts(folder))


def test_fewer_than_ten_rows_have_no_narrow_band() -> None:
    nine, families = np.full(9, 0.01), list("aabbccdde")
    assert band_log(nine, families) == pytest.approx(np.log(1.3))
    assert band_log(np.full(10, 0.01), [*families, "e"]) == pytest.approx(0.01)


def test_a_coefficient_stays_at_its_bound() -> None:
    data = problem(samples(), TILES)
    free = start(1.0, tuple(TILES))
    truth = np.log([free[name].value for name in names(tuple(TILES))])
    timed = problem([*map(_with, samples(), rows_ms(data, truth))], TILES)
    at = names(tuple(TILES)).index("pointwise.giga_per_s")
    most = 0.8 * free["pointwise.giga_per_s"].value
    bounded = replace(free["pointwise.giga_per_s"], most=most)
    found = solve(timed, free | {"pointwise.giga_per_s": bounded})
    assert np.exp(found.theta[at]) == pytest.approx(most)
    # What may still move makes up for some of it.
    held_back = truth.copy()
    held_back[at] = np.log(most)
    left, naive = (np.log(rows_ms(timed, x) / timed.ms) for x in (found.theta, held_back))
    assert (left**2).sum() < 0.9 * (naive**2).sum()


def test_shipped_profiles_keep_their_promises() -> None:
    shipped = profiles(ASSETS / "devices")
    assert {one.name for one in (*DEVICES, *TRANSFERS, *THREADED)} <= shipped.keys()
    for path in shipped.values():
        profile = load_profile(path)
        for _, table in precisions(profile):
            assert table.kernels.keys() == KERNELS.keys()
            assert table.error.inside_percent >= 80.0
            # A single layer is never told better than a whole network.
            assert min(each.error_factor for each in table.kernels.values()) >= table.error.factor
            # One of two networks foretold from the other is an anecdote, which the band allows for.
            if profile.accelerator == "cpu" and table.error.families > 2:
                assert table.error.spearman >= 0.97
                assert table.error.median_percent <= (8.0 if profile.name in BLOCKS_OF else 12.0)


# Operators that LiteRT takes off the fast path at int8: x86-64's times (the host) and the counts on
# Arm agree that int8 gains nothing there. What no row tells may drift by what the fit holds loose.
OFF_THE_FAST_PATH = ("relu", "hard_swish", "mean_pool", "softmax")


@pytest.mark.parametrize("kernel", OFF_THE_FAST_PATH)
def test_int8_gains_nothing_off_the_fast_path(kernel: str) -> None:
    shipped = profiles(ASSETS / "devices")
    for path in shipped.values():
        profile = load_profile(path)
        if profile.int8 is not None:
            int8, float32 = (table.kernels[kernel] for table in (profile.int8, profile.float32))
            assert int8.giga_per_s < 1.05 * float32.giga_per_s, profile.name


@pytest.mark.parametrize("kernel", ["pointwise", "dense", "depthwise"])
def test_int8_products_of_a_borrowed_table_are_no_slower(kernel: str) -> None:
    tables = [load_profile(path) for path in profiles(ASSETS / "devices").values()]
    borrowed = [
        each for each in tables if each.int8 is not None and "no product slower" in each.int8.note
    ]
    for profile in borrowed:
        rate = profile.coefficients("int8").kernels[kernel].giga_per_s
        assert rate >= 0.999 * profile.float32.kernels[kernel].giga_per_s, profile.name
    assert {each.name for each in borrowed} >= {"pixel1", "pixel4", "pixel6", "mi11"}


BLOCKS_OF = {device.name for device in DEVICES if device.blocks}


def test_networks_no_fit_has_seen() -> None:
    shipped = profiles(ASSETS / "devices")
    # Networks that no fit has seen, in another build of the same kernels (XNNPACK, March 2020).
    pixel = load_profile(shipped["pixel1"])
    for name, measured in (("mobilenet_v1", 82), ("mobilenet_v2", 49), ("mobilenet_v3_large", 39)):
        ms = price(network_graph(name, 1.0, 224, "float32"), pixel).ms
        assert ms == pytest.approx(measured, rel=0.35)


@pytest.mark.slow
def test_shipped_profiles_are_what_the_command_writes(tmp_path: Path) -> None:
    said: list[str] = []
    written = fit_devices(ASSETS / "latency", tmp_path, said.append)
    assert [path.name for path in written[:-1]] == [
        f"{one.name}.toml" for one in (*DEVICES, *TRANSFERS, *THREADED)
    ]
    assert len(said) > 2 * len(DEVICES)
    table = written[-1].read_text(encoding="utf-8")
    assert all(one.name in table for one in DEVICES)
    for path in written[:-1]:
        new, old = load_profile(path), load_profile(ASSETS / "devices" / path.name)
        for name, kernel in new.float32.kernels.items():
            shipped = old.float32.kernels[name]
            assert kernel.giga_per_s == pytest.approx(shipped.giga_per_s, rel=0.02)
        assert new.float32.error.median_percent == pytest.approx(
            old.float32.error.median_percent, abs=0.3
        )
