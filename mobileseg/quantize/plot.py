"""A picture of what each layer alone costs in int8. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobileseg.figure import COLOURS, OTHER, drawing

_WIDTH, _BAR_HEIGHT = 9.0, 0.2
_COLOURS = {"convolution": COLOURS[0], "depthwise": COLOURS[1]}


def plot(errors: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Write the layers' errors in running order as a PNG: SQNR, and the pixels called otherwise.

    Raises MobilesegError where matplotlib is missing.
    """
    with drawing(path, (_WIDTH, 1.4 + _BAR_HEIGHT * len(errors))) as figure:
        from matplotlib.patches import Patch  # noqa: PLC0415

        figure.suptitle(title, x=0.01, ha="left")
        noise, pixels = figure.subplots(1, 2, sharey=True)
        _bars(noise, errors, "sqnr_db", "SQNR of the output, dB (short is bad)")
        _bars(pixels, errors, "disagreement_percent", "pixels called otherwise, % (long is bad)")
        noise.set_yticks(range(len(errors)), [each["layer"] for each in errors])
        noise.set_ylim(len(errors) - 0.4, -0.6)
        kinds = [kind for kind in _COLOURS if any(each["kind"] == kind for each in errors)]
        bars = [Patch(color=_COLOURS[kind], label=kind) for kind in kinds]
        pixels.legend(handles=[*bars, Patch(color=OTHER, label="other")])


def _bars(axes: Any, errors: Sequence[Mapping[str, Any]], key: str, label: str) -> None:
    colours = [_COLOURS.get(each["kind"], OTHER) for each in errors]
    axes.barh(range(len(errors)), [each[key] for each in errors], color=colours, height=0.75)
    axes.set_xlabel(label)
    axes.spines[["top", "right"]].set_visible(False)
