"""ImageNet encoders: a published 8-bit MobileNet as our blocks with batch norm, kept as a file.

    .npz of folded convolutions + pictures -> Encoder (spec, state) -> .safetensors -> Encoder

The published convolutions have their batch norms folded in. Fine-tuning wants them back: each norm
gets the mean and variance that its convolution shows on the pictures, and the scale and shift that
undo them. In eval mode the function is the published one exactly, in train mode nearly so.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from mobileseg.errors import MobilesegError, unknown
from mobileseg.files import read_json, write_atomic
from mobileseg.nets.blocks import Block, Depthwise, Separable
from mobileseg.nets.module import Net, build
from mobileseg.nets.published import Verified, verify
from mobileseg.nets.spec import NetSpec, read_spec
from mobileseg.nets.zoo.draft import Draft
from mobileseg.nets.zoo.mobilenet import mobilenet_v1_encoder, mobilenet_v2_encoder

U8: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]
State: TypeAlias = dict[str, Tensor]

# 160 pixels: where our nets work; the statistics of norms depend on scale only a little.
_SIDE = 160
_BATCH = 16  # pictures at once: conv2_1's output of 16 takes 26 MB
# Pictures that an import is held against its source on: seconds, and enough to tell.
_VERIFIED = 8
_KEY = "mobileseg"
_ORIGIN = "google-coral/test_data: ImageNet MobileNet, 8-bit, dequantised to float"
_LICENCE = "Apache-2.0"


class Encoder(NamedTuple):
    """Blocks without decoder and their float32 state: a parent whose weights others inherit."""

    spec: NetSpec
    state: State


@dataclass(frozen=True)
class _Layer:
    """A convolution of the file, and the names of ours: block, convolution, norm."""

    weight: Floats
    bias: Floats
    block: str
    conv: str
    norm: str


def import_encoder(npz: Path, ops_json: Path, images: U8, until: str | None = None) -> Encoder:
    """Return the published MobileNetV1 or V2 as an encoder whose norms fit `images` [N, H, W, 3].

    `until` is the last block to take. Raises MobilesegError for files that hold another network.
    """
    layers, blocks = _read_layers(npz, ops_json, until)
    height, width = images.shape[1:3]
    # An encoder has no classes; a spec needs a number.
    spec = NetSpec(f"{npz.stem}_encoder", (height, width), 2, tuple(blocks))
    net = build(spec)
    with torch.no_grad():
        for layer in layers:
            _set_folded(net, layer)
        seen = _measure(net, images)
        for layer in layers:
            _unfold(net, layer, *seen[f"{layer.block}.{layer.norm}"])
    return Encoder(spec, {k: v.detach().clone() for k, v in net.state_dict().items()})


def import_command(
    npz: Path, images: Path, out: Path, until: str | None = None, size: int = _SIDE
) -> tuple[Encoder, Verified]:
    """Import the .npz (its .ops.json beside it), write it to `out`, return it as `out` gives it.

    It is held against the published network on the first pictures. `images` is a folder with
    pictures, or with a train.txt whose lines open with a picture's path. Raises MobilesegError
    where the files hold another network, or the import computes something else.
    """
    ops_json, pictures = npz.with_suffix(".ops.json"), _pictures(images, size)
    encoder = import_encoder(npz, ops_json, pictures, until)
    tail = f" --until {until}" if until else ""
    command = f"mobileseg weights import {npz.name} --images {images.name} --out {out.name}{tail}"
    save_encoder(out, encoder, {"origin": _ORIGIN, "licence": _LICENCE, "command": command})
    written = load_encoder(out)
    net = build(written.spec)
    net.load_state_dict(written.state)
    shown = next(_batches(pictures[:_VERIFIED]))
    return written, verify(net, _read_npz(npz), read_json(ops_json), shown, str(npz))


def save_encoder(path: Path, encoder: Encoder, facts: Mapping[str, str]) -> None:
    """Write the encoder as safetensors, its spec and the facts in the metadata.

    Weights are float16, which holds dequantised 8-bit numbers to 0.05 %; norms stay float32, for
    their parts must undo each other.
    """
    tensors = {
        name: (tensor.half() if tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in encoder.state.items()
        if tensor.is_floating_point()
    }
    about = json.dumps({"spec": encoder.spec.as_dict(), **facts}, sort_keys=True)
    write_atomic(path, save(tensors, metadata={_KEY: about}))


def load_encoder(path: Path) -> Encoder:
    """Return the encoder or whole network of the file, in float32.

    Raises MobilesegError where it is none.
    """
    if not path.is_file():
        raise MobilesegError(
            f"{path}: there is no such file; `mobileseg weights import` makes one from a .npz"
        )
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise MobilesegError(
            f"{path}: damaged or not weights of mobileseg ({error}); "
            "get it anew, or make it with `mobileseg weights import`"
        ) from None
    spec = read_spec(about.get("spec") if isinstance(about, dict) else None, str(path))
    whole = build(spec, device="meta").state_dict()
    needed = {name: tuple(tensor.shape) for name, tensor in whole.items() if tensor.ndim}
    if needed != {name: tuple(tensor.shape) for name, tensor in state.items()}:
        raise MobilesegError(
            f"{path}: its tensors are not those of its own network; "
            "make it again with `mobileseg weights import`"
        )
    counters = {name: torch.tensor(0) for name in whole if name not in needed}
    return Encoder(spec, state | counters)


def _read_layers(npz: Path, ops_json: Path, until: str | None) -> tuple[list[_Layer], list[Block]]:
    """Return the file's convolutions under our names, and the blocks with their widths."""
    arrays = _read_npz(npz)
    ops = read_json(ops_json)
    convs = [op for op in ops if isinstance(op, dict) and op.get("op") == "conv"]
    whole, network = _encoder(convs)
    layers: list[_Layer] = []
    blocks: list[Block] = []
    into, index = 3, -1
    for block, conv, norm in _our_layers(whole, until, npz):
        if not conv:
            blocks.append(block)
            continue
        index += 1
        if f"conv{index}.weight" not in arrays:
            break
        weight, bias = arrays[f"conv{index}.weight"], arrays.get(f"conv{index}.bias")
        expected = _expected(block, conv, weight, into)
        found = _found(convs[index] if index < len(convs) else {}, weight)
        if found != expected or bias is None or bias.shape != weight.shape[:1]:
            raise MobilesegError(
                f"{npz}: conv{index} is {found}, and {network}'s {block.name}.{conv} {expected}; "
                f"take the files of a {network}"
            )
        layers.append(_Layer(weight, bias, block.name, conv, norm))
        if isinstance(block, Depthwise):
            blocks.append(block)
        elif conv != "dw":
            into = len(weight)
            blocks.append(replace(block, channels=into))  # type: ignore[call-arg]
    if until and (not blocks or blocks[-1].name != until):
        raise unknown(str(npz), "block", until, [block.name for block in blocks])
    if len(blocks) < 2:
        raise MobilesegError(
            f"{npz}: has no conv0.weight, conv1.weight ...; take a MobileNetV1 or V2"
        )
    return layers, blocks


def _read_npz(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        raise MobilesegError(f"{path}: there is no such file")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: np.asarray(file[name], np.float32) for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise MobilesegError(f"{path}: is no readable .npz ({error}); get it anew") from None


def _encoder(convs: list[dict[str, Any]]) -> tuple[list[Block], str]:
    """Return the blocks of the network that the file seems to hold, and its name."""
    # Its third convolution tells: V1's separable block ends in a ReLU6, V2's projection in nothing.
    if len(convs) > 2 and convs[2].get("act") == "none":
        draft = Draft()
        mobilenet_v2_encoder(draft)
        return draft.blocks, "MobileNetV2"
    return mobilenet_v1_encoder(), "MobileNetV1"


def _our_layers(
    blocks: list[Block], until: str | None, npz: Path
) -> Iterator[tuple[Block, str, str]]:
    """Yield blocks with the names of their convolution and norm; of a sum both are empty."""
    names = [block.name for block in blocks]
    if until and until not in names:
        raise unknown(str(npz), "block", until, names)
    for block in blocks[: names.index(until) + 1] if until else blocks:
        if isinstance(block, Separable):
            yield block, "dw", "dw_norm"
            yield block, "pw", "norm"
        elif block.axes():
            yield block, "conv", "norm"
        else:
            yield block, "", ""


def _expected(block: Block, conv: str, weight: Floats, into: int) -> dict[str, Any]:
    stride = getattr(block, "stride", 1)
    rest = {"dtype": "float32", "act": getattr(block, "activation", "none")}
    if conv == "dw" or isinstance(block, Depthwise):
        return {"shape": (into, 1, 3, 3), "stride": stride, "groups": into} | rest
    kernel = 1 if conv == "pw" else getattr(block, "kernel", 3)
    shape = (len(weight), into, kernel, kernel)
    return {"shape": shape, "stride": 1 if conv == "pw" else stride, "groups": 1} | rest


def _found(op: Mapping[str, Any], weight: Floats) -> dict[str, Any]:
    facts = {key: op.get(key) for key in ("stride", "groups")}
    return {"shape": weight.shape, **facts, "dtype": str(weight.dtype), "act": op.get("act")}


def _parts(net: Net, layer: _Layer) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    conv = net.get_submodule(f"{layer.block}.{layer.conv}")
    norm = net.get_submodule(f"{layer.block}.{layer.norm}")
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return conv, norm


def _set_folded(net: Net, layer: _Layer) -> None:
    """Set the convolution, and a norm that only adds the bias."""
    conv, norm = _parts(net, layer)
    conv.weight.copy_(torch.from_numpy(layer.weight))
    _set_norm(norm, torch.zeros(norm.num_features), torch.ones(norm.num_features), layer.bias)


def _unfold(net: Net, layer: _Layer, mean: Tensor, var: Tensor) -> None:
    _set_norm(_parts(net, layer)[1], mean, var, layer.bias)


def _set_norm(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, bias: Floats) -> None:
    # A channel that is the same everywhere has variance 0 and so a tiny scale: what it adds is its
    # shift, and that holds.
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    norm.weight.copy_((var.double() + norm.eps).sqrt())
    norm.bias.copy_(mean.double() + torch.from_numpy(bias))


def _measure(net: Net, images: U8) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and variance of what enters every norm, over all the pictures."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str, layer: nn.Module) -> None:
        def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].double()
            both = torch.stack([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3))])
            sums[name] = sums.get(name, torch.zeros_like(both)) + both
            counts[name] = counts.get(name, 0) + x[:, 0].numel()

        layer.register_forward_pre_hook(see)

    for name, layer in net.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            watch(name, layer)
    for batch in _batches(images):
        net(batch)
    result = {}
    for name, (first, second) in sums.items():
        mean = first / counts[name]
        var = (second / counts[name] - mean**2).clamp_min(0)
        result[name] = (mean.float(), var.float())
    return result


def _batches(images: U8) -> Iterator[Tensor]:
    for start in range(0, len(images), _BATCH):
        pixels = torch.from_numpy(images[start : start + _BATCH]).permute(0, 3, 1, 2)
        yield (pixels.float() - 128) / 128


def _pictures(folder: Path, size: int) -> U8:
    """Return the folder's pictures as uint8 [N, size, size, 3]."""
    listed = folder / "train.txt"
    if listed.is_file():
        lines = listed.read_text(encoding="utf-8").splitlines()
        paths = [folder / line.split()[0] for line in lines if line.strip()]
    else:
        kinds = {".jpg", ".jpeg", ".png"}
        paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in kinds)
    if not paths:
        raise MobilesegError(f"{folder}: has no .jpg or .png picture and no train.txt naming some")
    return np.stack([_picture(path, size) for path in paths])


def _picture(path: Path, size: int) -> U8:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
    except (OSError, ValueError, SyntaxError) as error:
        raise MobilesegError(f"{path}: missing or no picture ({error}); replace it") from None
