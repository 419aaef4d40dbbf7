"""The committed tables of published latencies, every row expanded into its operators."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from mobileseg.errors import unknown
from mobileseg.graph.ir import Graph
from mobileseg.latency.cost import Features
from mobileseg.latency.devices import DEVICES
from mobileseg.latency.expand import Block, block_graph, network_graph
from mobileseg.latency.kernels import features, touched
from mobileseg.latency.profile import Fused, Precision
from mobileseg.latency.solve import Sample


@dataclass(frozen=True)
class Measured(Sample):
    """One row of the tables, and where it was measured. whole: a network, not a block."""

    device: str
    precision: Precision
    source: str
    whole: bool


def read_facts(folder: Path) -> list[Measured]:
    """Read the committed tables and expand every row into its operators."""
    return [*_blocks(folder / "blocks.csv.gz"), *_networks(folder / "networks.csv")]


def _blocks(path: Path) -> list[Measured]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    columns = [device.name for device in DEVICES if device.blocks]
    found = []
    for row in table:
        block = Block(
            row["op"],
            int(row["size"]),
            int(row["cin"]),
            int(row["cout"]),
            int(row["kernel"]),
            int(row["stride"]),
            int(row["expand"]),
            row["se"] == "1",
        )
        if block.op in UNLIKE:
            continue
        graph = block_graph(block)
        operators = _operators(graph)
        found += [
            Measured(
                operators, block.family, float(row[f"{n}_ms"]), n, "float32", row["source"], False
            )
            for n in columns
        ]
    return found


def _networks(path: Path) -> list[Measured]:
    with path.open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    fuses = {device.name: device.fuses for device in DEVICES}
    found = []
    for row in table:
        if row["device"] not in fuses:
            continue
        precision = _precision(row["precision"])
        graph = network_graph(row["network"], float(row["width"]), int(row["size"]), precision)
        operators = _operators(graph, fuses[row["device"]])
        found.append(
            Measured(
                operators,
                row["network"],
                float(row["ms"]),
                row["device"],
                precision,
                row["source"],
                True,
            )
        )
    return found


def _operators(graph: Graph, fuses: Sequence[Fused] = ()) -> tuple[Features, ...]:
    between = touched(graph)
    return tuple(features(graph, node, between, fuses) for node in graph.nodes)


def _precision(name: str) -> Precision:
    if name not in get_args(Precision):
        raise unknown("networks.csv", "precision", name, get_args(Precision))
    return cast(Precision, name)


# A transformer's two products run as FULLY_CONNECTED on reshaped tensors with a normalisation
# before them: 30 % slower than the same convolutions, on all four phones. No segmenter has one.
UNLIKE = frozenset({"transformer_ffn", "transformer_attn"})
