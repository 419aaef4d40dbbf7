"""`mobileseg demo`: a run's files on a page that runs them in the browser, and what it measured."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from mobileseg.demo.certificate import Certificate, self_signed
from mobileseg.demo.gate import Gate
from mobileseg.demo.measurement import (
    BrowserMeasurement,
    add_measurement,
    read_measurements,
    received,
)
from mobileseg.demo.qr import HINT, can_draw, qr_code
from mobileseg.demo.runtime import VERSION, find_runtime
from mobileseg.demo.server import Content, Server, Site, lan_address, open_server
from mobileseg.errors import MobilesegError
from mobileseg.files import shipped
from mobileseg.reading.read import read_surface
from mobileseg.reading.surface import Edge
from mobileseg.report.picture import palette
from mobileseg.runs import Run

Say = Callable[[str], None]

LOOPBACK = "127.0.0.1"
RUNTIME = f"LiteRT.js {VERSION}"

_PAGE = Path(__file__).parent.parent / "demo" / "page"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".jpg": "image/jpeg",
    ".tflite": "application/octet-stream",
}
# What LiteRT.js takes; int8 it refuses ("Element type INT8 is not supported").
_INPUTS = {"uint8", "float32"}
_OUTPUTS = {"uint8", "float32", "int32"}
_PROBABILITIES = {"SOFTMAX", "LOGISTIC"}


@dataclass(frozen=True)
class DemoOptions:
    """Where the page is served.

    lan: in this machine's network, at `address` or the one that is found, encrypted unless `http`;
    else to this machine alone. port: the first free one from 8760 on where None. runtime: a
    node_modules folder with LiteRT.js, in the place of what --setup made.
    """

    lan: bool = False
    http: bool = False
    address: str | None = None
    port: int | None = None
    runtime: Path | None = None


@dataclass(frozen=True)
class Demo:
    """A page that is being served. `run_until_stopped` blocks; measurements come in meanwhile."""

    run: Run
    server: Server

    def run_until_stopped(self) -> None:
        """Serve until Ctrl-C."""
        try:
            self.server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            pass
        finally:
            self.server.server_close()

    def measurements(self) -> tuple[BrowserMeasurement, ...]:
        """Return all that the run keeps."""
        return read_measurements(self.run.browser_path)


def open_demo(run: Run, options: DemoOptions, say: Say) -> Demo:
    """Return the page of a run, listening; what a browser needs to come in is said.

    Raises MobilesegError where the run has no file that a browser takes, the runtime is not here,
    or address or port cannot be had.
    """
    files = browser_files(run, say)
    runtime = find_runtime(options.runtime)
    # A damaged file is said now, not when a phone's measurement would be lost.
    read_measurements(run.browser_path)
    address, certificate = _place(options)
    notes = _Notes(run, files, options.lan, say)
    site = _site(run, files, runtime, notes)
    server = open_server(address, options.port, site, Gate(), certificate)
    notes.invite("open", server.entrance)
    _explain(options, certificate, say)
    say("Ctrl-C ends it")
    return Demo(run, server)


def _explain(options: DemoOptions, certificate: Certificate | None, say: Say) -> None:
    """Say what a person in the network meets."""
    if options.lan and not can_draw():
        say(HINT)
    if certificate is not None:
        say(
            "the browser will warn, since nobody but this machine vouches for the certificate; "
            "choose Advanced, then go on, if it shows this SHA-256:"
        )
        say(certificate.fingerprint)
    elif options.lan:
        say(
            "http: nothing is encrypted, and browsers refuse the camera to such a page: pictures "
            "only, on one thread"
        )


def _place(options: DemoOptions) -> tuple[str, Certificate | None]:
    if not options.lan:
        return LOOPBACK, None
    address = options.address or lan_address()
    try:
        usable = not IPv4Address(address).is_unspecified
    except ValueError:
        usable = False
    if not usable:
        raise MobilesegError(f"--address {address!r}: give an IPv4 address of this machine")
    return address, None if options.http else self_signed(address)


@dataclass(frozen=True, eq=False)
class BrowserFile:
    """An exported file that the browser runs, and what the page needs to know of it."""

    name: str
    data: bytes
    image: Edge
    output: Edge

    @property
    def sha256(self) -> str:
        """The digest that its measurements name."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def means(self) -> str:
        """What a pixel of the output says: classes, probabilities or logits."""
        if self.output.type == "int32":
            return "classes"
        return "probabilities" if self.output.made_by in _PROBABILITIES else "logits"

    def facts(self, url: str) -> dict[str, Any]:
        """Plain data for the page. `scale`: of one step of an integer output."""
        output = {
            "shape": self.output.shape,
            "means": self.means,
            "scale": self.output.scale or 1.0,
        }
        return {
            "name": self.name,
            "url": url,
            "sha256": self.sha256,
            "bytes": len(self.data),
            "size": self.image.shape[1:3],
            "input": self.image.type,
            "output": output,
        }


def browser_files(run: Run, say: Say = lambda _: None) -> list[BrowserFile]:
    """Return the run's .tflite files that LiteRT.js takes, the plain int8 one first.

    Others are said. Raises MobilesegError where none is left.
    """
    found = []
    for path in sorted(run.export_folder.glob("*.tflite")):
        file, refused = _browser_file(path, len(run.recipe().data.classes))
        if file is None:
            say(f"{path.name}: is left out; {refused}")
        else:
            found.append(file)
    if not found:
        raise MobilesegError(
            f"{run.name}: has no .tflite file that a browser takes; mobileseg export {run.name} "
            "--int8 writes one"
        )
    # The shortest name is the plain export; what else it was asked for makes it longer.
    return sorted(found, key=lambda file: (file.image.type != "uint8", len(file.name), file.name))


def _browser_file(path: Path, classes: int) -> tuple[BrowserFile | None, str]:
    surface = read_surface(path)
    image, output = surface.image, surface.masks
    if image is None or output is None or len(image.shape) != 4 or image.shape[3] != 3:
        return None, "it is no segmenter"
    if image.type not in _INPUTS:
        return None, f"LiteRT.js has no {image.type} input; export with --interface uint8"
    if output.type not in _OUTPUTS:
        return None, f"the page reads no {output.type} output"
    if len(output.shape) not in {3, 4} or output.shape[3:] not in {(), (classes,)}:
        return None, f"it gives {list(output.shape)}, the run has {classes} classes"
    return BrowserFile(path.name, path.read_bytes(), image, output), ""


def _site(run: Run, files: Sequence[BrowserFile], runtime: Any, notes: _Notes) -> Site:
    """Return all that the page may ask for; it is in memory from here on."""
    contents = {f"/{path.name}": _content(path.name, path.read_bytes()) for path in _page_files()}
    page = contents.pop("/index.html")
    contents["/"] = page
    contents |= {
        f"/runtime/{name}": _content(name, data, kept=True) for name, data in runtime.items()
    }
    urls = [f"/files/{number}.tflite" for number in range(len(files))]
    contents |= {url: _content(url, file.data) for url, file in zip(urls, files, strict=True)}
    samples = []
    for number, path in enumerate(_samples()):
        url = f"/samples/{number}.jpg"
        contents[url] = _content(url, path.read_bytes())
        samples.append({"name": path.stem.replace("_", " "), "url": url})
    labels = run.recipe().data.classes
    colours = ["#" + bytes(each).hex() for each in palette(len(labels)).tolist()]
    facts = {
        "run": run.name,
        "runtime": RUNTIME,
        "files": [file.facts(url) for url, file in zip(urls, files, strict=True)],
        "classes": [
            {"name": name, "colour": colour} for name, colour in zip(labels, colours, strict=True)
        ],
        "samples": samples,
    }
    contents["/facts.json"] = _content("/facts.json", json.dumps(facts).encode())
    return Site(contents, _policy(page.body), {"/measurements": notes.take}, notes.entered)


def _page_files() -> list[Path]:
    return sorted(path for path in _PAGE.iterdir() if path.suffix in _KINDS)


def _samples() -> list[Path]:
    return sorted(shipped("assets", "data", "public_figures", "images").iterdir())


def _content(name: str, body: bytes, kept: bool = False) -> Content:
    return Content(_KINDS[Path(name).suffix], body, kept)


def _policy(page: bytes) -> str:
    """Return the page's Content-Security-Policy: its own files, WebAssembly, and one import map."""
    (inline,) = re.findall(rb'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline).digest()).decode()
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'wasm-unsafe-eval' 'sha256-{digest}'",
            "worker-src 'self'",
            "connect-src 'self'",
            "style-src 'self'",
            "img-src 'self' blob: data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


class _Notes:
    """What the server tells while it serves: who came in, and what was measured."""

    def __init__(self, run: Run, files: Sequence[BrowserFile], lan: bool, say: Say) -> None:
        self._run, self._lan, self._say = run, lan, say
        self._names = {file.sha256: file.name for file in files}
        self._lock = threading.Lock()

    def invite(self, word: str, entrance: str) -> None:
        """Say the address that lets one browser in."""
        self._say(f"{word}: {entrance}")
        if self._lan and can_draw():
            self._say(qr_code(entrance))

    def entered(self, address: str, entrance: str) -> None:
        """Say that a browser came in, and where the next one may."""
        with self._lock:
            self._say(f"opened from {address}")
            self.invite("for another browser", entrance)

    def take(self, data: object) -> dict[str, Any]:
        """Keep a measurement with the run. Raises MobilesegError where it is none."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        measured = received(data, self._names, RUNTIME, now)
        with self._lock:
            add_measurement(self._run.browser_path, measured)
            self._say(f"measured: {measured.words()}")
        return {"median_ms": measured.median_ms, "p90_ms": measured.p90_ms}
