"""`mobileseg demo` as a person meets it: what it refuses, serves and keeps."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mobileseg.demo.measurement import read_measurements
from mobileseg.errors import MobilesegError
from mobileseg.runs import Run, find_run
from mobileseg.workflow.demo import DemoOptions, browser_files, open_demo
from tests.browser.chromium import MODULES
from tests.workflow.conftest import Call, Place

NO_MODULES = not (MODULES / "@litertjs" / "core").is_dir()
needs_modules = pytest.mark.skipif(NO_MODULES, reason="npm ci --prefix tests/browser is not run")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "give a run, or --setup alone"),
        (["x", "--http"], 2, "belong to --lan"),
        (["x", "--setup", "--runtime", "y"], 2, "give one of them"),
        (["nothing"], 1, "is no run"),
    ],
)
def test_what_is_refused(call: Call, words: list[str], code: int, said: str) -> None:
    done = call("demo", *words)
    assert done.code == code
    assert said in " ".join(done.err.split())


def test_without_the_runtime_it_says_how_to_get_it(
    trained: Place, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = call("demo", trained.step("thin"))
    assert done.code == 1
    assert "mobileseg demo --setup" in done.err and not list(tmp_path.iterdir())


def test_files_that_a_browser_takes(copy: Place) -> None:
    run = find_run(str(copy.step("thin")))
    (kept,) = run.export_folder.glob("*int8.tflite")
    (run.export_folder / "a-broken.tflite").write_bytes(b"no network")
    with pytest.raises(MobilesegError, match="a-broken"):
        browser_files(run)
    (run.export_folder / "a-broken.tflite").unlink()
    (found,) = browser_files(run)
    assert (found.name, found.data) == (kept.name, kept.read_bytes())
    facts = found.facts("/files/0.tflite")
    assert (facts["size"], facts["input"]) == ((64, 96), "uint8")
    assert facts["output"]["means"] == "logits" and facts["output"]["scale"] > 0
    kept.unlink()
    with pytest.raises(MobilesegError, match=r"has no \.tflite file .* --int8 writes one"):
        browser_files(run)


@needs_modules
@pytest.mark.parametrize("address", ["0.0.0.0", "example.org", "1.2.3.4\nCA = x", "::1"])
def test_an_address_is_one_of_this_machine(trained: Place, address: str) -> None:
    run = find_run(str(trained.step("thin")))
    options = DemoOptions(lan=True, address=address, runtime=MODULES)
    with pytest.raises(MobilesegError, match="give an IPv4 address of this machine"):
        open_demo(run, options, print)


@needs_modules
def test_a_damaged_list_is_said_before_anything_is_served(copy: Place) -> None:
    run = find_run(str(copy.step("thin")))
    run.latency_folder.mkdir(exist_ok=True)
    run.browser_path.write_text("[1]")
    with pytest.raises(MobilesegError, match=r"browser\.json"):
        open_demo(run, DemoOptions(runtime=MODULES), print)


@needs_modules
def test_a_measurement_is_said_and_kept_until_ctrl_c(copy: Place) -> None:
    run = find_run(str(copy.step("thin")))
    # A shell lets what it runs in the background ignore Ctrl-C, and so does every child.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", code + "from mobileseg.cli import main; main()"]
    with subprocess.Popen(
        [*command, "demo", str(run.folder), "--runtime", str(MODULES), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            assert process.stderr is not None
            address = process.stderr.readline().removeprefix("open: http://").strip()
            host, _, path = address.partition("/")
            cookie = enter(host, f"/{path}")
            posted = [post(host, cookie, body) for body in (b'"\\u001b[31m"', measured(run))]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert posted == [400, 201]
    assert process.returncode == 0
    (kept,) = read_measurements(run.browser_path)
    assert json.loads(out)["measurements"][0]["device"] == kept.device == "A [1mphone"
    assert f"measured: {kept.words()}" in err and "\x1b" not in err
    assert "Traceback" not in err


def measured(run: Run) -> bytes:
    (file,) = browser_files(run)
    times = {"runs": 60, "median_ms": 3.0, "p90_ms": 4.0, "clock_ms": 0.005}
    words = {"device": "A \x1b[1mphone", "browser": "B", "backend": "wasm", "threads": 1}
    return json.dumps({"sha256": file.sha256, **words, **times}).encode()


def enter(host: str, entrance: str) -> str:
    """Open the page; return its cookie."""
    line = http.client.HTTPConnection(host, timeout=20)
    line.request("GET", entrance)
    answer = line.getresponse()
    assert answer.read().startswith(b"<!doctype html>")
    line.close()
    return answer.headers["Set-Cookie"].split(";")[0]


def post(host: str, cookie: str, body: bytes) -> int:
    """Post as the page does; return the code."""
    line = http.client.HTTPConnection(host, timeout=20)
    headers = {"Content-Type": "application/json", "Origin": f"http://{host}", "Cookie": cookie}
    line.request("POST", "/measurements", body, headers)
    code = line.getresponse().status
    line.close()
    return code
