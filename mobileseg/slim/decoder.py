"""The deconvolution decoder of a network: read off its blocks, and written as blocks again.

    features -> deconv1 [+ skip1] -> deconv2 [+ skip2] -> ... [-> classifier] [-> upsample]

A recipe speaks of channels and of skip sources; where a skip lands, and whether a classifier and an
upsampling must follow, comes out of the sizes. So a decoder can be edited in parts and is written
once, when everything is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mobileseg.errors import MobilesegError, unknown
from mobileseg.nets.blocks import Block, Channels, Conv, Deconv, Join, Size, Sum, Upsample
from mobileseg.nets.spec import NetSpec

How: TypeAlias = Literal["add", "concat"]
CLASSIFIER = "classifier"
_MERGE: dict[How, tuple[type[Block], str]] = {"add": (Sum, "sum"), "concat": (Join, "join")}


@dataclass(frozen=True)
class Decoder:
    """Channels of the deconvolutions that read `source`, and the encoder blocks that skip to them.

    Every stage doubles height and width. `how` tells what a skip does with its stage's output.
    """

    source: str
    channels: tuple[Channels, ...]
    how: How = "add"
    sources: tuple[str, ...] = ()

    def stage_sizes(self, sizes: Mapping[str, Size]) -> list[tuple[int, int]]:
        """Return (height, width) of every stage's output."""
        _, h, w = sizes[self.source]
        return [(h << stage, w << stage) for stage in range(1, len(self.channels) + 1)]

    def blocks(self, sizes: Mapping[str, Size], image_size: tuple[int, int]) -> list[Block]:
        """Return the decoder as blocks behind an encoder whose outputs have these sizes.

        Raises MobilesegError where a skip meets no stage. An output larger than the image is left
        as it is.
        """
        skips = self._landings(sizes)
        blocks: list[Block] = []
        last = self.source
        for stage, channels in enumerate(self.channels, 1):
            name = f"deconv{stage}"
            if channels == "classes":
                blocks.append(Deconv(name, (last,), channels, norm=False, activation="none"))
            else:
                blocks.append(Deconv(name, (last,), channels))
            if stage in skips:
                kind, word = _MERGE[self.how]
                blocks.append(Conv(f"skip{stage}", (skips[stage],), channels, kernel=1))
                blocks.append(kind(f"{word}{stage}", (name, f"skip{stage}")))
            last = blocks[-1].name
        return blocks + self._tail(last, sizes, image_size)

    def _tail(
        self, last: str, sizes: Mapping[str, Size], image_size: tuple[int, int]
    ) -> list[Block]:
        tail: list[Block] = []
        if self.channels[-1:] != ("classes",):
            head = Conv(CLASSIFIER, (last,), "classes", kernel=1, norm=False, activation="none")
            tail.append(head)
            last = head.name
        size = (self.stage_sizes(sizes) or [sizes[self.source][1:]])[-1]
        if size != image_size and size[0] <= image_size[0] and size[1] <= image_size[1]:
            tail.append(Upsample("upsample", (last,), image_size))
        return tail

    def _landings(self, sizes: Mapping[str, Size]) -> dict[int, str]:
        """Return the source that skips to each stage (from 1), by equal height and width."""
        outputs = self.stage_sizes(sizes)
        landings: dict[int, str] = {}
        for source in self.sources:
            if source not in sizes:
                raise unknown("skip.sources", "encoder block", source, sizes)
            if sizes[source][1:] not in outputs:
                there = ", ".join(f"deconv{i} {h}x{w}" for i, (h, w) in enumerate(outputs, 1))
                raise MobilesegError(
                    f"skip.sources: {source} is {_by(sizes[source])} and no decoder stage's output "
                    f"is; there are: {there or 'none'}"
                )
            stage = outputs.index(sizes[source][1:]) + 1
            if self.channels[stage - 1] == "classes":
                raise MobilesegError(
                    f"skip.sources: {source} is {_by(sizes[source])} and meets deconv{stage}, "
                    "which gives the classes; take an earlier size, or end `deconv` with a number"
                )
            if stage in landings:
                raise MobilesegError(
                    f"skip.sources: {landings[stage]} and {source} both are {_by(sizes[source])} "
                    f"and meet deconv{stage}; keep one of them"
                )
            landings[stage] = source
        return landings


def _by(size: Size) -> str:
    return f"{size[1]}x{size[2]}"


def split(spec: NetSpec) -> tuple[tuple[Block, ...], Decoder | None]:
    """Return the encoder's blocks and the decoder; all blocks and None where it is of another kind.

    The decoder is taken apart only if putting it together gives the very same blocks.
    """
    start = next((i for i, b in enumerate(spec.blocks) if _starts(b)), len(spec.blocks))
    encoder, rest = spec.blocks[:start], spec.blocks[start:]
    if not encoder or not rest:
        return spec.blocks, None
    skips = {b.name: b.inputs[0] for b in rest if isinstance(b, Conv) and b.name != CLASSIFIER}
    decoder = Decoder(
        source=rest[0].inputs[0],
        channels=tuple(b.channels for b in rest if isinstance(b, Deconv)),
        how="concat" if any(isinstance(b, Join) for b in rest) else "add",
        sources=tuple(skips.values()),
    )
    sizes = {name: size for name, size in spec.shapes().items() if name not in _names(rest)}
    try:
        same = tuple(decoder.blocks(sizes, spec.image_size)) == rest
    except (MobilesegError, KeyError):
        same = False
    return (encoder, decoder) if same else (spec.blocks, None)


def _starts(block: Block) -> bool:
    return isinstance(block, Deconv) or block.name == CLASSIFIER


def _names(blocks: tuple[Block, ...]) -> set[str]:
    return {block.name for block in blocks}
