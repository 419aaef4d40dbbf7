"""A priced network in words: tables of operators, of cuts, of a whole frame, and the totals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.table import Table

from mobileseg.report.cells import Facts, new_table, shape_text

_TOP = 10
# Characters that all columns of the operators' tables need.
_WIDE = 160


@dataclass(frozen=True)
class _Column:
    """One figure of an operator; `spare` where a narrow terminal can do without it."""

    name: str
    cell: Callable[[Facts], str]
    spare: bool = False


_COLUMNS = (
    _Column("input", lambda row: shape_text(row["input_shapes"][0]), spare=True),
    _Column("output", lambda row: shape_text(row["output_shape"])),
    _Column("MMAC", lambda row: f"{row['macs'] / 1e6:.2f}"),
    _Column("params", lambda row: f"{row['params']:,}", spare=True),
    _Column("KB moved", lambda row: f"{row['bytes_moved'] / 1024:.1f}", spare=True),
    _Column("ms", lambda row: f"{row['ms']:.3f}"),
    _Column("80 % band", lambda row: f"{row['low_ms']:.3f}-{row['high_ms']:.3f}", spare=True),
    _Column("share", lambda row: f"{100 * row['share']:.1f} %"),
)


def latency_tables(pricing: Facts, width: int, measured: Facts | None = None) -> list[Table]:
    """Return benchmark_model's three blocks: run order, top by time, sum by kind.

    Below `_WIDE` characters of `width` columns that can be spared are left out.
    """
    rows = pricing["rows"]
    top = sorted(rows, key=lambda row: -row["ms"])[:_TOP]
    blocks = [
        _latency_rows("Run order", rows, measured, width),
        _latency_rows(f"Top {len(top)} by time", top, measured, width),
    ]
    kinds = Table(title="Sum by kind", title_justify="left")
    kinds.add_column("kind", no_wrap=True)
    for name in ("count", "MMAC", "ms", "share"):
        kinds.add_column(name, justify="right", no_wrap=True)
    for kind in pricing["by_kind"]:
        kinds.add_row(
            kind["kernel"],
            str(kind["count"]),
            f"{kind['macs'] / 1e6:.2f}",
            f"{kind['ms']:.3f}",
            f"{100 * kind['share']:.1f} %",
        )
    more = [_EXTRAS[key](pricing[key]) for key in _EXTRAS if key in pricing]
    return [*blocks, kinds, *(table for tables in more for table in tables)]


def _latency_rows(title: str, rows: Sequence[Facts], measured: Facts | None, width: int) -> Table:
    box = SIMPLE_HEAD if width < _WIDE else HEAVY_HEAD
    table = Table(title=title, title_justify="left", box=box)
    columns = [column for column in _COLUMNS if width >= _WIDE or not column.spare]
    for name in ("#", "layer", "kind"):
        table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column.name, justify="right", no_wrap=True)
    if measured is not None:
        table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("bound by", no_wrap=True)
    for row in rows:
        cells = [str(row["index"]), row["layer"], row["kernel"]]
        cells += [column.cell(row) for column in columns]
        if measured is not None:
            cells.append(_measured(measured, row["index"]))
        table.add_row(*cells, row["bound"])
    return table


def _measured(measured: Facts, index: int) -> str:
    found = measured["operators_ms"][index]
    return f"{found:.3f}" if isinstance(found, float) else found or "-"


def latency_lines(priced: Facts, done: Facts) -> list[str]:
    """Return what stands under the tables: totals, device, runtime, threads, sources."""
    total = f"{priced['ms']:.2f} ms ({priced['low_ms']:.2f}-{priced['high_ms']:.2f})"
    share = pricing_share(priced["coverage"])
    lines = [
        f"{done['network']} {done['precision']} on {priced['title']}: estimated {total}; "
        f"{done['macs'] / 1e6:.1f} MMAC, {done['params'] / 1e6:.3f} M parameters, "
        f"{done['live_bytes'] / 1e3:.1f} KB of activations live at once",
        f"device {priced['device']}: {priced['soc']}, {priced['core']}, "
        f"{priced['threads']} thread(s), {priced['runtime']}",
        f"{share}; bands hold eight of ten networks, or layers, of kinds that the fit has not seen",
        *(f"note: {note}" for note in [priced["note"], *done.get("notes", ())] if note),
        *(f"picture: {path}" for path in priced.get("pictures", [])),
        *(f"source: {source}" for source in priced["source"]),
    ]
    measured = done.get("measured")
    if measured is not None:
        times = f"{measured['median_ms']:.2f} ms median, {measured['p90_ms']:.2f} ms p90"
        runs = "" if measured["runs"] is None else f"{measured['runs']} runs, "
        how = f"{runs}{measured['threads']} thread(s), {measured['how']}"
        lines.append(f"measured in {measured['runtime']}: {times}, {how}")
        if not any(isinstance(each, float) for each in measured["operators_ms"]):
            lines.append("measured as a whole: the runtime's operators cannot be told by layer")
    return lines


def pricing_share(coverage: Facts) -> str:
    """Return in words how much of the time comes from kinds with data."""
    words = {
        "fitted": "fitted to this device",
        "transferred": "transferred from another",
        "assumed": "assumed",
    }
    parts = [f"{100 * coverage[key]:.0f} % {words[key]}" for key in words if coverage[key]]
    return f"of the time: {', '.join(parts) or 'nothing'}"


def _advice(advice: Facts) -> list[Table]:
    flagged = new_table("What slows layers down", ("#", "layer", "kind"), ("ms", "share"))
    flagged.add_column("why", overflow="fold")
    for row in advice["layers"]:
        if row["flags"]:
            flagged.add_row(
                str(row["index"]),
                row["layer"],
                row["kernel"],
                f"{row['ms']:.3f}",
                f"{100 * row['share']:.1f} %",
                "; ".join(row["flags"]),
            )
    if "cuts" not in advice:
        flagged.caption = "what cuts would save is told of recipes and runs: a file cannot be cut"
        return [flagged]
    blocks = new_table("Blocks by time", ("block", "kind"), ("MMAC", "ms", "share"))
    for row in advice["blocks"][:_TOP]:
        blocks.add_row(
            row["block"],
            row["kind"],
            f"{row['macs'] / 1e6:.2f}",
            f"{row['ms']:.3f}",
            f"{100 * row['share']:.1f} %",
        )
    cuts = new_table(
        "What a cut would save, priced again", ("step",), ("saves ms", "then ms", "MMAC")
    )
    for row in advice["cuts"][: 2 * _TOP]:
        flag = " *" if row["saves_no_time"] else ""
        cuts.add_row(
            row["cut"] + flag,
            f"{row['saves_ms']:.3f}",
            f"{row['ms']:.3f}",
            f"{row['saves_macs'] / 1e6:.2f}",
        )
    notes = ["* saves MACs, but by the estimate no time"] * any(
        row["saves_no_time"] for row in advice["cuts"][: 2 * _TOP]
    )
    if advice["refused"]:
        count = len(advice["refused"])
        notes.append(f"{count} other cuts do not fit this network (--json says why)")
    if advice["blocks_cut"] < len(advice["blocks"]):
        notes.append(f"of the {advice['blocks_cut']} slowest blocks")
    cuts.caption = "\n".join(notes) or None
    return [*([flagged] if flagged.row_count else []), blocks, cuts]


def _frame(frame: Facts) -> list[Table]:
    title = "Whole frame of {}x{}".format(*frame["size"])
    table = new_table(title, ("step", "kind"), ("ms", "80 % band", "basis"))
    rows = list(frame["rows"])
    before = [row for row in rows if not row["step"].endswith("out")]
    for row in before:
        table.add_row(*_frame_row(row))
    network_band = f"{frame['network_low_ms']:.3f}-{frame['network_high_ms']:.3f}"
    table.add_row("network", "", f"{frame['network_ms']:.3f}", network_band, "")
    for row in rows[len(before) :]:
        table.add_row(*_frame_row(row))
    band = f"{frame['low_ms']:.3f}-{frame['high_ms']:.3f}"
    table.add_row("together", "", f"{frame['ms']:.3f}", band, "")
    return [table]


def _frame_row(row: Facts) -> list[str]:
    band = f"{row['low_ms']:.3f}-{row['high_ms']:.3f}"
    return [row["step"], row["kernel"], f"{row['ms']:.3f}", band, row["basis"]]


def _against(found: Facts) -> list[Table]:
    threads = "threads unknown" if found["threads"] is None else f"{found['threads']} thread(s)"
    title = (
        f"Beside {found['file']}: measured {found['measured_ms']:.2f} ms ({found['how']}, "
        f"{found['runtime']}, {threads}), estimated {found['estimated_ms']:.2f} ms"
    )
    names = ("estimated ms", "80 % band", "measured ms", "miss ms", "inside")
    table = new_table(title, ("#", "layer", "kind"), names)
    for row in found["rows"]:
        table.add_row(
            str(row["index"]),
            row["layer"],
            row["kernel"],
            f"{row['estimated_ms']:.3f}",
            f"{row['low_ms']:.3f}-{row['high_ms']:.3f}",
            f"{row['measured_ms']:.3f}",
            f"{row['miss_ms']:+.3f}",
            "yes" if row["inside"] else "no",
        )
    inside = f"{found['operators_inside']} of {len(found['rows'])} operators inside their bands"
    table.caption = (
        f"{inside}, together measured {found['operators_ms']:.2f} ms; "
        f"{found['fused']} have no time of their own"
    )
    return [table]


def calibrated_table(done: Facts) -> Table:
    """Return what a calibration reached on blocks that it had not seen, and how quiet it was."""
    title = f"{done['device']}: {done['title']}, {done['runtime']}, {done['threads']} thread(s)"
    names = ("median error", "Spearman", "80 % band", "rounds differ by", "others took")
    table = new_table(title, ("precision",), names)
    for name, row in done["precisions"].items():
        table.add_row(
            name,
            f"{row['median_error_percent']:.1f} %",
            f"{row['spearman']:.4f}",
            f"/ and * {row['factor']:.2f}",
            f"{row['spread_percent']:.1f} %",
            f"{row['stolen_percent']:.0f} %",
        )
    return table


def devices_table(rows: Sequence[Facts]) -> Table:
    """Return the devices with the error of their figures, as cross-validation found it."""
    table = Table(title="Devices", title_justify="left")
    for name in ("name", "title", "chip", "core", "runtime"):
        table.add_column(name)
    for name in ("threads", "float32", "float16", "int8"):
        table.add_column(name, justify="right")
    for row in rows:
        errors = [_fit_error(row[precision]) for precision in ("float32", "float16", "int8")]
        words = [row[key] for key in ("name", "title", "soc", "core", "runtime")]
        table.add_row(*words, str(row["threads"]), *errors)
    return table


def _fit_error(fit: Facts | None) -> str:
    if fit is None:
        return "-"
    if fit["basis"] == "transferred":
        # The error is that of the device it stands on; the band is this one's.
        return f"transferred, band / and * {fit['band_factor']:.2f}"
    return f"{fit['basis']}, median error {fit['median_error_percent']:.1f} %"


# What else may have been asked of a device, and how it is shown.
_EXTRAS = {"advice": _advice, "frame": _frame, "against": _against}
