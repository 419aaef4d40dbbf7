"""The page: facts to one HTML text. Nothing in it refers to anything outside of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mobileseg.report.cells import Facts, number, signed, size
from mobileseg.report.html import charts, tables
from mobileseg.report.picture import HOTTEST
from mobileseg.report.written import missing_by_part

_HERE = Path(__file__).parent


def page(facts: Facts) -> str:
    """Return the report as HTML. All text of the facts is escaped, whatever it is.

    facts: what `mobileseg.workflow.report` gathers: `ladder` rows, `layers`, `measured`,
    `sensitivity`, `files`, `training`, `pictures`, `recipes`, `environment`, `commands`, and
    `missing` with its reasons.
    """
    style, script = (_read(name) for name in ("style.css", "script.js"))
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "size": size, "plain": _plain}
    text = environment.get_template("page.html").render(
        facts=facts,
        # Files of ours, which hold no `</`.
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        cards=_cards(facts["ladder"]),
        notes=_notes(facts["ladder"]),
        missing=missing_by_part(facts["missing"]),
        hottest=100 * HOTTEST,
        tables=_tables(facts),
        charts=charts.all_charts(facts),
    )
    # A file's name may be no text at all, only bytes.
    return text.encode("utf-8", "replace").decode()


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Return what the browser is to allow: this style, this script, pictures inside; no network."""
    style_hash, script_hash = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    )
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{style_hash}'; "
        f"script-src 'sha256-{script_hash}'; base-uri 'none'; form-action 'none'"
    )


def _plain(value: Any) -> str:
    """Return a recipe as people can read it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _cards(rows: Sequence[Facts]) -> list[dict[str, str]]:
    """Return the last step's figures, each against the first step's float ones."""
    last, first = rows[-1], rows[0]
    alone = first is last
    score = last.get("miou_int8_percent", last.get("miou_percent"))
    kind = "int8" if "miou_int8_percent" in last else "float"
    start = next((row for row in rows if "miou_percent" in row), None)
    judge = tables.device_names(rows)[0]
    cards = []
    if score is not None:
        change = ""
        if start is not None and start is not last:
            points = signed(score - start["miou_percent"])
            change = f"{points} points against {start['label']} float"
        cards.append({"name": f"mIoU, {kind}", "value": f"{number(score)} %", "note": change})
    now, then = tables.estimate(last, judge, "int8"), tables.estimate(first, judge, "float32")
    if now is not None:
        note = "" if alone or then is None else tables.less(then["ms"], now["ms"])
        note = note and f"{note} than {first['label']} float32"
        value = f"{now['ms']:.2f} ms"
        cards.append({"name": f"int8 on {judge}, estimated", "value": value, "note": note})
    for name, key, before in (
        ("int8 file", "int8_bytes", "float32_bytes"),
        ("multiply-adds", "macs", "macs"),
    ):
        value = size(last[key]) if key == "int8_bytes" else f"{last[key] / 1e6:.1f} M"
        note = "" if alone else f"{tables.less(first[before], last[key])} than {first['label']}"
        note += " float32" if note and key != before else ""
        cards.append({"name": name, "value": value, "note": note})
    return cards


def _notes(rows: Sequence[Facts]) -> list[str]:
    """Return what the ladder's figures are of."""
    scored = [(row["float"]["images"], row.get("split")) for row in rows if row.get("float")]
    found = [
        f"mIoU: class mean over {count} pictures" + (f" of the {split} split." if split else ".")
        for count, split in dict.fromkeys(scored)
    ]
    found.append("Times are estimates; below each stands the band that holds eight of ten.")
    wasted = [row["label"] for row in rows if row.get("saves_no_time")]
    if wasted:
        found.append(f"Saves multiply-adds, but by the estimate no time: {', '.join(wasted)}.")
    return found


def _tables(facts: Facts) -> dict[str, Any]:
    rows = facts["ladder"]
    scores = [tables.scores_table(row) for row in rows]
    return {
        "ladder": tables.ladder_table(rows),
        "bought": tables.bought_table(rows, tables.device_names(rows)[0]),
        "sizes": tables.sizes_table(rows),
        "files": tables.files_table(facts["files"]),
        "scores": [table for table in scores if table is not None],
        "operators": [tables.operators_table(each) for each in facts["layers"]],
        "measured": tables.measured_table(facts["measured"]),
        "trainings": tables.trainings_table(rows),
        "training": [tables.training_table(each) for each in facts["training"]],
    }
