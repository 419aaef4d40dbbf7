"""Imported encoders compute what the folded network computes, from file to file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from mobileseg.errors import MobilesegError
from mobileseg.files import shipped
from mobileseg.nets.module import build
from mobileseg.nets.pretrained import (
    Encoder,
    import_command,
    import_encoder,
    load_encoder,
    save_encoder,
)

# stride and output channels of the first blocks of a MobileNetV1 of width 1/8
CONVS = [(2, 4), (1, 4), (1, 8), (2, 8), (1, 16), (1, 16), (1, 20)]
Ops = list[dict[str, Any]]
Arrays = dict[str, np.ndarray]


def published() -> tuple[Arrays, Ops]:
    """Folded convolutions as the published files hold them; some channels are dead."""
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    ops: Ops = [{"op": "softmax"}]
    into = 3
    for i, (stride, out) in enumerate(CONVS):
        depthwise, kernel = i % 2 == 1, 1 if i and i % 2 == 0 else 3
        weight = rng.normal(0, 0.5, (out, 1 if depthwise else into, kernel, kernel))
        weight[1] = 0
        arrays[f"conv{i}.weight"] = weight.astype(np.float32)
        arrays[f"conv{i}.bias"] = rng.normal(0.5, 0.5, out).astype(np.float32)
        groups = into if depthwise else 1
        facts = {"stride": stride, "groups": groups, "k": kernel, "act": "relu6"}
        ops.append({"op": "conv", "inp": i, "out": i + 1, **facts})
        into = out
    return arrays, ops


def write(folder: Path, arrays: Arrays, ops: Ops) -> tuple[Path, Path]:
    npz, ops_json = folder / "v1.npz", folder / "v1.ops.json"
    np.savez(npz, **arrays)  # type: ignore[arg-type]
    ops_json.write_text(json.dumps(ops))
    return npz, ops_json


def folded(arrays: Arrays, ops: Ops, x: torch.Tensor) -> torch.Tensor:
    """The published network, straight from its numbers, with TensorFlow's SAME padding."""
    for i, op in enumerate(op for op in ops if op["op"] == "conv"):
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            out = (size + op["stride"] - 1) // op["stride"]
            total = max((out - 1) * op["stride"] + op["k"] - size, 0)
            pads += [total // 2, total - total // 2]
        weight, bias = (torch.from_numpy(arrays[f"conv{i}.{n}"]) for n in ("weight", "bias"))
        x = F.conv2d(F.pad(x, pads), weight, bias, op["stride"], groups=op["groups"]).clamp(0, 6)
    return x


def photos(count: int = 20, height: int = 33, width: int = 30) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def as_input(images: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 128) / 128


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return import_encoder(*write(tmp_path, *published()), photos())


def test_eval_mode_is_the_folded_network(encoder: Encoder) -> None:
    net = build(encoder.spec)
    net.load_state_dict(encoder.state)
    other = as_input(np.random.default_rng(2).integers(0, 256, (2, 33, 30, 3), dtype=np.uint8))
    with torch.no_grad():
        torch.testing.assert_close(net(other), folded(*published(), other), atol=1e-4, rtol=1e-4)


def test_train_mode_is_nearly_the_folded_network(encoder: Encoder) -> None:
    net = build(encoder.spec)
    net.load_state_dict(encoder.state)
    net.train()
    images = as_input(photos())
    with torch.no_grad():
        torch.testing.assert_close(net(images), folded(*published(), images), atol=1e-3, rtol=1e-3)


def test_blocks_have_our_names_and_the_file_s_widths(encoder: Encoder) -> None:
    sizes = encoder.spec.shapes()
    assert {n: s[0] for n, s in sizes.items() if n != "image"} == {
        "conv1": 4,
        "conv2_1": 8,
        "conv2_2": 16,
        "conv3_1": 20,
    }


def test_until_ends_the_encoder(tmp_path: Path) -> None:
    files = write(tmp_path, *published())
    assert import_encoder(*files, photos(), "conv2_2").spec.blocks[-1].name == "conv2_2"
    with pytest.raises(MobilesegError, match="no block is named 'conv6'"):
        import_encoder(*files, photos(), "conv6")
    with pytest.raises(MobilesegError, match="did you mean 'conv2_2'"):
        import_encoder(*files, photos(), "conv2_2b")


def test_a_file_holds_the_encoder(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "new" / "v1.safetensors"
    save_encoder(path, encoder, {"origin": "a test"})
    back = load_encoder(path)
    assert back.spec == encoder.spec
    assert back.state.keys() == encoder.state.keys()
    for name, tensor in encoder.state.items():
        torch.testing.assert_close(back.state[name], tensor, atol=1e-3, rtol=1e-3)
        if tensor.ndim == 1:
            assert torch.equal(back.state[name], tensor)
    before = path.read_bytes()
    save_encoder(path, encoder, {"origin": "a test"})
    assert path.read_bytes() == before


def test_the_command_takes_a_folder_of_pictures(tmp_path: Path) -> None:
    npz, _ = write(tmp_path, *published())
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(MobilesegError, match=r"has no \.jpg or \.png picture"):
        import_command(npz, folder, tmp_path / "out.safetensors")
    for number, image in enumerate(photos(3)):
        Image.fromarray(image).save(folder / f"{number}.png")
    every, found = import_command(npz, folder, tmp_path / "out.safetensors", size=24)
    assert every.spec.image_size == (24, 24)
    # The invented file has no classifier; float16 weights are all that differs.
    assert found.pictures == 3 and 0 < found.error < 1e-3 and found.ours == ()
    (folder / "train.txt").write_text("0.png masks/0.png\n\n2.png masks/2.png\n")
    listed, _ = import_command(npz, folder, tmp_path / "out.safetensors", size=24)
    mean = "conv1.norm.running_mean"
    assert not torch.equal(listed.state[mean], every.state[mean])
    (folder / "2.png").write_bytes(b"no picture")
    with pytest.raises(MobilesegError, match=r"2\.png: missing or no picture"):
        import_command(npz, folder, tmp_path / "out.safetensors")


def with_classifier() -> tuple[Arrays, Ops]:
    """The same with a mean and a classifier of nine classes behind it."""
    arrays, ops = published()
    index, into = len(CONVS), CONVS[-1][1]
    rng = np.random.default_rng(3)
    arrays[f"conv{index}.weight"] = rng.normal(size=(9, into, 1, 1)).astype(np.float32)
    arrays[f"conv{index}.bias"] = np.zeros(9, np.float32)
    ops.append({"op": "AVERAGE_POOL_2D", "inp": [index], "out": 90})
    classifier = {"stride": 1, "groups": 1, "k": 1, "act": "none"}
    return arrays, [*ops, {"op": "conv", "inp": 90, "out": 91, **classifier}]


def saved(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def test_an_import_names_the_classes_that_its_source_does(tmp_path: Path) -> None:
    npz, _ = write(tmp_path, *with_classifier())
    pictures = saved(tmp_path / "photos", photos(4))
    _, found = import_command(npz, pictures, tmp_path / "out.safetensors", "conv3_1", size=24)
    assert found.agreeing == len(found.published) == 4
    assert all(len(set(classes)) == 5 for classes in found.published)


def test_an_import_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    arrays, ops = with_classifier()
    # A second convolution that reads the first one's input: no chain, as the import takes it for.
    ops[3]["inp"] = ops[2]["inp"]
    npz, _ = write(tmp_path, arrays, ops)
    pictures = saved(tmp_path / "photos", photos(2))
    with pytest.raises(MobilesegError, match="differs from the published network by"):
        import_command(npz, pictures, tmp_path / "out.safetensors", "conv3_1", size=24)


WEIGHTS = os.environ.get("MOBILESEG_WEIGHTS", "")


@pytest.mark.skipif(not WEIGHTS, reason="MOBILESEG_WEIGHTS names no folder of published .npz")
@pytest.mark.parametrize("name", ["mobilenet_v1_0.5_160_quant", "mobilenet_v2_1.0_224_quant"])
def test_the_published_classifiers(name: str, tmp_path: Path) -> None:
    photographs = shipped("assets", "data", "public_figures", "images")
    out = tmp_path / "out.safetensors"
    _, found = import_command(Path(WEIGHTS) / f"{name}.npz", photographs, out)
    assert found.agreeing == 8
    assert found.error < 0.01
    # What men in office wear: ImageNet's suit, bow tie, Windsor tie, gown, uniform.
    worn = {835, 458, 907, 401, 653}
    assert sum(bool(worn & set(classes)) for classes in found.ours) >= 6


def _without(key: str) -> Callable[[Arrays, Ops], object]:
    return lambda arrays, _: arrays.pop(key)


BAD: list[tuple[Callable[[Arrays, Ops], object], str]] = [
    (lambda _, ops: ops[2].update(stride=2), "conv1 is .*'stride': 2.*conv2_1.dw"),
    (lambda _, ops: ops[4].update(groups=2), "conv3 is"),
    (lambda _, ops: ops[1].update(act="none"), "conv0 is .*'act': 'none'"),
    (lambda _, ops: ops.pop(), "conv6 is .*'stride': None"),
    (_without("conv2.bias"), "conv2 is"),
    (_without("conv0.weight"), r"has no conv0\.weight"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_other_networks_are_refused(
    spoil: Callable[[Arrays, Ops], object], message: str, tmp_path: Path
) -> None:
    arrays, ops = published()
    spoil(arrays, ops)
    with pytest.raises(MobilesegError, match=message):
        import_encoder(*write(tmp_path, arrays, ops), photos())


def test_unreadable_npz_is_refused(tmp_path: Path) -> None:
    npz, ops = write(tmp_path, *published())
    with pytest.raises(MobilesegError, match="there is no such file"):
        import_encoder(tmp_path / "none.npz", ops, photos())
    whole = npz.read_bytes()
    for data in (b"", b"text", whole[: len(whole) // 2]):
        npz.write_bytes(data)
        with pytest.raises(MobilesegError, match=r"no readable \.npz"):
            import_encoder(npz, ops, photos())


def test_unreadable_encoders_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "v1.safetensors"
    with pytest.raises(MobilesegError, match="there is no such file; `mobileseg weights import`"):
        load_encoder(path)
    save_encoder(path, encoder, {})
    whole = path.read_bytes()
    for data in (b"", b"text", whole[:-7], whole[:50]):
        path.write_bytes(data)
        with pytest.raises(MobilesegError, match="damaged or not weights"):
            load_encoder(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(MobilesegError, match="damaged or not weights"):
        load_encoder(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"mobileseg": "[]"})
    with pytest.raises(MobilesegError, match="no network"):
        load_encoder(path)
    other = replace(encoder.spec, blocks=encoder.spec.blocks[:-1])
    save_encoder(path, Encoder(other, encoder.state), {})
    with pytest.raises(MobilesegError, match="not those of its own network"):
        load_encoder(path)


@pytest.mark.parametrize(
    ("name", "last", "channels"),
    [("mobilenet_v1_1.0", "conv5_5", 512), ("mobilenet_v2_1.0", "block17_project", 320)],
)
def test_the_shipped_encoders_load(name: str, last: str, channels: int) -> None:
    path = shipped("assets", "weights", f"{name}.safetensors")
    assert path.stat().st_size < 4e6
    encoder = load_encoder(path)
    assert encoder.spec.blocks[-1].name == last
    assert encoder.spec.shapes()[last][0] == channels
    with torch.no_grad():
        net = build(encoder.spec)
        net.load_state_dict(encoder.state)
        out = net(as_input(photos(1, *encoder.spec.image_size)))
    # Features of a trained network: alive, and not all at a limit.
    assert 0.05 < (out > 0).float().mean() < 0.95


# stride, output channels and activation of a narrow MobileNetV2 up to block3, which adds its input
CONVS_V2 = [
    (2, 4, "relu6"),
    *((1, 4, "relu6"), (1, 5, "none")),
    *((1, 8, "relu6"), (2, 8, "relu6"), (1, 6, "none")),
    *((1, 9, "relu6"), (1, 9, "relu6"), (1, 6, "none")),
]


def test_mobilenet_v2_is_told_by_its_projections(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: Arrays = {}
    ops: Ops = []
    into = 3
    for i, (stride, out, act) in enumerate(CONVS_V2):
        depthwise = i in {1, 4, 7}
        kernel = 3 if i == 0 or depthwise else 1
        weight = rng.normal(0, 0.5, (out, 1 if depthwise else into, kernel, kernel))
        arrays[f"conv{i}.weight"] = weight.astype(np.float32)
        arrays[f"conv{i}.bias"] = rng.normal(0.5, 0.5, out).astype(np.float32)
        groups = into if depthwise else 1
        ops.append({"op": "conv", "stride": stride, "groups": groups, "k": kernel, "act": act})
        into = out
    made = import_encoder(*write(tmp_path, arrays, ops), photos())
    names = [block.name for block in made.spec.blocks]
    assert names[:4] == ["conv1", "block1_dw", "block1_project", "block2_expand"]
    assert names[-4:] == ["block3_expand", "block3_dw", "block3_project", "block3_sum"]
    x = as_input(photos(2))
    values = x
    for i, op in enumerate(ops):
        if i == 6:
            before = values
        pads: list[int] = []
        for size in (values.shape[3], values.shape[2]):
            out = -(-size // op["stride"])
            total = max((out - 1) * op["stride"] + op["k"] - size, 0)
            pads += [total // 2, total - total // 2]
        weight, bias = (torch.from_numpy(arrays[f"conv{i}.{n}"]) for n in ("weight", "bias"))
        values = F.pad(values, pads)
        values = F.conv2d(values, weight, bias, op["stride"], groups=op["groups"])
        values = values.clamp(0, 6) if op["act"] == "relu6" else values
    net = build(made.spec)
    net.load_state_dict(made.state)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(x), before + values, rtol=1e-4, atol=1e-4)
