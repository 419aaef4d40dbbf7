"""The page in headless Chromium: seen, walked through by keyboard, and sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mobileseg.report.html.page import page as page_of
from tests.demo.chromium import Page, browser
from tests.report.facts import bare_facts, hostile_facts
from tests.report.reader import missing, problems

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_of(hostile_facts()), encoding="utf-8")
    return path


@pytest.mark.parametrize("facts", [hostile_facts, bare_facts], ids=["hostile", "bare"])
def test_every_reader_can_read_it(
    page: Page, tmp_path: Path, facts: Callable[[], dict[str, Any]]
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_of(facts()), encoding="utf-8")
    assert problems(page, path) == []


def test_a_bad_page_is_found_out(page: Page, tmp_path: Path) -> None:
    text = page_of(bare_facts()).replace(
        "--quiet: light-dark(#4d5865", "--quiet: light-dark(#c9d0d8"
    )
    wide = '<p class="wide">wide</p><img src="data:,"></main>'
    text = (
        text.replace("</h1>", "</h1><h4>deep</h4>")
        .replace("</main>", wide)
        .replace(".note {", ".wide { width: 900px } .note {")
    )
    path = tmp_path / "report.html"
    path.write_text(text.replace("default-src 'none'; img-src data:;", ""), encoding="utf-8")
    found = "\n".join(problems(page, path))
    # Its style is not the one that the policy knows.
    assert "Content Security Policy" in found
    path.write_text(text.replace('http-equiv="Content-Security-Policy"', ""), encoding="utf-8")
    found = "\n".join(problems(page, path))
    for words in ("contrast 1.", "outside of the screen", "no alt", "h4 after h1"):
        assert words in found, words


def test_the_keyboard_reaches_all_in_order_and_shows_where_it_is(page: Page, file: Path) -> None:
    page.show(1280, 800)
    page.open(file.as_uri())
    page.press("Tab")
    assert page.ask("document.activeElement.className") == "skip"
    assert page.ask("document.activeElement.getBoundingClientRect().top >= 0")
    page.press("Enter")
    page.wait("document.activeElement.id === 'content'")
    page.open(file.as_uri())
    page.ask(
        "window.order = [...document.querySelectorAll('a, button, summary, [tabindex=\"0\"]')]"
        ".filter((each) => each.checkVisibility())"
    )
    count = page.ask("order.length")
    assert count > 30
    for number in range(40):
        page.press("Tab")
        assert page.ask(f"document.activeElement === order[{number}]"), number
        style = "getComputedStyle(document.activeElement)"
        assert page.ask(
            f"{style}.outlineStyle === 'solid' && parseFloat({style}.outlineWidth) >= 2"
        )


def test_a_heading_sorts_by_figures_and_says_so(page: Page, file: Path) -> None:
    page.show(1280, 800)
    page.open(file.as_uri())
    page.ask(
        "window.table = document.querySelector('table'),"
        "window.head = [...table.tHead.rows[0].cells]"
        ".find((cell) => cell.textContent.startsWith('int8 file'))"
    )
    column = "[...table.tBodies[0].rows].map((row) => row.cells[head.cellIndex].textContent)"
    assert page.ask(column) == ["15.00 MB", "3.75 MB", "937.5 KB"]
    page.ask("head.firstElementChild.focus()")
    page.press("Enter")
    assert page.ask("head.getAttribute('aria-sort')") == "ascending"
    assert page.ask(column) == ["937.5 KB", "3.75 MB", "15.00 MB"]
    page.press("Enter")
    assert page.ask("head.getAttribute('aria-sort')") == "descending"
    assert page.ask(column) == ["15.00 MB", "3.75 MB", "937.5 KB"]
    assert page.ask("table.querySelectorAll('[aria-sort=\"none\"]').length") > 5
    # The step without an accuracy stays last, whichever way.
    page.ask("window.head = table.tHead.rows[0].cells[2]")
    for _ in range(2):
        page.ask("head.firstElementChild.click()")
        assert page.ask(column)[-1] == "-"


def test_the_button_turns_light_to_dark_and_is_remembered(page: Page, file: Path) -> None:
    page.show(1280, 800)
    page.open(file.as_uri())
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.ask(colour) == "rgb(255, 255, 255)" and page.text("#theme") == "Dark"
    page.click("#theme")
    assert page.ask(colour) == "rgb(20, 23, 28)" and page.text("#theme") == "Light"
    page.open(file.as_uri())
    assert page.ask(colour) == "rgb(20, 23, 28)"
    page.ask("localStorage.clear()")
    page.show(1280, 800, dark=True)
    page.open(file.as_uri())
    assert page.text("#theme") == "Light"
    page.click("#theme")
    assert page.ask(colour) == "rgb(255, 255, 255)"
    page.ask("localStorage.clear()")


def test_paper_is_white_and_has_no_buttons(page: Page, file: Path) -> None:
    page.show(700, 1000, dark=True, medium="print")
    page.open(file.as_uri())
    assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.ask("document.querySelector('nav').checkVisibility()")
    assert not page.ask("document.querySelector('#theme').checkVisibility()")
    arrow = "getComputedStyle(document.querySelector('.sort'), '::after').content"
    assert page.ask(arrow) == "none"
