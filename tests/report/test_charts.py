"""What the charts say: the Pareto front, ticks, scales, merged blocks."""

from __future__ import annotations

import pytest

from mobileseg.report.html.bars import Group, bars_chart
from mobileseg.report.html.scatter import Point, accuracy_chart, pareto
from mobileseg.report.html.svg import Scale, tick_texts
from mobileseg.report.html.tables import less


def test_the_front_holds_what_none_beats_in_both() -> None:
    points = [
        Point("dear", 9.0, 90.0, 0),
        Point("beaten", 9.5, 89.0, 0),
        Point("cheap", 1.0, 80.0, 1),
        Point("twin", 1.0, 79.0, 1),
        Point("middle", 4.0, 85.0, 1),
        Point("worse", 5.0, 85.0, 1),
    ]
    assert [point.name for point in pareto(points)] == ["cheap", "middle", "dear"]
    drawn = accuracy_chart(points, "title", "time", "ms")
    assert drawn.count(" best") == 3
    assert "On the front: cheap int8: 80.00 % at 1 ms; middle" in drawn


def test_one_network_is_its_own_front() -> None:
    drawn = accuracy_chart([Point("only", 2.0, 50.0, 1)], "title", "time", "ms")
    assert drawn.count(" best") == 1 and "nan" not in drawn


@pytest.mark.parametrize(
    ("low", "high", "log", "ticks"),
    [
        (0.0, 10.0, False, [0, 2, 4, 6, 8, 10]),
        (81.3, 88.9, False, [82, 84, 86, 88]),
        (1.0, 80.0, True, [1, 2, 5, 10, 20, 50]),
        (0.009, 1100.0, True, [0.01, 0.1, 1, 10, 100, 1000]),
        # Within less than a decade logarithmic steps are too few.
        (2.2, 4.1, True, [2.5, 3, 3.5, 4]),
        (5.0, 5.0, False, [5]),
    ],
)
def test_ticks_are_round_and_few(low: float, high: float, log: bool, ticks: list[float]) -> None:
    assert Scale(low, high, 0, 100, log).ticks() == pytest.approx(ticks)


def test_a_scale_runs_from_end_to_end() -> None:
    scale = Scale(1.0, 100.0, 40.0, 400.0, log=True)
    assert [scale(1.0), scale(10.0), scale(100.0)] == pytest.approx([40, 220, 400])


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(10.0, 2.5, "4x less"), (2.0, 3.0, "1.5x more"), (3.0, 3.0, "the same")],
)
def test_ratios_in_words(before: float, after: float, words: str) -> None:
    assert less(before, after) == words


@pytest.mark.parametrize(
    ("ticks", "log", "texts"),
    [
        ([30.2, 30.25, 30.3], False, ["30.20", "30.25", "30.30"]),
        ([0.0, 20.0, 40.0], False, ["0", "20", "40"]),
        ([0.05, 1.0, 2000.0], True, ["0.05", "1", "2,000"]),
    ],
)
def test_ticks_that_differ_read_differently(
    ticks: list[float], log: bool, texts: list[str]
) -> None:
    assert tick_texts(ticks, log) == texts


def test_of_many_bars_the_shortest_are_summed_up() -> None:
    groups = [Group(f"block{number}", (float(number), None)) for number in range(100)]
    drawn = bars_chart(groups, ("before", "after"), "title", "{:.1f}".format)
    assert "block99" in drawn and "block60" not in drawn
    # 0 to 60 make 1830.
    assert "61 others, before: 1830.0" in drawn
    assert "after:" not in drawn
