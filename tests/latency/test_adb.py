"""Commands for a phone as data; the real adb client where no phone is."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.latency.adb import (
    Phone,
    chosen_serial,
    find_phone,
    inference,
    listed,
    profile_options,
    time_options,
)
from mobileseg.latency.place import Job
from tests.latency.test_place import free_port

PHONE = Phone("R58M", Path("/builds/benchmark_model"), "/data/local/tmp/mobileseg-0badcafe")
LISTED = (
    "List of devices attached\nR58M\tdevice\nemulator-5554\toffline\n"
    "192.168.0.9:5555\tunauthorized\n\n"
)


def test_the_way_there_and_back() -> None:
    folder = "/data/local/tmp/mobileseg-0badcafe"
    assert PHONE.begin() == [
        ["adb", "-s", "R58M", "shell", f"mkdir -p -m 700 {folder}"],
        ["adb", "-s", "R58M", "push", "/builds/benchmark_model", f"{folder}/benchmark_model"],
        ["adb", "-s", "R58M", "shell", f"chmod 700 {folder}/benchmark_model"],
    ]
    assert PHONE.push(Path("/tmp/a.tflite"), "a.tflite") == [
        *("adb", "-s", "R58M", "push", "/tmp/a.tflite", f"{folder}/a.tflite")
    ]
    assert PHONE.end() == ["adb", "-s", "R58M", "shell", f"rm -rf {folder}"]


def test_the_run_that_profiles() -> None:
    *start, script = PHONE.run("net.tflite", *profile_options(4, 50, 10))
    assert start == ["adb", "-s", "R58M", "shell"]
    assert script == (
        "cd /data/local/tmp/mobileseg-0badcafe && ./benchmark_model --graph=net.tflite "
        "--num_threads=4 --num_runs=50 --warmup_runs=10 --use_xnnpack=true "
        "--enable_op_profiling=true --op_profiling_output_mode=csv"
    )


def test_the_run_that_times() -> None:
    options = time_options(Job(threads=2, ms=60, least=5, warmup=3))
    assert options[:4] == ["--num_threads=2", "--num_runs=5", "--min_secs=0.06", "--warmup_runs=3"]
    assert not any("profiling" in option for option in options)


def test_phones_as_adb_lists_them() -> None:
    assert listed(LISTED) == {
        "R58M": "device",
        "emulator-5554": "offline",
        "192.168.0.9:5555": "unauthorized",
    }
    assert listed("* daemon started successfully\nList of devices attached\n\n") == {}


@pytest.mark.parametrize(
    ("serial", "text", "message"),
    [
        ("", "List of devices attached\n\n", "no phone is connected; plug one in"),
        ("", LISTED, "several phones; choose: --on adb:R58M, --on adb:emulator-5554"),
        ("R59", LISTED, "no phone 'R59'; there are: --on adb:R58M"),
        ("emulator-5554", LISTED, "is offline; unlock it"),
        ("192.168.0.9:5555", LISTED, "is unauthorized; allow this computer"),
    ],
)
def test_a_phone_that_cannot_be_used(serial: str, text: str, message: str) -> None:
    with pytest.raises(MobilesegError, match=message):
        chosen_serial(serial, listed(text))


def test_the_phone_that_is_meant() -> None:
    assert chosen_serial("R58M", listed(LISTED)) == "R58M"
    assert chosen_serial("", {"R58M": "device"}) == "R58M"


@pytest.mark.parametrize("on", ["adb:-s", "adb:a b", "adb:$(reboot)", "adbx", "adb:a;b"])
def test_what_is_no_serial(on: str, tmp_path: Path) -> None:
    with pytest.raises(MobilesegError, match="is no phone; give adb or adb:SERIAL"):
        find_phone(on, tmp_path)


def test_the_program_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(MobilesegError, match="give your build of it with --benchmark-model"):
        find_phone("adb", None)
    with pytest.raises(MobilesegError, match="there is no such file"):
        find_phone("adb", tmp_path / "benchmark_model")


def test_the_time_that_it_prints() -> None:
    # Printed by benchmark_model of TensorFlow 2.7 and later.
    line = "INFO: Inference timings in us: Init: 9, First inference: 8, Inference (avg): 1.2e+03\n"
    assert inference(f"STARTING!\n{line}")["us"] == 1200.0
    with pytest.raises(MobilesegError, match="no inference time but: Failed to load"):
        inference("STARTING!\nFailed to load network.tflite\n")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server of adb's for this test alone; a file in the place of benchmark_model."""
    if shutil.which("adb") is None:
        pytest.skip("needs the adb client: apt-get install adb")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
    monkeypatch.setenv("HOME", str(tmp_path))
    program = tmp_path / "benchmark_model"
    program.write_bytes(b"")
    yield program
    subprocess.run(["adb", "kill-server"], env=dict(os.environ), capture_output=True, check=False)


def test_the_real_client_finds_no_phone(client: Path) -> None:
    with pytest.raises(MobilesegError, match="adb: no phone is connected"):
        find_phone("adb", client)
    with pytest.raises(MobilesegError, match="adb: no phone is connected"):
        find_phone("adb:R58M", client)


def test_the_real_client_says_what_failed(client: Path) -> None:
    from mobileseg.latency.adb import time_on_phone  # noqa: PLC0415

    phone = Phone("R58M", client)
    with pytest.raises(MobilesegError, match="device 'R58M' not found"):
        time_on_phone(phone, Job(), {"a.tflite": b""}, lambda _done: None)


def test_without_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "benchmark_model"
    program.write_bytes(b"")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(MobilesegError, match="adb: is not installed"):
        find_phone("adb", program)
