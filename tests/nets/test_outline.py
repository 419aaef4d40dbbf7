"""Names as a tree, and the picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from mobileseg.nets.blocks import IMAGE, Conv, Sum
from mobileseg.nets.draw import draw
from mobileseg.nets.outline import Group, outline
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo import ZOO, zoo_net


def test_neighbours_that_begin_alike_are_a_group() -> None:
    names = ["stem", "a_1_x", "a_1_y", "a_2_x", "a_2_y", "b_1_only", "head", "c_3_x", "c_3_y"]
    blocks = [Conv(name, (IMAGE,), 4) for name in names]
    tree = outline(NetSpec("n", (8, 8), 2, tuple(blocks)))
    assert tree == (
        blocks[0],
        Group("a", (Group("a_1", tuple(blocks[1:3])), Group("a_2", tuple(blocks[3:5])))),
        blocks[5],
        blocks[6],
        # The level that would hold nothing else is left out.
        Group("c_3", tuple(blocks[7:9])),
    )


@pytest.mark.parametrize("name", ZOO)
def test_the_tree_holds_every_block_once_and_the_picture_is_whole(name: str) -> None:
    spec = zoo_net(name, (192, 256), 3, "test")
    found = [b for m in outline(spec) for b in (m.blocks() if isinstance(m, Group) else [m])]
    assert found == list(spec.blocks)
    picture = ElementTree.fromstring(draw(spec))
    texts = [element.text or "" for element in picture.iter() if element.tag.endswith("text")]
    assert texts[0].startswith(f"{name}, 192x256: ")
    assert len(texts) > 2 * min(len(spec.blocks), 15)


def test_skips_are_arcs() -> None:
    blocks = (Conv("a", (IMAGE,), 4), Conv("b", ("a",), 4), Sum("s", ("a", "b")))
    picture = draw(NetSpec("n", (8, 8), 2, blocks))
    assert picture.count(" L") == 3
    assert picture.count(" C") == 1
