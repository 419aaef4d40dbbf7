"""A network spec and the actions of one recipe step to the next spec.

Actions run in the order of their fields; decoder and sizes are settled once, after the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mobileseg.errors import MobilesegError, matching, unknown
from mobileseg.nets.blocks import (
    IMAGE,
    MAX_CHANNELS,
    Block,
    Channels,
    Conv,
    Separable,
    Size,
    Upsample,
)
from mobileseg.nets.spec import NetSpec, TooLargeError
from mobileseg.slim.actions import Actions
from mobileseg.slim.decoder import Decoder, split

# The name of the auxiliary head that says where classes meet.
EDGES = "edges"
# A larger factor is surely a number of channels with a stray decimal point.
_MAX_FACTOR = 4.0


@dataclass(frozen=True)
class _Draft:
    """The network at work: not yet whole. `old` is the spec as the step found it.

    `body` is the encoder, or all blocks of a network whose decoder is None.
    """

    old: NetSpec
    body: tuple[Block, ...]
    decoder: Decoder | None

    @property
    def names(self) -> list[str]:
        inside = {block.name for block in self.body}
        gone = {block.name for block in split(self.old)[0]} - inside
        return [block.name for block in self.old.blocks if block.name not in gone]

    def wanted(self, key: str) -> Decoder:
        if self.decoder is None:
            raise MobilesegError(
                f"{key}: {self.old.name} has no decoder of plain deconvolutions; "
                "this step is for networks that end in deconv1, deconv2, ..."
            )
        return self.decoder


def apply(spec: NetSpec, actions: Actions, where: str) -> NetSpec:
    """Return the spec that the actions make of `spec`; its output has the image's size.

    Raises MobilesegError, opened by `where` and the key, for what does not fit.
    """
    try:
        draft = _Draft(replace(spec, norm=actions.norm or spec.norm), *split(spec))
        draft = _remove(draft, actions)
        draft = _width(draft, actions)
        draft = _depthwise(draft, actions)
        draft = _deconv(draft, actions)
        draft = _crelu(draft, actions)
        draft = _skip(draft, actions)
        draft = _edges(draft, actions)
        return _finish(draft, actions)
    except MobilesegError as error:
        raise MobilesegError(f"{where}: {error}") from None


def _match(key: str, pattern: str, names: Sequence[str]) -> list[str]:
    found = matching(key, "block", [pattern], names)
    return [name for name in names if name in found]


def _remove(draft: _Draft, actions: Actions) -> _Draft:
    gone = [name for p in actions.remove for name in _match("remove", p, draft.names)]
    for name in dict.fromkeys(gone):
        draft = _remove_one(draft, name, actions)
    if not draft.body:
        raise MobilesegError("remove: no block is left; keep some")
    return draft


def _remove_one(draft: _Draft, name: str, actions: Actions) -> _Draft:
    decoder = draft.decoder
    if decoder and name not in {block.name for block in draft.body}:
        raise MobilesegError(
            f"remove: {name} is of the decoder; give its `deconv` channels or `skip` instead"
        )
    if decoder and name in decoder.sources and actions.skip is None:
        rest = [source for source in decoder.sources if source != name]
        raise MobilesegError(
            f"remove: a skip starts at {name}; give `skip` in this step too, "
            f'for example {{ how = "{decoder.how}", sources = {_toml(rest)} }}'
        )
    block = next(block for block in draft.body if block.name == name)
    # A sum is as good as removed once a branch of it is: then it reads one block twice.
    sources = tuple(dict.fromkeys(block.carriers()))
    if len(sources) != 1:
        raise MobilesegError(
            f"remove: {name} reads {' and '.join(sources)}; only a block with one input can go"
        )
    if decoder is None and block is draft.body[-1]:
        raise MobilesegError(f"remove: {name} is the network's output; keep it")
    (source,) = sources
    body = tuple(_rewired(b, name, source) for b in draft.body if b is not block)
    if decoder and decoder.source == name:
        decoder = replace(decoder, source=source)
    return replace(draft, body=body, decoder=decoder)


def _rewired(block: Block, old: str, new: str) -> Block:
    return replace(block, inputs=tuple(new if i == old else i for i in block.inputs))


def _width(draft: _Draft, actions: Actions) -> _Draft:
    wishes: dict[str, tuple[str, float]] = {}
    # Full names last: they overrule globs.
    for pattern in sorted(actions.width, key=lambda p: p in draft.names):
        _check_wish(pattern, actions.width[pattern])
        names = _match("width", pattern, draft.names)
        free = [name for name in names if _own_channels(draft, name, actions) is not None]
        if not free:
            raise MobilesegError(f"width: {names[0]} {_why_fixed(draft, names[0], actions)}")
        for name in free:
            if name in wishes and pattern != name:
                raise _twice("width", wishes[name][0], pattern, name)
            wishes[name] = (pattern, actions.width[pattern])
    for name, (_, wish) in wishes.items():
        before = _own_channels(draft, name, actions)
        assert before is not None
        draft = _set_channels(draft, name, _rounded(before, wish, actions.multiple_of))
    return draft


def _check_wish(pattern: str, wish: float) -> None:
    whole = isinstance(wish, int)
    most = MAX_CHANNELS if whole else _MAX_FACTOR
    if not 0 < wish <= most:
        raise MobilesegError(
            f"width.{pattern}: {wish}; with a point it is a factor up to {_MAX_FACTOR}, "
            f"without one a number of channels up to {MAX_CHANNELS}, and more than 0"
        )


def _rounded(before: int, wish: float, multiple: int) -> int:
    if isinstance(wish, int):
        return wish
    after = max(int(before * wish / multiple + 0.5), 1) * multiple
    return min(after, before) if wish <= 1 else after


def _own_channels(draft: _Draft, name: str, actions: Actions) -> int | None:
    """Return the channels that a width may change, None where there are none."""
    block = next((b for b in draft.body if b.name == name), None)
    channels: object = getattr(block, "channels", None)
    if name == EDGES:
        return None
    if block is None and draft.decoder and actions.deconv is None:
        channels = _stages(draft.decoder).get(name)
    return channels if isinstance(channels, int) else None


def _why_fixed(draft: _Draft, name: str, actions: Actions) -> str:
    if draft.decoder and actions.deconv is not None and name in _stages(draft.decoder):
        return "gets its channels from this step's `deconv`; write them there"
    if getattr(draft.old[name], "channels", None) == "classes":
        return "gives the classes; their number is the data's"
    if name == EDGES:
        return "says where classes meet; one channel does"
    if name.startswith("skip") and draft.decoder:
        return f"has the channels of its decoder stage; set those of deconv{name[4:]}"
    return f"({draft.old[name].kind}) has no channels of its own; set those of its inputs"


def _stages(decoder: Decoder) -> dict[str, Channels]:
    return {f"deconv{i}": channels for i, channels in enumerate(decoder.channels, 1)}


def _set_channels(draft: _Draft, name: str, channels: int) -> _Draft:
    body = tuple(
        replace(b, channels=channels) if b.name == name else b  # type: ignore[call-arg]
        for b in draft.body
    )
    decoder = draft.decoder
    if decoder and name in _stages(decoder):
        stages = (_stages(decoder) | {name: channels}).values()
        decoder = replace(decoder, channels=tuple(stages))
    return replace(draft, body=body, decoder=decoder)


def _depthwise(draft: _Draft, actions: Actions) -> _Draft:
    wishes: dict[str, str] = {}
    for pattern in sorted(actions.depthwise, key=lambda p: p in draft.names):
        for name in _separable("depthwise", pattern, draft):
            if name in wishes and pattern != name:
                raise _twice("depthwise", wishes[name], pattern, name)
            wishes[name] = pattern
    body = tuple(
        replace(b, depthwise=actions.depthwise[wishes[b.name]])
        if isinstance(b, Separable) and b.name in wishes
        else b
        for b in draft.body
    )
    return replace(draft, body=body)


def _separable(key: str, pattern: str, draft: _Draft) -> list[str]:
    """Return the separable blocks that the pattern matches. Raises where it matches only others."""
    names = _match(key, pattern, draft.names)
    kinds = [b.name for b in draft.body if isinstance(b, Separable)]
    found = [name for name in kinds if name in names]
    if not found:
        name = min(names)
        raise MobilesegError(
            f"{key}: {name} is a {draft.old[name].kind}; separable blocks can: "
            f"{', '.join(kinds) or 'there is none here'}"
        )
    return found


def _twice(key: str, first: str, second: str, name: str) -> MobilesegError:
    return MobilesegError(
        f"{key}: {first!r} and {second!r} both match {name}; give each block one {key}"
    )


def _deconv(draft: _Draft, actions: Actions) -> _Draft:
    if actions.deconv is None:
        return draft
    decoder = draft.wanted("deconv")
    if "classes" in actions.deconv[:-1]:
        raise MobilesegError('deconv: "classes" is the last entry or none; write numbers before it')
    return replace(draft, decoder=replace(decoder, channels=actions.deconv))


def _crelu(draft: _Draft, actions: Actions) -> _Draft:
    for pattern in actions.crelu:
        names = _separable("crelu", pattern, draft)
        body = tuple(
            replace(b, crelu=True) if isinstance(b, Separable) and b.name in names else b
            for b in draft.body
        )
        draft = replace(draft, body=body)
    return draft


def _skip(draft: _Draft, actions: Actions) -> _Draft:
    if actions.skip is None:
        return draft
    decoder = draft.wanted("skip")
    twice = [s for s in actions.skip.sources if actions.skip.sources.count(s) > 1]
    if twice:
        raise MobilesegError(f"skip.sources: {twice[0]} stands there twice; once is enough")
    changed = replace(decoder, how=actions.skip.how, sources=actions.skip.sources)
    return replace(draft, decoder=changed)


def _edges(draft: _Draft, actions: Actions) -> _Draft:
    if actions.edges is None:
        return draft
    body = [block for block in draft.body if block.name != EDGES]
    names = [block.name for block in body]
    if actions.edges not in names[:-1] and (draft.decoder is None or actions.edges not in names):
        raise unknown("edges", "block before the output", actions.edges, names)
    head = Conv(EDGES, (actions.edges,), 1, kernel=1, norm=False, activation="none")
    body.insert(names.index(actions.edges) + 1, head)
    return replace(draft, body=tuple(body))


def _finish(draft: _Draft, actions: Actions) -> NetSpec:
    image_size = actions.image_size or draft.old.image_size
    body, sizes = _resized(draft, image_size)
    blocks = list(body)
    if draft.decoder:
        output = draft.decoder.stage_sizes(sizes)[-1:] or [sizes[draft.decoder.source][1:]]
        _check_output(draft, output[0], image_size)
        blocks += draft.decoder.blocks(sizes, image_size)
    try:
        spec = replace(draft.old, image_size=image_size, blocks=tuple(blocks))
    except TooLargeError:
        raise
    except MobilesegError as error:
        raise _unfit(error) from None
    output_size = spec.shapes()[spec.blocks[-1].name]
    _check_output(draft, output_size[1:], image_size)
    if output_size != (spec.classes, *image_size):
        raise MobilesegError(
            f"the step leaves an output of {output_size}, channels first; "
            f"it must be {(spec.classes, *image_size)}: undo what cut it"
        )
    return spec


def _unfit(error: MobilesegError) -> MobilesegError:
    return MobilesegError(
        f"the step leaves blocks that do not fit: {error}; change what they read alike"
    )


def _resized(
    draft: _Draft, image_size: tuple[int, int]
) -> tuple[tuple[Block, ...], dict[str, Size]]:
    """Return the body with every Upsample to the new size of what it met before, and all sizes."""
    before = draft.old.shapes()
    sizes: dict[str, Size] = {IMAGE: (3, *image_size)}
    body = []
    for block in draft.body:
        if isinstance(block, Upsample) and block.size is not None:
            met = {sizes[name][1:] for name in sizes if before[name][1:] == block.size}
            if len(met) != 1:
                raise MobilesegError(
                    f"{block.name}: resizes to {block.size}, which now is {sorted(met) or 'gone'}; "
                    "take an image_size that every stride divides, or keep the block it met"
                )
            block = replace(block, size=met.pop())  # noqa: PLW2901
        body.append(block)
        inputs = [sizes[name] for name in block.inputs]
        _check_depthwise(block, inputs)
        try:
            sizes[block.name] = block.resolve(draft.old.classes).shape(inputs)
        except MobilesegError as error:
            raise _unfit(error) from None
    return tuple(body), sizes


def _check_depthwise(block: Block, inputs: Sequence[Size]) -> None:
    if not isinstance(block, Separable) or len(inputs) != 1:
        return
    try:
        block.hidden(inputs[0][0])
    except MobilesegError as error:
        raise MobilesegError(f"depthwise: {error}, with this step's `depthwise`") from None


def _check_output(draft: _Draft, output: tuple[int, int], image_size: tuple[int, int]) -> None:
    if output[0] <= image_size[0] and output[1] <= image_size[1]:
        return
    sizes = "the output would be {}x{}, larger than the image of {}x{}".format(*output, *image_size)
    decoder = draft.decoder
    if decoder is None:
        raise MobilesegError(
            f"image_size: {sizes}; take a size that the network's stride divides "
            "and keep the blocks with a stride"
        )
    surplus = 0
    while any(n > i << surplus for n, i in zip(output, image_size, strict=True)):
        surplus += 1
    fitting = _toml(decoder.channels[surplus:])
    other = ""
    if all(o < 2 * i for o, i in zip(output, image_size, strict=True)):
        other = f", or an image_size the stride divides, such as {list(output)}"
    raise MobilesegError(
        f"deconv: {sizes}; each of the {len(decoder.channels)} stages doubles it. "
        f"Give fewer in this step, such as deconv = {fitting}{other}"
    )


def _toml(values: Sequence[object]) -> str:
    return "[" + ", ".join(f'"{v}"' if isinstance(v, str) else str(v) for v in values) + "]"
