"""The table that says how far the shipped estimates can be trusted, written by the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from mobileseg.latency.error import UNTIMED, LayerBand
from mobileseg.latency.profile import (
    Coefficients,
    DeviceProfile,
    FitError,
    Precision,
    precisions,
)


@dataclass(frozen=True)
class Line:
    """One precision of a device; if it has rows, the naive model's error and a layer's band.

    single: what was measured where one network alone was, too little for a fit.
    """

    profile: DeviceProfile
    precision: Precision
    table: Coefficients
    naive: FitError | None
    layer: LayerBand | None
    single: str = ""

    def text(self) -> str:
        """One line of the fit's report: what it foretold of what it had not seen."""
        error = self.table.error
        return (
            f"{self.profile.name:15} {self.precision:8} {self.table.basis:12} {error.rows:5} rows  "
            f"median {error.median_percent:5.1f} %  mean {error.mean_percent:5.1f} %  "
            f"p90 {error.p90_percent:5.1f} %  Spearman {error.spearman:.4f}  "
            f"inside {error.inside_percent:5.1f} %"
        )


def accuracy_text(
    lines: Sequence[Line], command: str, calibrated: Sequence[DeviceProfile] = ()
) -> str:
    """Return the tables as Markdown; calibrated: profiles that tell their own error."""
    own = [line for line in lines if line.naive is not None]
    other = [line for line in lines if line.naive is None]
    return _TEXT.format(
        command=command,
        head=f"| {' | '.join(_HEAD)} |",
        rule=f"|---|---|{'--:|' * (len(_HEAD) - 2)}",
        fitted="\n".join(map(_fitted, own)),
        transferred="\n".join(map(_transferred, other)),
        calibrated_head=f"| {' | '.join(_OWN_HEAD)} |",
        calibrated_rule=f"|---|---|{'--:|' * (len(_OWN_HEAD) - 2)}",
        calibrated="\n".join(
            _calibrated(profile, precision, table)
            for profile in calibrated
            for precision, table in precisions(profile)
        ),
    )


def _fitted(line: Line) -> str:
    error, naive, layer = line.table.error, line.naive, line.layer
    assert naive is not None
    assert layer is not None
    timed = layer.inside_percent != UNTIMED
    cells = [
        line.profile.name,
        line.precision,
        str(line.profile.threads),
        str(error.rows),
        str(error.families),
        f"**{error.median_percent:.1f}**",
        f"{error.mean_percent:.1f}",
        f"{error.p90_percent:.1f}",
        f"{error.within_10_percent:.0f}",
        f"{error.spearman:.3f}",
        f"x{error.factor:.2f}",
        f"{error.inside_percent:.0f}",
        f"x{max(error.factor, exp(layer.log)):.2f}",
        f"{layer.inside_percent:.0f}" if timed else "-",
        f"{naive.median_percent:.1f}",
        f"{naive.within_10_percent:.0f}",
        f"{naive.spearman:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _transferred(line: Line) -> str:
    table = line.table
    how = "; ".join(filter(None, (table.note, line.single)))
    return f"| {line.profile.name} | {line.precision} | x{table.error.factor:.2f} | {how} |"


def _calibrated(profile: DeviceProfile, precision: Precision, table: Coefficients) -> str:
    error = table.error
    cells = [
        profile.name,
        precision,
        str(profile.threads),
        str(error.rows),
        str(error.families),
        f"**{error.median_percent:.1f}**",
        f"{error.mean_percent:.1f}",
        f"{error.p90_percent:.1f}",
        f"{error.spearman:.3f}",
        f"x{error.factor:.2f}",
        f"{error.inside_percent:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


_HEAD = (
    "device",
    "precision",
    "threads",
    "rows",
    "families",
    "median %",
    "mean %",
    "p90 %",
    "within 10 %, %",
    "Spearman",
    "band",
    "inside %",
    "layer band",
    "blocks inside %",
    "MACs only: median %",
    "within 10 %, %",
    "Spearman",
)

_OWN_HEAD = (*_HEAD[:8], "Spearman", "band", "inside %")

_TEXT = """# How far the estimates can be trusted

Written by `{command}`; the same data give the same table.

Every figure is of rows that the fit had not seen: each family (a kind of block, an architecture)
is left out in turn and foretold from the others. Errors are absolute, in percent of the
measurement. *Band*: the factor of the 80 % band around a whole network; *inside*: how many rows
fall into a band that was made without their own family; rows of which half the time or more comes
from kernels that the other families do not hold count in the errors, but neither in *band* nor in
*inside*: such kernels widen an estimate's band by themselves. *Layer band*: that of a single layer;
*blocks inside*: how many blocks of a family that the fit had not seen lie inside it. Where no block
was timed it is the donor's, widened by the device's own error. *MACs only* is the naive model,
multiply-adds over one rate, checked in the same way on the same rows.

{head}
{rule}
{fitted}

pixel1, pixel4, pixel6 and mi11 are fitted to blocks (one to ten operators) and checked on them, all
others on whole networks. Of the four only pixel1 has networks, XNNPACK's of 2020: 10 to 16 % slower
than its blocks foretell; no network's band is narrower than x1.2 on any of the four. With fewer
than ten rows the figures of a line are anecdotes, and the band is x1.30 at least. No rate lies
above what the cores' data sheets allow (`assets/latency/cores.csv`); Paddle-Lite's 3x3 convolutions
count the multiplications that Winograd's transform leaves. A kernel whose rate another device told
widens a network's band by its share of the time. Left out, ResNet-50 at float16 comes out a quarter
too slow or more: that build takes larger tiles of Winograd's than the 2x2 that are counted.

## Transferred

No two networks were measured on this device at this precision in TFLite, XNNPACK or Paddle-Lite;
the figures stand on another device's. Of some, ncnn publishes times: another runtime's, which are
not used.

| device | precision | band | how |
|---|---|---|---|
{transferred}

## Calibrated

These profiles were written by `mobileseg latency calibrate` on the machine itself, and the figures
are its own: of the designed networks that are blocks, each family foretold from the others and from
the single kernels. They are as of the last `{command}`.

{calibrated_head}
{calibrated_rule}
{calibrated}

## Beside nn-Meter's published figures

nn-Meter publishes the share of networks that it foretells to within 10 %, of 26,000 networks:

| device | framework | within 10 %, % |
|---|---|--:|
| Pixel 4, Cortex-A76 | TFLite 2.1 | 99.0 |
| Mi 9, Adreno 640 | TFLite 2.1 | 99.1 |
| Pixel 3 XL, Adreno 630 | TFLite 2.1 | 99.0 |
| Intel NCS2, Myriad VPU | OpenVINO 2019R2 | 83.4 |

Source: microsoft/nn-Meter, README.md, commit 045a14784e797ffb1d36139732a66ee5c325dc1d. Those are
whole networks, most of them variants of architectures that its predictors were trained for, each
kernel measured in thousands of shapes on that phone. The columns above leave whole families out
and count single blocks too: compare with care.
"""
