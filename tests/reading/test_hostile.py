"""Damaged and hostile files: one error each, in little time, and the process lives."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobileseg.errors import MobilesegError
from mobileseg.export.contract import contract_of
from mobileseg.export.onnx import write_onnx
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.passes import FOR_TFLITE, run_passes
from mobileseg.quantize.convert import quantize
from mobileseg.reading.onnx import simplify
from mobileseg.reading.read import read_network, read_surface
from mobileseg.reading.rules.targets import RULES, rows
from mobileseg.reading.saved import load_graph, save_graph
from mobileseg.workflow.consumer import segmenter_file
from tests.export import small
from tests.op_cases import CASES

NAMES = ("depthwise_doubled", "deconv_4_2_1", "concat_3", "resize_up", "argmax", "mean_pool")
FOUR = (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\0\0", b"\1\0\0\0")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    """Sound files of each kind, small."""
    made = []
    saved = tmp_path_factory.mktemp("saved") / "net.safetensors"
    for case in CASES:
        if case.name not in NAMES:
            continue
        graph = run_passes(case.graph(), FOR_TFLITE)
        int8 = quantize(graph, dict.fromkeys(graph.tensors, (-1.0, 1.0)))
        made += [(".tflite", write_tflite(each)) for each in (graph, int8)]
        made += [(".onnx", write_onnx(each)) for each in (case.graph(), int8)]
        save_graph(int8, saved)
        made.append((".safetensors", saved.read_bytes()))
    return made


@pytest.fixture(autouse=True)
def no_onnxsim(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a process of its own, and takes seconds."""
    monkeypatch.setattr(simplify, "simplified", lambda *_: None)


def survives(path: Path) -> bool:
    """Whether the file is read; otherwise its one error has been raised."""
    try:
        if path.suffix == ".safetensors":
            load_graph(path)
        else:
            read_network(path)
    except MobilesegError as error:
        assert str(error).startswith(str(path))
        return False
    return True


def test_thousands_of_damages(files: list[tuple[str, bytes]], tmp_path: Path) -> None:
    dice = random.Random(11)
    read = 0
    for _ in range(2000):
        ending, data = dice.choice(files)
        path = tmp_path / f"net{ending}"
        path.write_bytes(damaged(data, dice))
        read += survives(path)
    assert 0 < read < 1000


def damaged(data: bytes, dice: random.Random) -> bytes:
    broken = bytearray(data)
    if dice.random() < 0.2:
        del broken[dice.randrange(len(broken)) :]
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        at = dice.randrange(max(len(broken), 1))
        way = dice.random()
        if way < 0.4 and broken:
            broken[at] ^= 1 << dice.randrange(8)
        elif way < 0.8:
            broken[at : at + 4] = dice.choice(FOUR)
        else:
            del broken[at : at + dice.randrange(1, 9)]
    return bytes(broken)


@pytest.mark.parametrize("ending", [".tflite", ".onnx", ".safetensors"])
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes(ending: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"net{ending}"
    for head in (b"", b"\x1c\0\0\0TFL3", struct.pack("<Q", 2)):
        path.write_bytes(head + data)
        assert not survives(path)


def test_hundreds_of_damages_of_the_surface(tmp_path: Path) -> None:
    dice = random.Random(7)
    made = small.int8_graph()
    sound = segmenter_file(made, contract_of(made, "small/net", ("one", "two", "three")))
    metadata = sound.index(b"M001")
    places = [*range(2000), *range(metadata, metadata + 1500), *range(len(sound) - 200, len(sound))]
    path, read, faulty = tmp_path / "net.tflite", 0, 0
    for _ in range(400):
        broken = bytearray(sound)
        for _ in range(dice.choice((1, 2, 5))):
            broken[dice.choice(places)] = dice.randrange(256)
        path.write_bytes(broken)
        try:
            surface = read_surface(path)
        except MobilesegError as error:
            assert str(error).startswith(str(path))
            continue
        read += 1
        faulty += bool(surface.faults)
        for target in RULES:
            shown = "".join(f"{row.found}{row.mend}" for row in rows(surface, target))
            assert shown.isprintable()
    assert 0 < faulty < read < 400


def test_an_archive_that_pretends_to_be_large(tmp_path: Path) -> None:
    whole = io.BytesIO(write_tflite(small.float_graph()))
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr("labels.txt", "one\n")
        archive.filelist[0].file_size = 2**31
    path = tmp_path / "net.tflite"
    path.write_bytes(whole.getvalue())
    assert "more than" in read_surface(path).faults["packed files"]


def test_every_truncation(files: list[tuple[str, bytes]], tmp_path: Path) -> None:
    ending, data = files[0]
    path = tmp_path / f"net{ending}"
    for length in range(0, len(data), 37):
        path.write_bytes(data[:length])
        assert not survives(path)


def test_vectors_that_all_share_one(tmp_path: Path) -> None:
    """A hundred thousand tables at one place, each with a vector as long as the file."""
    count = 100_000
    # root -> model table -> vector of operator codes, every offset the same table.
    vtable = struct.pack("<HHHH", 8, 8, 0, 4)
    table = struct.pack("<ii", 8, 4)
    offsets = [4 * (count - i) for i in range(count)]
    body = struct.pack("<I", count) + struct.pack(f"<{count}I", *offsets)
    path = tmp_path / "net.tflite"
    path.write_bytes(struct.pack("<I4s", 16, b"TFL3") + vtable + table + body)
    assert not survives(path)


@pytest.mark.parametrize("ending", [".tflite", ".onnx"])
def test_little_memory(ending: str, files: list[tuple[str, bytes]], tmp_path: Path) -> None:
    dice, path = random.Random(3), tmp_path / f"net{ending}"
    sound = [data for kind, data in files if kind == ending]
    path.write_bytes(sound[0])
    survives(path)
    tracemalloc.start()
    for _ in range(200):
        path.write_bytes(damaged(dice.choice(sound), dice))
        survives(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize("name", ["no.tflite", "no.onnx", "folder.tflite", "net.pb"])
def test_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.tflite").mkdir()
    with pytest.raises(MobilesegError, match=name):
        read_network(tmp_path / name)
