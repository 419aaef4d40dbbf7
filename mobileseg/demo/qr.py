"""An address as a QR code in the terminal."""

from __future__ import annotations

import io
from importlib.util import find_spec

HINT = "for a QR code here: pip install 'mobileseg[demo]'"


def can_draw() -> bool:
    """Whether segno, an extra, is installed."""
    return find_spec("segno") is not None


def qr_code(address: str) -> str:
    """Return the address as a QR code of block characters, a few lines high."""
    import segno  # noqa: PLC0415  (an extra)

    drawn = io.StringIO()
    segno.make(address, micro=False).terminal(drawn, border=2, compact=True)
    return drawn.getvalue().rstrip("\n")
