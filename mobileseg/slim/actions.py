"""What a step of a recipe may do to a network. No torch here: recipes are checked without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Gt, Le

from mobileseg.nets.blocks import Channels, Count, Side
from mobileseg.nets.spec import Norm
from mobileseg.slim.decoder import How
from mobileseg.validate import Table

# Kernels work in steps of 4 to 64 channels.
_MAX_MULTIPLE = 1024


@dataclass(frozen=True)
class Skip(Table):
    """Skip connections: a 1x1 convolution from each source to the decoder stage of its size."""

    how: How
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Actions(Table):
    """What one recipe step does to a network; patterns are block names or globs ("conv5_*").

    image_size: (height, width) of the input; the output follows.
    remove: blocks to take out; what read them reads their input.
    width: channels per pattern. 0.5 is a factor: the result is the nearest multiple of
        `multiple_of` (halves up), at least one multiple, and never more than before if the factor
        is at most 1. 256 is a number of channels, taken as it is. A CReLU block hands on twice
        that. A full name goes before a glob; a glob passes over blocks that have no channels of
        their own, unless it matches only such.
    depthwise: channels of the depthwise layer itself, per pattern of separable blocks: a depthwise
        layer that narrows, as some Caffe nets have it. A number, no factor, that divides the
        channels that the block reads after `width`; each filter reads several of them. No width
        changes it later: where it no longer divides what the block reads, give it anew.
    deconv: channels of the decoder's stages, from the first. Where fewer doublings are given than
        needed, a bilinear resize to the image's size ends the network; where "classes" is not
        last, a 1x1 classifier follows. Skips are kept and land anew by size.
    crelu: separable blocks that become CReLU blocks.
    skip: all skip connections from now on; an empty `sources` takes them away.
    norm: what normalises from now on, "batch" or "group"; the scales and shifts stay.
    edges: a block, of the encoder where there is a decoder, that learns beside where classes meet:
        an auxiliary head reads it, which is trained with the network and in no file.
    """

    image_size: tuple[Side, Side] | None = None
    remove: tuple[str, ...] = ()
    width: dict[str, int | float] = field(default_factory=dict)
    multiple_of: Annotated[int, Gt(0), Le(_MAX_MULTIPLE)] = 8
    depthwise: dict[str, Count] = field(default_factory=dict)
    deconv: tuple[Channels, ...] | None = None
    crelu: tuple[str, ...] = ()
    skip: Skip | None = None
    norm: Norm | None = None
    edges: str | None = None
