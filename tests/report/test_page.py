"""The page's text: well formed, nothing from outside, no name taken for markup."""

from __future__ import annotations

import base64
import hashlib
import itertools
from html.parser import HTMLParser
from typing import Any

import pytest

from mobileseg.report.html.page import page
from tests.report.facts import HOSTILE, bare_facts, hostile_facts

_VOID = {"meta", "link", "img", "br"}
# Attributes that make a browser load something, or run it.
_LOADING = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction"}


class Read(HTMLParser):
    """A page as a list of its elements; raises where tags do not fit together."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(params=[hostile_facts, bare_facts], ids=["hostile", "bare"])
def read(request: pytest.FixtureRequest) -> Read:
    return Read(page(request.param()))


def test_nothing_is_loaded_and_no_name_is_markup(read: Read) -> None:
    for tag, attrs in read.elements:
        for name, value in attrs.items():
            assert not name.startswith("on"), f"{tag} {name}"
            assert name != "style", "the policy would refuse it"
            if name in _LOADING:
                assert (value or "").startswith(("#", "data:")), f"{tag} {name}={value}"
    assert len(read.all("script")) == 1
    assert not read.all("iframe") and not read.all("object")
    assert "@import" not in "".join(read.texts["style"])
    assert "url(" not in "".join(read.texts["style"])


def test_the_policy_lets_this_script_and_style_run_and_nothing_else(read: Read) -> None:
    (policy,) = [m["content"] for m in read.all("meta") if "http-equiv" in m]
    assert policy is not None and policy.startswith("default-src 'none'")
    for tag in ("script", "style"):
        text = "".join(read.texts[tag])
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_hostile_names_are_read_as_they_are() -> None:
    read = Read(page(hostile_facts()))
    for tag in ("h1", "title", "span", "figcaption", "code", "text", "dd", "caption", "summary"):
        said = "".join(read.texts[tag])
        assert "alert(1)" in said or tag in {"dd", "text"}, tag
    assert HOSTILE in read.texts["h1"]
    assert any(HOSTILE in (image["alt"] or "") for image in read.all("img"))


def test_whoever_cannot_see_or_point_finds_the_way(read: Read) -> None:
    levels = [int(tag[1]) for tag, _ in read.elements if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attrs["id"] for _, attrs in read.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for link in read.all("a"):
        assert (link["href"] or "")[1:] in ids
    assert all(image["alt"] for image in read.all("img"))
    charts = [svg for svg in read.all("svg") if svg.get("aria-hidden") != "true"]
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in charts)
    heads = [attrs for attrs in read.all("th") if attrs["scope"] == "col"]
    assert heads and all(attrs["aria-sort"] == "none" for attrs in heads)
    assert len(read.all("button")) == len(heads) + 1
    assert len(read.all("main")) == 1 and read.all("html")[0]["lang"] == "en"


def test_a_name_of_bytes_breaks_nothing() -> None:
    facts = bare_facts() | {"title": "caf\udce9 \x00"}
    assert "<title>caf? " in page(facts).encode().decode()


def test_what_is_missing_is_named_in_its_place() -> None:
    text = page(bare_facts())
    for words in (
        "of base: is counted and priced",
        "no step has an accuracy to draw",
        "no measured times",
        "no step has scores",
    ):
        assert words in text


def charts_of(facts: dict[str, Any], title: str) -> str:
    text = page(facts)
    start = text.index(title)
    return text[start : text.index("</figure>", start)]


def test_before_and_after_stand_side_by_side_by_block() -> None:
    facts = hostile_facts()
    drawn = charts_of(facts, "Time by block")
    # Two blocks of one operator each before, two others after: four bars.
    assert drawn.count('class="bar s0"') - drawn.count('<rect class="bar s0" x="6"') == 2
    assert "conv1, base: 0.100" in drawn and "conv2, base: 0.200" in drawn
