"""Every choice of a space is a whole network, or says why its parts do not go together."""

from __future__ import annotations

import random

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.nets.zoo import ZOO, zoo_net
from mobileseg.slim.actions import Actions
from mobileseg.slim.space import WIDTHS, Choice, Space, actions_of, space_of
from mobileseg.slim.steps import apply

SIZE = (192, 256)


def drawn(space: Space, seed: int) -> Choice:
    dice = random.Random(seed)
    return Choice(
        dice.choice(space.sides),
        {stage: dice.choice(WIDTHS) for stage in space.wide},
        {stage: dice.randint(0, len(names)) for stage, names in space.removable.items()},
    )


# Those that take a second or two each.
QUICK = ("portrait_lite", "portrait_squeeze", "mobilenet_deconv", "unet_mobilenet_v2")
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ZOO]


@pytest.mark.parametrize("name", EACH)
def test_choices_are_smaller_networks(name: str) -> None:
    spec = zoo_net(name, SIZE, 3, "test")
    space = space_of(spec)
    assert spec.image_size in space.sides
    assert len(space.wide) > 2
    same = Choice(spec.image_size, dict.fromkeys(space.wide, 1.0), {})
    assert actions_of(space, same) == Actions()
    slimmest = Choice(spec.image_size, dict.fromkeys(space.wide, WIDTHS[0]), {})
    slim = apply(spec, actions_of(space, slimmest), "test")
    assert slim.params < 0.35 * spec.params
    whole = 0
    for seed in range(6):
        choice = drawn(space, seed)
        try:
            found = apply(spec, actions_of(space, choice), "test")
        except MobilesegError:
            continue
        whole += 1
        assert found.image_size == choice.side
        assert found.params < spec.params
    assert whole >= 2


def test_stages_are_of_one_size() -> None:
    spec = zoo_net("unet_mobilenet_v2", SIZE, 3, "test")
    stages, sizes = space_of(spec).stages, spec.shapes()
    for name, stage in stages.items():
        assert sizes[name][1] * int(stage.strip("strideup")) == SIZE[0]
    assert stages["conv1"] == "stride2"
    assert stages["up4_conv2"] == "up1"
