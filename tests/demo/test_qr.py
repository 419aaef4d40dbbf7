"""The QR code in the terminal."""

from __future__ import annotations

import sys

import pytest

from mobileseg.demo.qr import qr_code


def test_without_segno_it_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    assert qr_code("https://192.0.2.1:8760/") == (
        "for a QR code here: pip install 'mobileseg[demo]'"
    )


def test_it_is_the_address() -> None:
    segno = pytest.importorskip("segno")
    address = "https://192.0.2.1:8760/?token=abc"
    lines = qr_code(address).splitlines()
    # Two rows of modules are a line, with a border of two around.
    side = segno.make(address, micro=False).symbol_size(border=2)[0]
    assert len(lines) == (side + 1) // 2
    assert lines != qr_code(address + "d").splitlines()
