"""What `assemble` refuses, infers and drops."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Node, Tensor, assemble
from tests.graph.build import graph

IMAGE = Tensor("image", (1, 3, 6, 8))
RELU = ops.Activation("relu")


def test_a_tensor_read_before_it_is_made() -> None:
    nodes = [Node(RELU, ("later",), "y", "layer.a")]
    with pytest.raises(MobilesegError, match=r"layer\.a: reads 'later' before any node makes it"):
        assemble([IMAGE], nodes, ("y",), {})


def test_a_tensor_made_twice() -> None:
    nodes = [Node(RELU, ("image",), "y", "a"), Node(RELU, ("y",), "y", "layer.b")]
    with pytest.raises(MobilesegError, match=r"layer\.b: 'y' is made twice"):
        assemble([IMAGE], nodes, ("y",), {})


def test_a_constant_that_is_not_what_it_says() -> None:
    wrong = Tensor("w", (5, 3, 1, 1), data=np.zeros((3, 5, 1, 1), np.float32))
    nodes = [Node(ops.Conv2d(), ("image", "w"), "y", "layer.a")]
    said = re.escape("layer.a: 'w' says (5, 3, 1, 1) and holds (3, 5, 1, 1)")
    with pytest.raises(MobilesegError, match=said):
        assemble([IMAGE], nodes, ("y",), {"w": wrong})


def test_an_output_that_no_node_makes() -> None:
    with pytest.raises(MobilesegError, match="output 'y' is made by no node"):
        assemble([IMAGE], [], ("y",), {})


def test_activations_have_four_axes() -> None:
    nodes = [Node(ops.ArgMax(), ("image",), "m", "a"), Node(RELU, ("m",), "y", "layer.b")]
    with pytest.raises(MobilesegError, match=r"layer\.b: 'y' has 3 axes"):
        assemble([IMAGE], nodes, ("y",), {})


def test_what_nobody_reads_is_dropped() -> None:
    made = graph(
        (1, 3, 6, 8),
        ("y", RELU, "image"),
        ("unused", ops.Conv2d(), "image", {"w": (5, 3, 1, 1)}),
        output="y",
    )
    assert [node.output for node in made.nodes] == ["y"]
    assert set(made.tensors) == {"image", "y"}


def test_argmax_makes_integers() -> None:
    assert graph((1, 3, 6, 8), ("m", ops.ArgMax(), "image"))["m"].dtype == "int32"


def test_readers_and_makers() -> None:
    made = graph((1, 3, 6, 8), ("y", RELU, "image"), ("z", ops.Add(), "y image"))
    assert [node.output for node in made.consumers["image"]] == ["y", "z"]
    assert made.only_consumer("y") == made.producers["z"]
    assert made.only_consumer("image") is None
    assert made.only_consumer("z") is None


def test_counts() -> None:
    made = graph((1, 3, 6, 8), ("y", ops.Conv2d(), "image", {"w": (5, 3, 1, 1), "b": (5,)}))
    assert made.total_macs == 5 * 3 * 6 * 8
    assert made.params(made.nodes[0]) == 5 * 3 + 5
    assert made["y"].nbytes == 4 * 5 * 6 * 8
