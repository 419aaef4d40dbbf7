"""Headless Chromium by its DevTools protocol over a pipe: a page as a person would have it.

The pipe carries JSON messages with a NUL between them. Source: the protocol's description,
https://chromedevtools.github.io/devtools-protocol/, and Chromium's --remote-debugging-pipe.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.browser.chromium import BROWSERS

_PATIENCE_S = 60.0


@dataclass
class Page:
    """An open tab. `events` are what it said unasked: console, network, errors."""

    write: int
    read: int
    session: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0
    _rest: bytes = b""

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to a command. Raises RuntimeError with the browser's words."""
        self._number += 1
        said: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self.session:
            said["sessionId"] = self.session
        os.write(self.write, json.dumps(said).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                break
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        found: dict[str, Any] = answer["result"]
        return found

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self.read], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self.read, 1 << 20) if ready else b""
            if not data:
                raise RuntimeError("the browser says nothing more")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, file: Path) -> None:
        """Open a file and wait until it is there."""
        self.ask("Page.navigate", url=file.resolve().as_uri())
        while self.run("document.readyState") != "complete":
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """Return what a script's last expression says, waited for. Raises RuntimeError."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def screen(self, width: int, height: int) -> None:
        """Be a screen of so many CSS pixels; a narrow one is a phone's."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def media(self, scheme: str, kind: str = "") -> None:
        """Prefer `light` or `dark`; kind: `print` for paper."""
        wish = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=kind, features=wish)

    def key(self, key: str, code: str = "", number: int = 0) -> None:
        """Press a key and let it go."""
        said = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        text = {"text": "\r"} if key == "Enter" else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **said, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **said)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Write the page as a PNG, `whole` beyond what the screen shows."""
        found = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.contextmanager
def chromium() -> Iterator[Page]:
    """Start a browser with one empty tab, which listens to console and network."""
    program = next(name for name in BROWSERS if shutil.which(name))
    ours, theirs = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # Containers allow no sandbox; the page is our own.
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        flags += ["--disable-background-networking", "--no-first-run", "--hide-scrollbars"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={folder}/profile", "about:blank"]
        # The browser reads at descriptor 3 and writes at 4.
        shell = f'exec "$0" "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        process = subprocess.Popen(
            ["sh", "-c", shell, program, *flags],
            pass_fds=(ours[0], theirs[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ours[0])
        os.close(theirs[1])
        try:
            yield _tab(Page(ours[1], theirs[0]))
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(ours[1])
            os.close(theirs[0])


def _tab(page: Page) -> Page:
    target = page.ask("Target.createTarget", url="about:blank")["targetId"]
    page.session = page.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log"):
        page.ask(f"{domain}.enable")
    return page
