"""What settles behind the rewrites, as text; and that it changes no value."""

from __future__ import annotations

import pytest
import torch

from mobileseg.graph import ops, passes
from mobileseg.graph.execute import execute
from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.ir import Tensor as Value
from tests.graph.build import Line, graph, text

IMAGE = (1, 3, 6, 8)
CONV: Line = ("y", ops.Conv2d(), "image", {"w": (5, 3, 1, 1), "b": (5,)})


def same_values(before: Graph, after: Graph) -> None:
    x = torch.randn((2, *IMAGE[1:]), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(execute(after, x), execute(before, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "first",
    [
        ("y", ops.Conv2d(pad=(1, 1, 1, 1)), "image", {"w": (5, 3, 3, 3), "b": (5,)}),
        ("y", ops.ConvTranspose2d((2, 2)), "image", {"w": (3, 5, 2, 2)}),
    ],
)
def test_merge_products(first: Line) -> None:
    last: Line = ("z", ops.Conv2d(activation="relu"), "y", {"m": (4, 5, 1, 1), "n": (4,)})
    before = graph(IMAGE, first, last)
    after = passes.merge_products(before)
    assert len(after.nodes) == 1
    assert after.total_macs < before.total_macs
    same_values(before, after)


def test_a_product_that_widens_is_not_merged() -> None:
    """As MobileNetV2's projection and the next expansion: together they would cost far more."""
    before = graph(IMAGE, CONV, ("z", ops.Conv2d(), "y", {"m": (20, 5, 1, 1), "n": (20,)}))
    assert passes.merge_products(before) is before


def test_product_before_resize() -> None:
    before = graph(
        IMAGE,
        CONV,
        ("r", ops.Resize((17, 19)), "y"),
        ("z", ops.Conv2d(), "r", {"m": (2, 5, 1, 1), "n": (2,)}),
    )
    after = passes.product_before_resize(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y: f32[1, 5, 6, 8] = Conv2d() %image, w[5, 3, 1, 1], b[5]
        %z.small: f32[1, 2, 6, 8] = Conv2d() %y, m[2, 5, 1, 1], n[2]
        %z: f32[1, 2, 17, 19] = Resize(size=17x19) %z.small
        outputs z
    """)
    same_values(before, after)


def test_broadcast_pixel() -> None:
    before = graph(
        IMAGE,
        CONV,
        ("s", ops.GlobalMean(), "y"),
        ("r", ops.Resize((6, 8)), "s"),
        ("z", ops.Mul(), "y r"),
    )
    after = passes.broadcast_pixel(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y: f32[1, 5, 6, 8] = Conv2d() %image, w[5, 3, 1, 1], b[5]
        %s: f32[1, 5, 1, 1] = GlobalMean() %y
        %z: f32[1, 5, 6, 8] = Mul() %y, %s
        outputs z
    """)
    same_values(before, after)


def test_a_pixel_that_alone_makes_the_picture_stays_enlarged() -> None:
    before = graph(
        IMAGE,
        CONV,
        ("s", ops.GlobalMean(), "y"),
        ("r", ops.Resize((6, 8)), "s"),
        ("z", ops.Add(), "r s"),
    )
    assert "Resize" in str(passes.broadcast_pixel(before))
    same_values(before, passes.broadcast_pixel(before))


def test_activation_before_copy() -> None:
    before = graph(
        IMAGE,
        CONV,
        ("x", ops.Conv2d(), "image", {"v": (4, 3, 1, 1)}),
        ("c", ops.Concat(), "y x"),
        ("p", ops.Pool("max", (2, 2), (2, 2)), "c"),
        ("z", ops.Activation("relu"), "p"),
    )
    after = passes.activation_before_copy(before)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y: f32[1, 5, 6, 8] = Conv2d(activation=relu) %image, w[5, 3, 1, 1], b[5]
        %x: f32[1, 4, 6, 8] = Conv2d(activation=relu) %image, v[4, 3, 1, 1]
        %c: f32[1, 9, 6, 8] = Concat() %y, %x
        %z: f32[1, 9, 3, 4] = Pool(function=max kernel=2x2 stride=2x2) %c
        outputs z
    """)
    same_values(before, after)


def test_an_activation_stays_where_somebody_reads_the_values_before_it() -> None:
    before = graph(
        IMAGE,
        CONV,
        ("c", ops.Crop((1, 1), (4, 5)), "y"),
        ("r", ops.Activation("relu"), "c"),
        ("z", ops.Add(), "r c"),
    )
    assert passes.activation_before_copy(before) is before


def _squeezed() -> Graph:
    """A squeeze-and-excite block: hard sigmoid gates what a convolution reads."""
    return graph(
        IMAGE,
        CONV,
        ("s", ops.GlobalMean(), "y"),
        ("e", ops.Conv2d(), "s", {"f": (5, 5, 1, 1), "g": (5,)}),
        ("h", ops.Activation("hard_sigmoid"), "e"),
        ("p", ops.Mul(), "y h"),
        ("z", ops.Conv2d(), "p", {"m": (4, 5, 1, 1), "n": (4,)}),
    )


def test_a_gate_costs_one_product() -> None:
    before = _squeezed()
    after = passes.run_passes(before, passes.SETTLE)
    assert str(after) == text("""
        inputs %image: f32[1, 3, 6, 8]
        %y: f32[1, 5, 6, 8] = Conv2d() %image, w[5, 3, 1, 1], b[5]
        %s: f32[1, 5, 1, 1] = GlobalMean() %y
        %h.shifted: f32[1, 5, 1, 1] = Conv2d(activation=relu6) %s, e.weight[5, 5, 1, 1], e.bias[5]
        %p.unscaled: f32[1, 5, 6, 8] = Mul() %y, %h.shifted
        %z: f32[1, 4, 6, 8] = Conv2d() %p.unscaled, z.weight_scaled[4, 5, 1, 1], n[4]
        outputs z
    """)
    same_values(before, after)


def test_a_factor_that_the_output_shows_is_not_carried() -> None:
    before = _squeezed()
    shown = before.edit(before.nodes[:-1], outputs=("p",))
    after = passes.run_passes(shown, passes.SETTLE)
    assert after.nodes[-1].op == ops.Mul()
    same_values(shown, after)


def test_a_factor_of_a_square_is_not_carried() -> None:
    """It would count twice."""
    before = graph(IMAGE, CONV)
    half = Value("half", (1, 1, 1, 1), data=torch.full((1, 1, 1, 1), 0.5).numpy())
    nodes = (
        *before.nodes,
        Node(ops.Mul(), ("y", "half"), "k", "k"),
        Node(ops.Mul(), ("k", "k"), "q", "q"),
        Node(ops.Conv2d(), ("q", "w2"), "z", "z"),
    )
    weight = Value("w2", (4, 5, 1, 1), data=torch.randn(4, 5, 1, 1).numpy())
    made = before.edit(nodes, (half, weight), outputs=("z",))
    assert passes.carry_factor(made) is made
