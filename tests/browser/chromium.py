"""Files in headless Chromium: a server for the page, and what the page posts back."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from mobileseg.graph.ir import Array

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 180
_KINDS = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript"}
_WASM = "application/wasm"


def missing() -> str:
    """Return what the tests lack on this machine, and how to get it; empty where nothing is."""
    if not any(map(shutil.which, BROWSERS)):
        return "there is no Chromium; Debian's package is chromium"
    if not (MODULES / "@litertjs" / "core").is_dir():
        return "the runtimes are not installed; run: npm ci --prefix tests/browser"
    return ""


@dataclass(frozen=True, eq=False)
class Job:
    """A file, and inputs `(N, ...)` in the file's own type and layout."""

    file: Path
    images: Array

    def facts(self) -> dict[str, Any]:
        """What the page needs to know."""
        shape = [1, *self.images.shape[1:]]
        words = {"name": self.file.name, "dtype": self.images.dtype.name, "shape": shape}
        return words | {"images": len(self.images)}


@dataclass(frozen=True, eq=False)
class Ran:
    """Outputs, flat per image `(N, values)`; ms: of the fastest, for machines are busy."""

    output: Array
    ms: float


@dataclass
class _Exchange:
    """What the server holds for the page, and what the page has posted."""

    jobs: Mapping[str, Job]
    results: dict[str, Ran] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def get(self, path: str) -> tuple[str, bytes] | None:
        """Return the content type and bytes of a path; None where there is nothing."""
        kind, _, name = path.lstrip("/").partition("/")
        if kind == "page.html":
            return "text/html", (HERE / "page.html").read_bytes()
        if kind == "jobs":
            return "application/json", json.dumps([j.facts() for j in self.jobs.values()]).encode()
        if kind == "file" and name in self.jobs:
            return "application/octet-stream", self.jobs[name].file.read_bytes()
        if kind == "input" and name in self.jobs:
            return "application/octet-stream", self.jobs[name].images.tobytes()
        file = (MODULES / name).resolve()
        if kind == "modules" and file.is_relative_to(MODULES.resolve()) and file.is_file():
            return _KINDS.get(file.suffix, _WASM), file.read_bytes()
        return None

    def post(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        kind, _, name = path.lstrip("/").partition("/")
        if kind == "output":
            flat = np.frombuffer(body, np.dtype(headers["X-Type"]))
            output = flat.reshape(len(self.jobs[name].images), -1)
            self.results[name] = Ran(output, min(json.loads(headers["X-Times"])))
        elif kind == "error":
            self.errors[name] = body.decode()
        elif kind == "done":
            self.done.set()


def run_files(jobs: Sequence[Job]) -> dict[str, Ran]:
    """Run the files in Chromium; return what came out by file name.

    Raises RuntimeError with the browser's words where a file does not run or none comes to an end.
    """
    exchange = _Exchange({job.file.name: job for job in jobs})
    with _server(exchange) as port, _browser(f"http://127.0.0.1:{port}/page.html") as said:
        if not exchange.done.wait(PATIENCE_S):
            raise RuntimeError(f"no end after {PATIENCE_S} s: {said.read_text()[-2000:]}")
    if exchange.errors:
        raise RuntimeError(str(exchange.errors))
    return exchange.results


@contextlib.contextmanager
def _server(exchange: _Exchange) -> Iterator[int]:
    """Serve on a free port of this machine alone; yields it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = exchange.get(self.path)
            self.send_response(200 if found else 404)
            kind, body = found or ("text/plain", b"")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            exchange.post(self.path, self.headers, body)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def _browser(url: str) -> Iterator[Path]:
    """Open the page; yields the file of what the browser says."""
    program = next(name for name in BROWSERS if shutil.which(name))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        said = Path(folder) / "said"
        # Containers allow no sandbox; the page is our own.
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        flags += ["--disable-background-networking", "--no-first-run", "--enable-logging=stderr"]
        with said.open("wb") as log:
            process = subprocess.Popen(
                [program, *flags, f"--user-data-dir={folder}/profile", url],
                stdout=log,
                stderr=log,
            )
        with ending(process):
            yield said


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the process after, by force if need be."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
