"""The table that ships says what the profiles beside it say."""

from __future__ import annotations

from typing import cast

import pytest

from mobileseg.files import shipped
from mobileseg.latency.profile import Precision, precisions
from mobileseg.workflow.device import device, devices

TABLE = shipped("assets", "devices", "ACCURACY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", devices())
def test_no_figure_is_a_stale_copy(name: str) -> None:
    """Else a machine calibrated again would be trusted by its old error."""
    found = {precision: error for shown, precision, *error in _rows() if shown == name}
    profile = device(name)
    assert set(found) == {precision for precision, _ in precisions(profile)}
    for precision, cells in found.items():
        table = profile.coefficients(cast(Precision, precision))
        (band, *_) = [cell for cell in cells if cell.startswith("x")]
        assert band == f"x{table.error.factor:.2f}"
        if table.basis == "fitted":
            assert f"**{table.error.median_percent:.1f}**" in cells
            assert f"{table.error.inside_percent:.0f}" in cells


def _rows() -> list[list[str]]:
    lines = [line for line in TABLE.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
