"""Facts of a report as hostile as names can be, and their parts, for tests of the page."""

from __future__ import annotations

from typing import Any

import numpy as np

from mobileseg.report.picture import embedded, heated, tinted

HOSTILE = "</script><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
LONG = "a_name_that_somebody_took_for_a_sentence_" * 6


def row(label: str, shrink: float, trained: bool = True) -> dict[str, Any]:
    """Return a ladder's row that costs 1 / shrink of the first."""
    time = {"ms": 40 / shrink, "low_ms": 30 / shrink, "high_ms": 53 / shrink}
    half = {key: value / 2 for key, value in time.items()}
    counted = {
        "label": label,
        "parent": None,
        "image_size": [64, 96],
        "params": int(14e6 / shrink),
        "macs": int(1e9 / shrink),
        "float32_bytes": int(57e6 / shrink),
        "int8_bytes": int(15e6 / shrink),
        "estimated_ms": {HOSTILE: {"float32": time, "int8": half}},
    }
    scores = {
        "miou_percent": 90 - shrink,
        "accuracy_percent": 95.0,
        "iou_percent": {HOSTILE: 91.0, "hidden": None},
        "images": 32,
    }
    reached = {
        "miou_percent": 90 - shrink,
        "miou_int8_percent": 89.9 - shrink,
        "float": scores,
        "int8": scores,
        "int8_gzip_bytes": int(12e6 / shrink),
        "train_images": 86,
        "train_seconds": 309.9,
    }
    return counted | (reached if trained else {})


def priced(label: str, layers: tuple[str, ...]) -> dict[str, Any]:
    """Return a network's priced operators."""
    rows = [
        {
            "layer": layer,
            "kernel": HOSTILE if number % 2 else "dense",
            "macs": 1_000_000 * (number + 1),
            "params": 1000,
            "bytes_moved": 20_000,
            "ms": 0.1 * (number + 1),
            "share": 0.2,
            "bound": "memory",
            "measured_ms": 0.15 if number else None,
            "output_shape": [1, 8, 32, 48],
        }
        for number, layer in enumerate(layers)
    ]
    return {
        "label": label,
        "device": HOSTILE,
        "precision": "int8",
        "rows": rows,
        "kinds": ["dense", HOSTILE],
        "roof": {"giga_per_s": 65.0, "caches_gb_per_s": 57.0, "memory_gb_per_s": 12.8},
    }


def looked(label: str) -> dict[str, Any]:
    """Return a network's worst pictures, small ones that are really drawn."""
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (30, 20, 3), np.uint8)
    labels = np.zeros((30, 20), np.uint8)
    labels[10:, 5:15] = 1
    heat = random.random((8, 12)).astype(np.float32)
    mask = {"picture": embedded(tinted(photo, labels)), "shares": {HOSTILE: 70.0, "person": 30.0}}
    hot = {"mean_percent": 1.0, "highest_percent": 9.0}
    overlays = [
        {"name": "truth", "miou_percent": None} | mask,
        {"name": "float", "miou_percent": 80.0} | mask,
        {"name": "int8", "miou_percent": 79.0} | mask,
        {"name": "heat", "picture": embedded(heated(heat, photo))} | hot,
    ]
    return {
        "label": label,
        "split": "test",
        "images": 6,
        "of": 6,
        "file": f"{HOSTILE}.tflite",
        "classes": [{"name": HOSTILE, "colour": "#00ff00"}],
        "worst": [{"image": f"{HOSTILE}.jpg", "overlays": overlays}],
        "heat": {"picture": embedded(heated(heat)), "size": [8, 12]} | hot,
    }


def hostile_facts() -> dict[str, Any]:
    """Return facts of three steps: a counted one, a hostile one and one of a long name."""
    broken = {"epoch": 5, "loss": float("nan"), "val_miou_percent": None, "lr": HOSTILE}
    history = [{"epoch": n, "loss": 1 / n, "val_miou_percent": 70.0 + n} for n in range(1, 5)]
    history.append(broken)
    return {
        "title": HOSTILE,
        "made": "2026-01-01 00:00 UTC",
        "ladder": [row("base", 1, trained=False), row(HOSTILE, 4), row(LONG, 16)],
        "layers": [priced("base", ("conv1.conv", "conv2.conv")), priced(LONG, (HOSTILE, LONG))],
        "measured": [
            {
                "label": LONG,
                "precision": "int8",
                "here": True,
                "median_ms": 1.2,
                "p90_ms": 1.4,
                "runtime": HOSTILE,
                "threads": 1,
            }
        ],
        "sensitivity": [
            {"label": LONG, "errors": [{"layer": HOSTILE, "sqnr_db": 31.5, "drop_points": 0.1}]}
        ],
        "files": [{"label": LONG, "file": HOSTILE, "bytes": 1000, "gzip": 800, "check": None}],
        "training": [{"label": HOSTILE, "history": history}, {"label": LONG, "history": history}],
        "pictures": [looked(HOSTILE), looked(LONG)],
        "commands": [{"what": "made this page", "command": f"mobileseg report {HOSTILE} {LONG}"}],
        "recipes": [{"labels": [HOSTILE], "recipe": {"name": HOSTILE, "data": {"root": LONG}}}],
        "environment": [{"labels": [HOSTILE], "versions": {"python": "3.11", "cpu": LONG}}],
        "missing": [{"part": "files", "run": "base", "why": f"{HOSTILE} {LONG}"}],
    }


def bare_facts() -> dict[str, Any]:
    """Return facts of one step that was only counted: all other parts are empty."""
    lists = (
        "layers",
        "measured",
        "sensitivity",
        "files",
        "training",
        "pictures",
        "commands",
        "recipes",
    )
    return {
        "title": "base",
        "made": "2026-01-01 00:00 UTC",
        "ladder": [row("base", 1, trained=False)],
        "environment": [],
        "missing": [{"part": "ladder", "run": "base", "why": "is counted and priced"}],
    } | {name: [] for name in lists}
