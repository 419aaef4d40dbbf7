"""What a page may send, and what a run keeps of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mobileseg.demo import measurement
from mobileseg.demo.measurement import add_measurement, as_dicts, read_measurements, received
from mobileseg.errors import MobilesegError
from mobileseg.report.demo import browser_table

FILES = {"ab" * 32: "net-int8.tflite"}
GOOD = {
    "sha256": "ab" * 32,
    "device": "Pixel 4",
    "browser": "Chrome 130",
    "backend": "wasm",
    "threads": 4,
    "runs": 60,
    "median_ms": 3.25,
    "p90_ms": 4,
    "clock_ms": 0.005,
}


def take(**changes: Any) -> measurement.BrowserMeasurement:
    return received(GOOD | changes, FILES, "LiteRT.js 1", "2026-01-02T03:04:05+00:00")


def test_a_measurement_names_its_file() -> None:
    one = take()
    assert one.file == "net-int8.tflite"
    said = "Pixel 4, Chrome 130, wasm, 4 threads: 3.25 ms (p90 4.00, 60 runs) for net-int8.tflite"
    assert one.words() == said
    assert "WebGPU" in take(backend="webgpu", threads=None).words()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": "cd" * 32}, "of no file that is shown here"),
        ({"median_ms": 0}, "median_ms: 0: "),
        ({"median_ms": -1.0}, "median_ms: -1.0: "),
        ({"median_ms": float("nan")}, "median_ms: NaN: "),
        ({"p90_ms": 1e9}, "p90_ms: 1000000000.0: "),
        ({"p90_ms": 3.0}, "p90_ms = 3.0 is below median_ms = 3.25"),
        ({"runs": 9}, "runs: 9: "),
        ({"runs": True}, "runs: true: "),
        ({"threads": "4"}, 'threads: "4": '),
        ({"threads": None}, "a number for wasm"),
        ({"backend": "webgpu"}, "null for webgpu"),
        ({"backend": "cuda"}, 'backend: "cuda": '),
        ({"device": "x" * 1001}, "device: "),
        ({"device": None}, "device: null: "),
        ({"time": "now"}, "there is no such key"),
    ],
)
def test_what_is_no_measurement(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(MobilesegError) as wrong:
        take(**changes)
    assert said in str(wrong.value)
    assert len(str(wrong.value)) < 400


@pytest.mark.parametrize("data", [None, [], "x", 1, {}, [GOOD]])
def test_other_json_is_no_measurement(data: Any) -> None:
    with pytest.raises(MobilesegError, match="measurement: "):
        received(data, FILES, "", "")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("a\r\nmeasured: b", "a measured: b"),
        ("right\u202eleft\u200b", "rightleft"),
        ("[bold]x", "[bold]x"),
        (" \x00 ", "unknown"),
        ("é" * 500, "é" * 80),
    ],
)
def test_words_hold_nothing_that_a_terminal_obeys(given: str, kept: str) -> None:
    one = take(device=given, browser=given)
    assert (one.device, one.browser) == (kept, kept)
    assert one.words().isprintable()


def test_a_run_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "latency" / "browser.json"
    assert read_measurements(path) == ()
    made = [take(median_ms=ms) for ms in (1.0, 2.0, 3.0)]
    monkeypatch.setattr(measurement, "_MOST", 2)
    for each in made:
        add_measurement(path, each)
    assert read_measurements(path) == tuple(made[1:])
    assert json.loads(path.read_text()) == as_dicts(made[1:])
    assert [each.name for each in path.parent.iterdir()] == ["browser.json"]
    assert browser_table(as_dicts(made), "run").row_count == 3


@pytest.mark.parametrize("text", ["{", "{}", '[{"device": "x"}]'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "browser.json"
    path.write_text(text)
    with pytest.raises(MobilesegError, match=r"browser\.json: "):
        read_measurements(path)
