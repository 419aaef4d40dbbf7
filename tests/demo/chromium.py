"""Headless Chromium, steered over a pipe by its DevTools protocol: no other program is needed.

Source: chromedevtools.github.io/devtools-protocol; with --remote-debugging-pipe messages are JSON,
each ended by a zero byte, on file descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.browser.chromium import BROWSERS, ending

PATIENCE_S = 120
# Narrower screens are phones.
_PHONE = 600
_KEYS = {"Tab": 9, "Enter": 13}
_FLAGS = (
    # Containers allow no sandbox; the page is our own.
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--no-first-run", "--remote-debugging-pipe"),
)


_AS_3_AND_4 = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One page: steps of a person, and what is to be seen.

    `complaints`: of its console. `requests`: the addresses it asked for.
    """

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write = read, write
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        found = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to an address."""
        self._call("Page.navigate", url=url)
        self.wait("location.protocol !== 'about:' && document.readyState === 'complete'")

    def ask(self, code: str) -> Any:
        """Return what an expression of the page's JavaScript is, awaited, as JSON has it."""
        said = self._call(
            "Runtime.evaluate",
            expression=f"(async () => ({code}))()",
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in said:
            raise RuntimeError(str(said["exceptionDetails"]))
        return said["result"].get("value")

    def wait(self, code: str) -> Any:
        """Ask until the answer is true. Raises TimeoutError with the console's words."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if answer := self.ask(code):
                return answer
            time.sleep(0.1)
        shown = self.ask("document.body.innerText")
        raise TimeoutError(f"{code}: never so; the page: {shown}; {self.complaints}")

    def click(self, selector: str) -> None:
        self.ask(f"document.querySelector({json.dumps(selector)}).click()")

    def choose(self, selector: str, value: str) -> None:
        """Choose an option by what it reads."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.ask(f"{found}.value = {json.dumps(value)}")
        self.ask(f"{found}.dispatchEvent(new Event('change', {{bubbles: true}}))")

    def text(self, selector: str) -> str:
        return str(self.ask(f"document.querySelector({json.dumps(selector)}).textContent"))

    def give_files(self, selector: str, paths: Sequence[Path]) -> None:
        """Choose files as a person does."""
        root = self._call("DOM.getDocument")["root"]["nodeId"]
        node = self._call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        files = [str(path) for path in paths]
        self._call("DOM.setFileInputFiles", nodeId=node, files=files)

    def press(self, key: str) -> None:
        """Press a key, as Tab or Enter, and let it go."""
        said: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self._call("Input.dispatchKeyEvent", type="keyDown", **said, **text)
        self._call("Input.dispatchKeyEvent", type="keyUp", **said)

    def show(self, width: int, height: int, dark: bool = False, medium: str = "") -> None:
        """Be a screen of so many pixels, a phone's where it is narrow; medium: print, for paper."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < _PHONE,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media=medium, features=[scheme])

    def look(self, path: Path, width: int, height: int, dark: bool = False) -> None:
        """Write a picture of the whole page as it is on a screen of so many pixels."""
        self.show(width, height, dark)
        time.sleep(0.3)
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=width < _PHONE)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _call(self, method: str, **given: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": given}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                return dict(said["result"])
            self._note(said)

    def _note(self, said: dict[str, Any]) -> None:
        if said.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(said["params"]["exceptionDetails"]))
        elif said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
            self.complaints.append(str(said["params"]["entry"]))
        elif said.get("method") == "Network.requestWillBeSent":
            self.requests.append(said["params"]["request"]["url"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], PATIENCE_S)[0]:
                raise TimeoutError("Chromium says nothing")
            part = os.read(self._read, 2**20)
            if not part:
                raise RuntimeError("Chromium ended")
            self._buffer += part
        first, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(first)
        return found


@contextlib.contextmanager
def browser(*flags: str) -> Iterator[Page]:
    """A page of a browser of its own."""
    program = next(name for name in BROWSERS if shutil.which(name))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _pipes() as ends:
        theirs_in, theirs_out, mine_out, mine_in = ends
        command = [program, *_FLAGS, *flags, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(
            [sys.executable, "-c", _AS_3_AND_4, str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with ending(process):
            yield Page(mine_in, mine_out)


@contextlib.contextmanager
def _pipes() -> Iterator[tuple[int, int, int, int]]:
    """What Chromium reads and writes, then what we write and read."""
    theirs_in, mine_out = _pipe()
    mine_in, theirs_out = _pipe()
    try:
        yield theirs_in, theirs_out, mine_out, mine_in
    finally:
        for each in (theirs_in, theirs_out, mine_out, mine_in):
            os.close(each)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are beyond 3 and 4, which Chromium takes."""
    found = []
    for end in os.pipe():
        found.append(fcntl.fcntl(end, fcntl.F_DUPFD, 10))
        os.close(end)
    return found[0], found[1]
