"""A picture of what each layer alone costs in int8. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError

_WIDTH, _BAR_HEIGHT, _DPI = 9.0, 0.2, 130
# Colours that stay apart for colour-blind eyes (Okabe and Ito 2008).
_COLOURS = {"convolution": "#0072B2", "depthwise": "#E69F00"}
_OTHER = "#999999"


def plot(errors: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Write the layers' errors in running order as a PNG: SQNR, and the pixels called otherwise.

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
        figure = Figure((_WIDTH, 1.4 + _BAR_HEIGHT * len(errors)), _DPI, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left")
        noise, pixels = figure.subplots(1, 2, sharey=True)
        _bars(noise, errors, "sqnr_db", "SQNR of the output, dB (short is bad)")
        _bars(pixels, errors, "disagreement_percent", "pixels called otherwise, % (long is bad)")
        noise.set_yticks(range(len(errors)), [each["layer"] for each in errors])
        noise.set_ylim(len(errors) - 0.4, -0.6)
        kinds = [kind for kind in _COLOURS if any(each["kind"] == kind for each in errors)]
        bars = [mpl.patches.Patch(color=_COLOURS[kind], label=kind) for kind in kinds]
        pixels.legend(handles=[*bars, mpl.patches.Patch(color=_OTHER, label="other")])
        figure.savefig(path, metadata={"Software": None})


def _bars(axes: Any, errors: Sequence[Mapping[str, Any]], key: str, label: str) -> None:
    colours = [_COLOURS.get(each["kind"], _OTHER) for each in errors]
    axes.barh(range(len(errors)), [each[key] for each in errors], color=colours, height=0.75)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
