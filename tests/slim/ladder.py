"""The rungs of the article's ladder, each made by one recipe step, for the tests here."""

from __future__ import annotations

from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo import zoo_net
from mobileseg.slim.actions import Actions, Skip
from mobileseg.slim.steps import apply

NARROW = {"conv5_1": 256}
SOURCES = ("conv3_2", "conv2_2", "conv2_1")
STEPS: dict[str, tuple[str, Actions]] = {
    "v0": (
        "base160",
        Actions(image_size=(80, 80), remove=("conv5_6", "conv6"), deconv=(512, 256, 128, 32)),
    ),
    "v1": ("v0", Actions(deconv=(32, 16, 8, "classes"))),
    "v2.1.1": ("v1", Actions(width={"conv5_*": 0.5}, depthwise=NARROW)),
    "v2.1.2": ("v1", Actions(remove=("conv5_5",))),
    "v2.1.3": (
        "v1",
        Actions(width={"conv5_*": 256}, remove=("conv5_5",), depthwise=NARROW),
    ),
    "v2.1.4": (
        "v2.1.3",
        Actions(crelu=("conv5_*",), depthwise={"conv5_1": 512, "conv5_[234]": 256}),
    ),
    "v2.1.5": ("v2.1.3", Actions(skip=Skip("add", SOURCES))),
    "v2.1.6": ("v2.1.3", Actions(skip=Skip("concat", SOURCES))),
}


def rung(name: str, classes: int = 3) -> NetSpec:
    """Return the spec of a rung."""
    if name == "base160":
        return zoo_net("mobilenet_deconv", (160, 160), classes, "ladder")
    parent, actions = STEPS[name]
    return apply(rung(parent, classes), actions, f"step {name!r}")
