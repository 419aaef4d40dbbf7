"""What is said of slow operators, and the pictures."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph
from mobileseg.latency.advice import SLOW, flags
from mobileseg.latency.plot import plot, worth_a_bar
from mobileseg.latency.price import price
from tests.latency.small import DEVICE, KERNEL, TABLE, graph_of

FAST = replace(
    DEVICE, float32=replace(TABLE, overhead_us=0.0), int8=replace(TABLE, overhead_us=0.0)
)
PLANE = (1, 8, 30, 31)


def said(graph: Graph, device: Any = FAST) -> str:
    return "; ".join(flags(graph, price(graph, device).rows[0], device))


@pytest.mark.parametrize(
    ("op", "inputs", "float32", "int8"),
    [
        (ops.Concat(), (PLANE,) * 5, "", ""),
        (ops.Concat(), (PLANE,) * 6, "6 tensors at once", "6 tensors at once"),
        (ops.Resize((60, 62)), (PLANE,), "", ""),
        (ops.Resize((60, 62), "nearest"), (PLANE,), "nearest resize", "nearest resize"),
        (ops.ArgMax(), (PLANE,), "argmax", "argmax"),
        (ops.Softmax(), (PLANE,), "", "at int8: softmax"),
        (ops.Activation("relu"), (PLANE,), "", "at int8: a ReLU by itself"),
        (ops.Activation("hard_swish"), (PLANE,), "", "at int8: hard swish"),
        (ops.Activation("sigmoid"), (PLANE,), "", ""),
        (ops.Pool("mean", (2, 2), (2, 2)), (PLANE,), "", "at int8: average pooling"),
        (ops.Pool("max", (2, 2), (2, 2)), (PLANE,), "", ""),
        (ops.Neg(), (PLANE,), "", "at int8: a minus"),
        (ops.Add(), (PLANE, PLANE), "", ""),
    ],
    ids=str,
)
def test_what_leaves_the_fast_path_is_told(op, inputs, float32, int8) -> None:  # type: ignore[no-untyped-def]
    for dtype, words in (("float32", float32), ("int8", int8)):
        text = said(graph_of(op, inputs, dtype=dtype))  # type: ignore[arg-type]
        assert ("not run by XNNPACK" in text) == bool(words)
        assert words in text


def test_a_gpu_has_no_xnnpack_to_leave() -> None:
    graph = graph_of(ops.ArgMax(), (PLANE,))
    assert said(graph, replace(FAST, accelerator="gpu")) == ""


@pytest.mark.parametrize(
    ("cache_kb", "dram", "rate", "words"),
    [
        # 8 channels of 30x31, in and out, and the weights: 56.1 KB, 58,464 multiply-adds.
        (1.0, 1.0, 2.0, "more than the caches hold"),
        (1.0, 4.0, 2.0, ""),
        (100.0, 1.0, 2.0, ""),
        (100.0, 1.0, 20.0, "from the caches"),
    ],
)
def test_depthwise_bound_by_memory(cache_kb: float, dram: float, rate: float, words: str) -> None:
    kernel = replace(KERNEL, giga_per_s=rate)
    table = replace(FAST.float32, cache_kb=cache_kb, dram_gb_per_s=dram, kernels={})
    device = replace(FAST, float32=replace(table, kernels={"depthwise": kernel}))
    text = said(graph_of(ops.Conv2d(groups=8), (PLANE,), ((8, 1, 3, 3),)), device)
    assert ("bound by memory" in text) == bool(words)
    assert words in text


@pytest.mark.parametrize("step", [1, 8, 16])
def test_channels_off_the_kernels_step(step: int) -> None:
    kernels = {"pointwise": replace(KERNEL, channel_tile=step)}
    device = replace(FAST, float32=replace(FAST.float32, kernels=kernels))

    def channels(count: int) -> str:
        return said(graph_of(ops.Conv2d(), (PLANE,), ((count, 8, 1, 1),)), device)

    assert channels(32) == channels(48) == ""
    expected = {1: "", 8: "17 channels cost as much as 24", 16: "17 channels cost as much as 32"}
    assert channels(17).startswith(expected[step]) and bool(channels(17)) == bool(expected[step])
    assert bool(channels(24)) == (step == 16)


def test_the_table_names_operators_that_there_are() -> None:
    assert SLOW.keys() <= {op.__name__ for op in ops.OPS}


def test_pictures_are_written(tmp_path: Path) -> None:
    graph = graph_of(ops.Conv2d(), (PLANE,), ((9, 8, 3, 3),))
    written = plot(price(graph, DEVICE), "float32", "a_b $c$", tmp_path / "new", "stem")
    assert [path.name for path in written] == ["stem-layers.png", "stem-roofline.png"]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_many_short_layers_do_not_flatten_the_longest() -> None:
    row = price(graph_of(ops.Conv2d(), (PLANE,), ((9, 8, 3, 3),)), DEVICE).rows[0]
    rows = tuple(replace(row, index=i, share=1 / 518) for i in range(518))
    assert len(worth_a_bar(rows)) == 40
    few = tuple(replace(row, index=i, share=s) for i, s in enumerate((0.6, 0.397, 0.002, 0.001)))
    assert worth_a_bar(few) == {0, 1}


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    graph = graph_of(ops.Add(), (PLANE, PLANE))
    with pytest.raises(MobilesegError, match=r"pip install 'mobileseg\[plot\]'"):
        plot(price(graph, DEVICE), "float32", "t", tmp_path, "s")
