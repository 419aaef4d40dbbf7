"""A picture of figures as a PNG file. Needs matplotlib, which is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError

# Colours that stay apart for colour-blind eyes (Okabe and Ito 2008), and one for all the rest.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
OTHER = "#999999"
_DPI = 130


@contextmanager
def drawing(path: Path, size: tuple[float, float] | None = None) -> Iterator[Any]:
    """Give a matplotlib Figure of `size` (width, height) in inches, and write it to `path` after.

    Raises MobilesegError where matplotlib is missing.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise MobilesegError(
            "--plot: matplotlib is not installed; pip install 'mobileseg[plot]'"
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    # Text is not an equation: a layer may be named a_b.
    with mpl.rc_context({"text.parse_math": False, "font.size": 8}):
        figure = Figure(size, _DPI, layout="constrained")
        yield figure
        figure.savefig(path, metadata={"Software": None})
