"""The QR code in the terminal."""

from __future__ import annotations

import sys

import pytest

from mobileseg.demo.qr import can_draw, qr_code


def test_segno_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    assert not can_draw()


def test_it_is_the_address() -> None:
    segno = pytest.importorskip("segno")
    address = "https://192.0.2.1:8760/?token=abc"
    drawn = qr_code(address)
    # Two rows of modules are a line, with a border of two around.
    side = segno.make(address, micro=False).symbol_size(border=2)[0]
    assert len(drawn.splitlines()) == (side + 1) // 2
    assert drawn != qr_code(address + "d")
