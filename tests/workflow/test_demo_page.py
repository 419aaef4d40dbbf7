"""The demo's page in headless Chromium, used as a person uses it."""

from __future__ import annotations

import json
import os
import shutil
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
from mobileseg.runs import Run
from mobileseg.train.data import read_image, resize_image
from mobileseg.workflow.demo import DemoOptions, browser_files, open_demo
from tests.browser.chromium import MODULES, missing
from tests.demo.chromium import Page, browser
from tests.workflow.conftest import Place, invoke

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(missing()), reason=missing())]

SAMPLES = shipped("assets", "data", "public_figures", "images")

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


def test_a_refused_camera_is_said(shown: tuple[Page, list[str]]) -> None:
    page, _ = shown
    page.click("#camera")
    page.wait("document.querySelector('#status').classList.contains('trouble')")
    assert page.text("#status").endswith("pictures.")
    choose_picture(page, "lincoln")


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
