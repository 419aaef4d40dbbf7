"""A page of a report as its readers have it: in Chromium, on a screen and on a phone."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.browser.chromium import BROWSERS
from tests.demo.chromium import Page

_CHECKS = Path(__file__).parent / "checks.js"
SCREENS = ((1280, False), (1280, True), (360, False), (360, True))


def missing() -> str:
    """Return what these tests lack on this machine; empty where nothing is."""
    found = any(map(shutil.which, BROWSERS))
    return "" if found else "there is no Chromium; Debian's package is chromium"


def problems(page: Page, file: Path) -> list[str]:
    """Return what is wrong on any screen, all details open; with what the console says.

    The page must ask for nothing but itself and what is inside of it.
    """
    page.complaints.clear()
    page.requests.clear()
    found = []
    for width, dark in SCREENS:
        page.show(width, 800, dark)
        page.open(file.as_uri())
        for shut in (True, False):
            where = f"{width} {'dark' if dark else 'light'}{' shut' if shut else ''}"
            script = _CHECKS.read_text(encoding="utf-8").replace("%WIDTH%", str(width))
            found += [f"{where}: {words}" for words in page.ask(script.strip().rstrip(";"))]
            page.ask("document.querySelectorAll('details').forEach((each) => each.open = true)")
    page.wait("[...document.images].every((each) => each.complete)")
    asked = {url for url in page.requests if not url.startswith("data:")}
    found += [f"asked for {url}" for url in asked - {file.as_uri(), "about:blank"}]
    return found + page.complaints
