"""A network as a person thinks of it: named blocks and numbers, plain data.

Recipes edit it, runs store it as `net.json`, `build` makes the module of it. Reading and counting
need no torch.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Le

from mobileseg.errors import MobilesegError, unknown
from mobileseg.nets.blocks import BLOCKS, IMAGE, MAX_SIDE, Block, Side, Size
from mobileseg.validate import Table, parse

# A block's name is a module attribute, a part of tensor names and of globs in recipes.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# 1 GB of float32: no phone runs it, and counting and building it takes our memory.
_MAX_PARAMS = 250_000_000
Classes: TypeAlias = Annotated[int, Ge(2), Le(255)]
# Of a batch, with its running statistics at work; or of groups of each picture's own channels.
Norm: TypeAlias = Literal["batch", "group"]


# Channels of an auxiliary head.
_SAID = ("classes", 1)


class TooLargeError(MobilesegError):
    """The network fits together but has more parameters than any phone holds."""


@dataclass(frozen=True)
class NetSpec(Table):
    """Blocks in running order. `image_size` is (height, width); the last block's output is ours.

    A block that gives "classes", is read by none and is not the last is an auxiliary head, and so
    is one of a single channel, which says where classes meet: it helps training, and no file, count
    or price knows it. `norm` is what the blocks' norms are; a
    group norm's own arithmetic is not counted.
    Raises MobilesegError where blocks do not fit together.
    """

    name: str
    image_size: tuple[Side, Side]
    classes: Classes
    blocks: tuple[Block, ...]
    norm: Norm = "batch"

    def __post_init__(self) -> None:
        if max(self.image_size) > MAX_SIDE or min(self.image_size) < 1:
            raise MobilesegError(
                f"{self.name}: image_size {self.image_size}; each side is 1 to {MAX_SIDE}"
            )
        seen = {IMAGE}
        for block in self.blocks:
            if not _NAME.fullmatch(block.name) or block.name == IMAGE:
                raise MobilesegError(
                    f"{self.name}: block name {block.name!r}; letters, digits and _, "
                    f"a letter first, and not {IMAGE!r}"
                )
            if block.name in seen:
                raise MobilesegError(f"{self.name}: two blocks are named {block.name!r}")
            for source in block.inputs:
                if source not in seen:
                    raise unknown(f"{self.name}: {block.name}", "block before it", source, seen)
            seen.add(block.name)
        if not self.blocks:
            raise MobilesegError(f"{self.name}: a network has at least one block")
        if self.params > _MAX_PARAMS:
            raise TooLargeError(
                f"{self.name}: {self.params:,} parameters, more than {_MAX_PARAMS:,}; "
                "give the blocks fewer channels or smaller kernels"
            )

    def __getitem__(self, name: str) -> Block:
        for block in self.blocks:
            if block.name == name:
                return block
        raise unknown(self.name, "block", name, (block.name for block in self.blocks))

    def concrete(self) -> tuple[Block, ...]:
        """Return the blocks with the word "classes" replaced by the number."""
        return tuple(block.resolve(self.classes) for block in self.blocks)

    def shapes(self) -> dict[str, Size]:
        """Return each block's output (channels, height, width), the image's among them."""
        sizes: dict[str, Size] = {IMAGE: (3, *self.image_size)}
        for block in self.concrete():
            sizes[block.name] = block.shape([sizes[name] for name in block.inputs])
        return sizes

    @property
    def params(self) -> int:
        """Trainable parameters of what is deployed; the statistics of batch norm are none."""
        return self._total(lambda block, inputs: block.params(inputs))

    @property
    def macs(self) -> int:
        """Multiply-adds of all convolutions for one image."""
        return self._total(lambda block, inputs: block.macs(inputs))

    def consumers(self, name: str) -> tuple[Block, ...]:
        """The blocks that read `name`."""
        return tuple(block for block in self.blocks if name in block.inputs)

    def _total(self, count: Callable[[Block, list[Size]], int]) -> int:
        sizes, live = self.shapes(), self.live()
        return sum(
            count(b, [sizes[name] for name in b.inputs]) for b in self.concrete() if b.name in live
        )

    def live(self) -> frozenset[str]:
        """The names of the blocks that the output depends on."""
        wanted = {self.blocks[-1].name}
        for block in reversed(self.blocks):
            if block.name in wanted:
                wanted.update(block.inputs)
        return frozenset(wanted - {IMAGE})

    def heads(self) -> tuple[str, ...]:
        """The auxiliary heads, in running order."""
        read = {name for block in self.blocks for name in block.inputs}
        return tuple(
            block.name
            for block in self.blocks[:-1]
            if block.name not in read and getattr(block, "channels", None) in _SAID
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data that `read_spec` takes back."""
        blocks = [{"kind": block.kind} | dataclasses.asdict(block) for block in self.blocks]
        plain = dataclasses.asdict(self) | {"blocks": blocks}
        # What is as ever is not said: a run's origin stays what it was.
        return plain if self.norm != "batch" else {k: v for k, v in plain.items() if k != "norm"}


def read_spec(data: object, where: str) -> NetSpec:
    """Return the spec that `as_dict` wrote. Raises MobilesegError naming `where` and the key."""
    if not isinstance(data, Mapping) or not isinstance(data.get("blocks"), list):
        raise MobilesegError(f"{where}: no network; it is a table with name, image_size, blocks")
    blocks: list[Block] = []
    problems: list[str] = []
    for number, entry in enumerate(data["blocks"], 1):
        try:
            blocks.append(_block(entry, f"{where}: blocks[{number}]"))
        except MobilesegError as error:
            problems.append(str(error))
    if problems:
        raise MobilesegError("\n".join(problems))
    head = parse(_Head, {k: v for k, v in data.items() if k != "blocks"}, where)
    return NetSpec(head.name, head.image_size, head.classes, tuple(blocks), head.norm)


def _block(entry: object, place: str) -> Block:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("kind"), str):
        raise MobilesegError(f"{place}: a block is a table with a kind")
    if entry["kind"] not in BLOCKS:
        raise unknown(place, "kind of block", entry["kind"], BLOCKS)
    fields = {key: value for key, value in entry.items() if key != "kind"}
    return parse(BLOCKS[entry["kind"]], fields, place)


def read_spec_file(path: Path) -> NetSpec:
    """Return the network that a TOML file describes: name, image_size, classes, [[blocks]].

    Raises MobilesegError with the file's mistakes.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MobilesegError(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MobilesegError(f"{path}: is no TOML: {error}") from None
    return read_spec(data, str(path))


@dataclass(frozen=True)
class _Head(Table):
    name: str
    image_size: tuple[Side, Side]
    classes: Classes
    norm: Norm = "batch"
