"""The consumers' rules on files that keep them, and on files that break one each."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobileseg.reading.read import read_surface
from mobileseg.reading.rules.rule import Row
from mobileseg.reading.rules.targets import RULES, rows
from tests.reading.consumer_cases import Case, cases

CASES = cases()


def looked(case: Case, target: str, folder: Path) -> list[Row]:
    path = folder / "net.tflite"
    path.write_bytes(case.data)
    return rows(read_surface(path), target)


@pytest.mark.parametrize("target", ["mediapipe", "task"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_consumer_does_not_take_is_violated(case: Case, target: str, tmp_path: Path) -> None:
    found = looked(case, target, tmp_path)
    broken = [row.rule for row in found if row.verdict == "violated"]
    assert bool(broken) == case.violates(target), broken
    assert all(row.mend for row in found if row.verdict != "ok")


@pytest.mark.parametrize("target", ["mediapipe", "task"])
def test_every_rule_is_kept_and_broken_by_some_file(target: str, tmp_path: Path) -> None:
    verdicts: dict[str, set[str]] = {rule.says: set() for rule in RULES[target]}
    for case in CASES:
        for row in looked(case, target, tmp_path):
            verdicts[row.rule].add("ok" if row.verdict == "ok" else "breach")
    # A byte that is no pixel, and an integer output without scale, cannot be written by us.
    unseen = {"the byte is the pixel", "an integer output has a scale"}
    for rule, seen in verdicts.items():
        assert seen == {"ok", "breach"} or rule in unseen, rule
