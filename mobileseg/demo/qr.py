"""An address as a QR code in the terminal."""

from __future__ import annotations

import io


def qr_code(address: str) -> str:
    """Return the address as a QR code of block characters, or how to get one."""
    try:
        import segno  # noqa: PLC0415  (an extra)
    except ImportError:
        return "for a QR code here: pip install 'mobileseg[demo]'"
    drawn = io.StringIO()
    segno.make(address, micro=False).terminal(drawn, border=2, compact=True)
    return drawn.getvalue().rstrip("\n")
