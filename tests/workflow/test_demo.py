"""`mobileseg demo` as a person meets it: the verb, and the page in headless Chromium."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobileseg.demo.measurement import read_measurements
from mobileseg.demo.server import lan_address
from mobileseg.errors import MobilesegError
from mobileseg.export.runtime import load, pixels_as
from mobileseg.files import shipped
from mobileseg.graph.ir import Array
from mobileseg.runs import Run, find_run
from mobileseg.train.data import read_image, resize_image
from mobileseg.workflow.demo import DemoOptions, browser_files, open_demo
from tests.browser.chromium import MODULES, missing
from tests.demo.chromium import Page, browser
from tests.workflow.conftest import Call, Place, invoke

SAMPLES = shipped("assets", "data", "public_figures", "images")
NO_MODULES = not (MODULES / "@litertjs" / "core").is_dir()
needs_modules = pytest.mark.skipif(NO_MODULES, reason="npm ci --prefix tests/browser is not run")
needs_browser = pytest.mark.skipif(bool(missing()), reason=missing())

# The page shrinks pictures as Pillow does, and wasm's int8 kernels round a few products otherwise.
SAME_PIXELS = 0.999


@contextmanager
def serving(run: Run, **options: Any) -> Iterator[tuple[str, list[str]]]:
    """The address that opens the run's page, and what the terminal says meanwhile."""
    said: list[str] = []
    given = DemoOptions(port=0, runtime=MODULES, **options)
    demo = open_demo(run, given, said.append)
    server = demo.server
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.entrance, said
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
def test_a_damaged_list_is_said_before_anything_is_served(copy: Place) -> None:
    run = find_run(str(copy.step("thin")))
    run.latency_folder.mkdir(exist_ok=True)
    run.browser_path.write_text("[1]")
    with pytest.raises(MobilesegError, match=r"browser\.json"):
        open_demo(run, DemoOptions(runtime=MODULES), print)


@needs_modules
def test_a_measurement_is_said_and_kept_until_ctrl_c(copy: Place) -> None:
    run = find_run(str(copy.step("thin")))
    command = [sys.executable, "-m", "mobileseg.cli", "demo", str(run.folder)]
    process = subprocess.Popen(
        [*command, "--runtime", str(MODULES), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
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


@pytest.fixture(scope="module")
def run(trained: Place, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with files of every kind of output, and one that no browser takes."""
    folder = tmp_path_factory.mktemp("demo") / "tiny" / "thin"
    shutil.copytree(trained.step("thin"), folder)
    kinds = (
        ("--precision", "float32"),
        ("--int8", "--output", "argmax"),
        ("--int8", "--interface", "int8"),
    )
    for words in kinds:
        with pytest.MonkeyPatch.context() as patch:
            assert invoke(patch, "export", folder, *words, "--out", folder / "export") == 0
    return Run(folder)


@pytest.fixture(scope="module")
def shown(run: Run) -> Iterator[tuple[Page, list[str]]]:
    """The run's page in a browser without a camera, and what the terminal says."""
    with serving(run) as (entrance, said), browser() as page:
        page.open(entrance)
        page.wait("document.querySelector('#median').textContent.endsWith(' ms')")
        yield page, said


def state(page: Page, code: str) -> Any:
    """Return what is in the page's state."""
    return page.ask(f"import('/app.js').then(({{state}}) => {code})")


def choose_file(page: Page, name: str) -> None:
    page.choose("#file", name)
    loaded = f"state.network?.file.name === {json.dumps(name)} && !!state.mask"
    page.wait(f"import('/app.js').then(({{state}}) => {loaded})")


def choose_picture(page: Page, name: str) -> None:
    page.click(f'#strip button:has(img[alt="{name}"])')
    page.wait(f"document.querySelector('#status').textContent.startsWith({json.dumps(name)})")


def here(path: Path, picture: Path) -> Array:
    """Return the class numbers that the file gives a picture in this machine's runtime."""
    runner = load(path)
    pixels = resize_image(read_image(picture), runner.image_size)
    out = runner(pixels_as(pixels[None], runner.input_dtype))[0]
    classes: Array = out.argmax(0) if out.ndim == 3 else out
    return classes


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("ending", ["int8", "int8-argmax", "float32"])
def test_masks_are_as_here(shown: tuple[Page, list[str]], run: Run, ending: str) -> None:
    page, _ = shown
    (path,) = run.export_folder.glob(f"*-{ending}.tflite")
    choose_file(page, path.name)
    for name in ("astronaut", "two_people"):
        choose_picture(page, name.replace("_", " "))
        expected = here(path, SAMPLES / f"{name}.jpg")
        there = np.array(state(page, "Array.from(state.mask.classes)")).reshape(expected.shape)
        # A mask of one class would agree with anything.
        assert 0.02 < (expected > 0).mean() < 0.98
        assert (there == expected).mean() >= SAME_PIXELS, name
    assert not page.complaints


@pytest.mark.browser
@needs_browser
def test_your_own_pictures(shown: tuple[Page, list[str]], tmp_path: Path) -> None:
    page, _ = shown
    files = [tmp_path / "<b>mine.png", tmp_path / "turned.jpg", tmp_path / "text.png"]
    whole = Image.open(SAMPLES / "obama_2012.jpg")
    whole.resize((1003, 777)).save(files[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    whole.rotate(90, expand=True).save(files[1], exif=exif, quality=95)
    files[2].write_text("no picture")
    page.give_files("#pictures", files)
    page.wait("document.querySelector('#status').textContent.startsWith('<b>mine.png')")
    taken = np.array(state(page, "Array.from(state.pixels)"))
    page.wait("!document.querySelector('#strip img[alt=\"text.png\"]')")
    if state(page, "state.network.file.input") == "float32":
        taken = taken * 128 + 128
    # To the byte, however much a picture shrinks.
    assert (taken.reshape(64, 96, 3) == resize_image(read_image(files[0]), (64, 96))).all()
    choose_picture(page, "turned.jpg")
    assert state(page, "[state.picture.bitmap.width, state.picture.bitmap.height]") == [256, 320]


@pytest.mark.browser
@needs_browser
def test_views_differ_where_they_should(shown: tuple[Page, list[str]]) -> None:
    page, _ = shown
    choose_file(page, "tiny-thin-int8-argmax.tflite")
    choose_picture(page, "astronaut")
    looks = {}
    for view in ("mask", "blur", "replace", "plain"):
        page.click(f"input[value={view}]")
        page.ask("new Promise((done) => setTimeout(done, 300))")
        code = "document.querySelector('#stage').getContext('2d').getImageData(0, 0, 320, 320).data"
        looks[view] = np.array(page.ask(f"Array.from({code})")).reshape(320, 320, 4)[..., :3]
    assert page.ask("document.querySelector('#background').hidden")
    mask = np.array(state(page, "Array.from(state.mask.foreground)"), np.uint8).reshape(64, 96)
    wide = np.asarray(Image.fromarray(mask).resize((320, 320), Image.Resampling.BILINEAR))
    person, rest = wide == 255, wide == 0
    assert 0.1 < person.mean() < 0.9 and 0.1 < rest.mean() < 0.9
    away = {view: np.abs(looks[view] - looks["plain"]).max(2) for view in looks}
    assert away["mask"][person].mean() > 50 and away["mask"][rest].mean() < 2
    assert away["blur"][person].mean() < 2 < away["blur"][rest].mean()
    assert away["replace"][person].mean() < 2
    # #2f6f4f, the colour that the page proposes.
    assert (np.median(looks["replace"][rest], 0) == [0x2F, 0x6F, 0x4F]).all()


@pytest.mark.browser
@needs_browser
def test_many_classes_have_their_colours(shown: tuple[Page, list[str]]) -> None:
    page, _ = shown
    made = page.ask("""Promise.all([import('/network.js'), import('/draw.js')]).then(([n, d]) => {
      const output = {shape: [1, 1, 3, 4], means: 'logits', scale: 0.5};
      const values = Uint8Array.of(9, 1, 1, 1, 1, 0, 200, 1, 3, 3, 3, 4);
      const read = (o, v) => n.Network.prototype.read.call({file: {output: o}}, v);
      const mask = read(output, values);
      const shares = read({shape: [1, 1, 2, 2], means: 'probabilities'}, [0.9, 0.1, 0.5, 0.5]);
      const context = new OffscreenCanvas(3, 1).getContext('2d');
      const source = new OffscreenCanvas(3, 1);
      source.getContext('2d').fillRect(0, 0, 3, 1);
      const colours = ['#000000', '#ff0000', '#00ff00', '#0000ff'];
      d.draw(context, source, mask, {view: 'mask', colours});
      const drawn = Array.from(context.getImageData(0, 0, 3, 1).data);
      return [mask.classes, mask.foreground, shares.foreground, drawn].map((x) => Array.from(x));
    })""")
    classes, foreground, shares, drawn = made
    assert classes == [0, 2, 3]
    assert foreground == [0, 255, 255]
    assert shares == [0, 128]
    assert drawn == [0, 0, 0, 255, 0, 140, 0, 255, 0, 0, 140, 255]


@pytest.mark.browser
@needs_browser
def test_a_measurement_is_kept(shown: tuple[Page, list[str]], run: Run) -> None:
    page, said = shown
    before = len(read_measurements(run.browser_path))
    page.ask("document.querySelector('#device').value = 'Bench [red]'")
    page.click("#send")
    page.wait("document.querySelector('#sent').textContent.startsWith('Sent: ')")
    *_, one = read_measurements(run.browser_path)
    assert len(read_measurements(run.browser_path)) == before + 1
    assert one.device == "Bench [red]" and one.browser.startswith("Chrome ")
    assert (one.backend, one.threads) == ("wasm", 1) and one.runs >= 60
    assert 0 < one.median_ms <= one.p90_ms and one.clock_ms < 1
    files = {file.sha256: file.name for file in browser_files(run)}
    assert files[one.sha256] == one.file
    assert said[-1] == f"measured: {one.words()}"
    # Isolated, the page has threads and a fine clock.
    assert page.ask("self.crossOriginIsolated")
    assert any("int8io.tflite: is left out; LiteRT.js has no int8 input" in each for each in said)


@pytest.mark.browser
@needs_browser
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has no threads to try")
def test_threads_give_the_same_mask(shown: tuple[Page, list[str]]) -> None:
    page, _ = shown
    choose_picture(page, "astronaut")
    alone = state(page, "Array.from(state.mask.classes)")
    page.choose("#backend", "Processor (wasm), 2 threads")
    page.wait("import('/app.js').then((m) => m.state.network?.way.threads === 2 && !!m.state.mask)")
    assert state(page, "Array.from(state.mask.classes)") == alone
    page.choose("#backend", "Processor (wasm), 1 thread")
    page.wait("import('/app.js').then((m) => m.state.network?.way.threads === 1 && !!m.state.mask)")


@pytest.mark.browser
@needs_browser
def test_a_refused_camera_is_said(shown: tuple[Page, list[str]]) -> None:
    page, _ = shown
    page.click("#camera")
    page.wait("document.querySelector('#status').classList.contains('trouble')")
    assert page.text("#status").endswith("pictures.")
    choose_picture(page, "lincoln")


@pytest.mark.browser
@needs_browser
def test_everything_has_a_name_and_fits_a_phone(
    shown: tuple[Page, list[str]], tmp_path: Path
) -> None:
    page, _ = shown
    page.look(tmp_path / "phone.png", 360, 740)
    assert page.ask("document.documentElement.scrollWidth") == 360
    names = """[...document.querySelectorAll('button, input, select')].map((each) =>
      each.labels?.[0]?.textContent || each.textContent || each.querySelector('img')?.alt)"""
    assert all(page.ask(names))
    # One Tab after the other reaches all that can be changed.
    reached = set()
    for _ in range(30):
        page.press("Tab")
        reached.add(page.ask("document.activeElement.id || document.activeElement.type"))
    assert {"camera", "pictures", "radio", "file", "backend", "device", "send"} <= reached


def video(folder: Path) -> Path:
    """Some shipped pictures as what a camera gives: JPEGs in a row."""
    path = folder / "camera.mjpeg"
    with path.open("wb") as file:
        for picture in sorted(SAMPLES.iterdir())[:2]:
            for _ in range(5):
                Image.open(picture).convert("RGB").resize((640, 480)).save(file, "jpeg")
    return path


@pytest.mark.browser
@needs_browser
@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_the_camera_in_the_network_by_https(run: Run, tmp_path: Path) -> None:
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    file = f"--use-file-for-fake-video-capture={video(tmp_path)}"
    flags = (*camera, file, "--ignore-certificate-errors")
    with (
        serving(run, lan=True, address="127.0.0.1") as (entrance, said),
        browser(*flags) as page,
    ):
        assert entrance.startswith("https://")
        assert any("SHA-256" in each for each in said)
        page.open(entrance)
        page.wait("document.querySelector('#median').textContent.endsWith(' ms')")
        assert page.ask("location.href").endswith(":" + entrance.split(":")[2].split("/")[0] + "/")
        page.click("#camera")
        page.wait(
            "import('/app.js').then(({state}) => state.stream && !state.picture && "
            "state.frameTimes.values.length > 5 && state.mask.classes.some((each) => each))"
        )
        assert page.ask("document.querySelector('#stage').width") == 640
        page.click("#camera")
        page.click("input[value=blur]")
        page.click("#send")
        page.wait("document.querySelector('#sent').textContent.startsWith('Sent: ')")
        assert not page.complaints


@pytest.mark.browser
@needs_browser
def test_without_https_pictures_work(run: Run) -> None:
    try:
        address = lan_address()
    except MobilesegError as error:
        pytest.skip(str(error))
    with serving(run, lan=True, http=True, address=address) as (entrance, said), browser() as page:
        assert any("pictures only" in each for each in said)
        page.open(entrance)
        page.wait("document.querySelector('#median').textContent.endsWith(' ms')")
        assert page.ask("document.querySelector('#camera').disabled")
        assert "https pages alone" in page.text("#nocamera")
        assert page.ask("document.querySelectorAll('#backend option').length") == 1
