"""Which exact form a file gets: by price, where the price was measured; and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mobileseg.errors import MobilesegError
from mobileseg.files import shipped
from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Graph
from mobileseg.graph.passes import FOR_TFLITE, REWRITES, run_passes
from mobileseg.latency.price import price
from mobileseg.latency.profile import Coefficients, DeviceProfile, Kernel
from mobileseg.latency.toml import profile_toml
from mobileseg.workflow.forms import ARM_COUNTS, FOR_INT8, MEASURED, Forms, choose, judge
from mobileseg.workflow.network import as_int8
from tests.bench import arm
from tests.graph.build import Line, graph

# Five channels of 40x56 doubled to two classes, as the last layer of a decoder is.
DECONV: Line = (
    "y",
    ops.ConvTranspose2d((2, 2), (1, 1, 1, 1)),
    "x",
    {"v": (24, 2, 4, 4), "c": (2,)},
)
FIRST: Line = ("x", ops.Conv2d(activation="relu"), "image", {"w": (24, 3, 1, 1), "b": (24,)})


def decoder() -> Graph:
    return graph((1, 3, 40, 56), FIRST, DECONV)


def swish() -> Graph:
    act: Line = ("y", ops.Activation("hard_swish"), "x")
    return graph((1, 3, 40, 56), FIRST, act, ("z", ops.Conv2d(), "y", {"m": (4, 24, 1, 1)}))


def profile(where: Path, name: str, **rates: float) -> str:
    """Write the host's profile with other rates for some int8 kernels; return its path."""
    host = judge("host")
    assert host.int8 is not None
    kernels = dict(host.int8.kernels)
    for kernel, rate in rates.items():
        kernels[kernel] = replace(kernels[kernel], giga_per_s=rate)
    return _written(where, replace(host, name=name), host.int8, kernels)


def guessed(where: Path, kernel: str) -> str:
    """Write the host's profile as if nobody had measured one int8 kernel; return its path."""
    host = judge("host")
    assert host.int8 is not None
    assumed = replace(host.int8.kernels[kernel], basis="assumed", note="nobody knows")
    return _written(where, replace(host, name="guess"), host.int8, {kernel: assumed})


def _written(
    where: Path, made: DeviceProfile, table: Coefficients, kernels: dict[str, Kernel]
) -> str:
    made = replace(made, int8=replace(table, kernels={**table.kernels, **kernels}))
    path = where / f"{made.name}.toml"
    path.write_text(profile_toml(made, "a test"), encoding="utf-8")
    return str(path)


def kinds(of: Graph) -> list[str]:
    return [node.op.kind for node in of.nodes]


def test_the_faster_form_by_each_devices_own_price(tmp_path: Path) -> None:
    slow = profile(tmp_path, "slow", transposed=0.1)
    fast = profile(tmp_path, "fast", transposed=1000.0)
    taken = choose(decoder(), Forms(devices=(slow,)))
    kept = choose(decoder(), Forms(devices=(fast,)))
    assert kinds(taken(decoder())) == ["Conv2d", "Pad", "Conv2d", "DepthToSpace", "Crop"]
    assert kinds(kept(decoder())) == ["Conv2d", "ConvTranspose2d"]
    assert [(v.rewrite, v.layers, v.taken, v.why) for v in (*taken.verdicts, *kept.verdicts)] == [
        ("deconv_to_conv", ("y",), True, "pays"),
        ("deconv_to_conv", ("y",), False, "does not pay"),
    ]


def test_the_change_is_that_of_the_price(tmp_path: Path) -> None:
    path = profile(tmp_path, "slow", transposed=0.1)
    choice = choose(decoder(), Forms(devices=(path,)))
    before, after = (
        price(as_int8(made), judge(path)).ms
        for made in (run_passes(decoder(), FOR_TFLITE), choice(decoder()))
    )
    # `as_int8` has the two operators of a uint8 file's edges besides.
    said = choice.verdicts[0].change_percent["slow"]
    assert said < 0 and after < before
    assert after - before == pytest.approx(said / 100 * before, rel=0.1)


def test_of_several_devices_the_mean_decides(tmp_path: Path) -> None:
    slow = profile(tmp_path, "slow", transposed=0.1)
    fast = profile(tmp_path, "fast", transposed=1000.0)
    alone = choose(decoder(), Forms(devices=(fast,))).verdicts[0]
    both = choose(decoder(), Forms(devices=(slow, fast))).verdicts[0]
    assert not alone.taken
    assert both.taken
    assert set(both.change_percent) == {"slow", "fast"}


def test_without_data_the_operator_stays_and_the_verdict_says_so(tmp_path: Path) -> None:
    path = guessed(tmp_path, "depth_to_space")
    choice = choose(decoder(), Forms(devices=(path,)))
    assert kinds(choice(decoder())) == ["Conv2d", "ConvTranspose2d"]
    assert choice.verdicts[0].why == "guess has no data for depth_to_space"
    asked = choose(decoder(), Forms(rewrite="deconv_to_conv", devices=(path,)))
    assert "DepthToSpace" in kinds(asked(decoder()))


def test_a_phone_that_was_not_measured_keeps_its_operators() -> None:
    choice = choose(decoder(), Forms(devices=("pixel4",)))
    assert choice.taken == ()
    assert "pixel4 has no data for" in choice.verdicts[0].why


def test_by_default_what_was_measured_decides() -> None:
    choice = choose(decoder(), FOR_INT8)
    assert set(choice.verdicts[0].change_percent) == set(MEASURED)
    assert choice.verdicts[0].taken


def test_a_precision_of_its_own() -> None:
    """XNNPACK has hard swish for floats and none for int8. The sixth is in the last weights."""
    assert kinds(choose(swish(), FOR_INT8)(swish())) == ["Conv2d", "Add", "Mul", "Conv2d"]
    plain = choose(swish(), Forms(int8=False))(swish())
    assert kinds(plain) == ["Conv2d", "Activation", "Conv2d"]


def test_what_is_asked_for_by_name() -> None:
    assert kinds(choose(swish(), Forms(rewrite="none"))(swish())) == [
        "Conv2d",
        "Activation",
        "Conv2d",
    ]
    net = graph((1, 3, 40, 56), FIRST, DECONV, ("z", ops.Activation("hard_swish"), "y"))
    both = choose(net, Forms(False, "hard_swish_to_mul, deconv_to_conv"))
    assert [name for name, _ in both.taken] == ["deconv_to_conv", "hard_swish_to_mul"]
    assert both.verdicts[0].why == "asked for"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Forms(rewrite="deconv_to_con"), r"'deconv_to_con'; did you mean 'deconv_to_conv'\?"),
        (Forms(rewrite="hard_swish_to_mul,"), "no rewrite is named ''"),
        (Forms(rewrite="product_before_sum"), "product_before_sum is for float files"),
        (Forms(rewrite="relu_to_mul,split_concat"), "relu_to_mul, split_concat applies nowhere"),
    ],
)
def test_a_name_that_does_nothing_is_an_error(asked: Forms, said: str) -> None:
    with pytest.raises(MobilesegError, match=f"^--rewrite: .*{said}"):
        choose(swish(), asked)


@pytest.mark.parametrize("made", [decoder(), swish()], ids=["decoder", "swish"])
@pytest.mark.parametrize("rewrite", ["auto", "all", "none"])
def test_every_form_is_the_same_function(made: Graph, rewrite: str) -> None:
    x = torch.randn((2, 3, 40, 56), generator=torch.Generator().manual_seed(2))
    after = choose(made, Forms(rewrite=rewrite))(made)
    torch.testing.assert_close(execute(after, x), execute(made, x), rtol=1e-5, atol=1e-5)


def test_what_rounds_worse_is_not_for_int8() -> None:
    coarse = {each.name for each in REWRITES if not each.at_int8}
    assert coarse == {"product_before_sum"}
    lines: tuple[Line, ...] = (
        FIRST,
        ("s", ops.Pool("max", (2, 2), (2, 2)), "x"),
        ("r", ops.Resize((40, 56)), "s"),
        ("j", ops.Concat(), "x r"),
        ("z", ops.Conv2d(), "j", {"m": (4, 48, 1, 1), "n": (4,)}),
    )
    net = graph((1, 3, 40, 56), *lines)
    assert choose(net, Forms(rewrite="all")).taken == ()
    assert choose(net, Forms(False, rewrite="all")).taken == (("product_before_sum", ("z",)),)


def test_names_of_files_say_the_form() -> None:
    labels = [
        Forms(),
        Forms(rewrite="none"),
        Forms(rewrite="all"),
        Forms(devices=("pixel4", "my/phone.toml")),
        Forms(rewrite="deconv_to_conv,split_concat"),
    ]
    assert [each.label() for each in labels] == [
        "",
        "plain",
        "rewritten",
        "for_pixel4_phone",
        "deconv_to_conv_split_concat",
    ]


def test_instruction_counts_are_no_device() -> None:
    counts = judge(ARM_COUNTS)
    assert counts.int8 is not None and counts.float32 is not None
    # As the benchmark writes it.
    again = arm.profile(counts.float32, counts.int8, 500, counts.year)
    text = (shipped("assets", "latency") / f"{ARM_COUNTS}.toml").read_text(encoding="utf-8")
    assert text == profile_toml(again, arm.COMMAND, arm.ORIGIN)
    assert "instructions" in counts.title
    for table in (counts.float32, counts.int8):
        assert table.error.median_percent < 5
