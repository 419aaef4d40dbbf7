"""What each layer alone costs in int8: all the others stay in float, in the real runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileseg.export.runtime import LiteRT
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.ir import Graph
from mobileseg.graph.ops import Conv2d, ConvTranspose2d
from mobileseg.quantize.repair import Quantized, with_kept
from mobileseg.train.console import Display
from mobileseg.workflow.network import Pictures, Predict, file_predict
from mobileseg.workflow.verdict import Judge

# So many layers are named: what one person mends at a time.
_BLAMED = 3
# Noise is an average over thousands of pixels of each picture: a few of them tell the layers apart.
_TRIAL_IMAGES = 8

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class LayerError:
    """One layer quantized among floats: its inputs, weights and outputs in int8, no other's.

    `sqnr_db` compares the network's outputs with float ones (larger is better); `drop` is what it
    costs in points of mIoU, `disagreement` in percent of the pixels.
    """

    layer: str
    kind: str
    sqnr_db: float
    drop: float
    disagreement: float

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "sqnr_db": self.sqnr_db,
            "drop_points": self.drop,
            "disagreement_percent": self.disagreement,
        }


def layers(graph: Graph) -> list[str]:
    """Return the layers, in running order."""
    return list(dict.fromkeys(node.layer for node in graph.nodes))


def sensitivity(made: Quantized, judge: Judge) -> list[LayerError]:
    """Return the error of each layer alone, as it was repaired, in running order, on the judge's
    pictures.
    """
    every = layers(made.source)
    given: list[Logits] = []
    _judged(made, every, judge, given)
    expected, errors = np.concatenate(given), []
    with Display(len(every), 0, bar=True) as display:
        for number, layer in enumerate(every):
            display.step(number, f"only {layer} in int8")
            kept = [name for name in every if name != layer]
            logits: list[Logits] = []
            drop, disagreement = _judged(made, kept, judge, logits)
            noise = np.square(np.concatenate(logits) - expected).mean()
            kind, sqnr = _kind(made.source, layer), sqnr_db(expected, noise)
            errors.append(LayerError(layer, kind, sqnr, drop, disagreement))
    return errors


def sqnr_db(expected: Logits, noise: float) -> float:
    """Return the ratio of the signal's power to that of the noise, at most 200 dB."""
    power = float(np.square(expected, dtype=np.float64).mean())
    return min(200.0, 10 * float(np.log10(max(power, 1e-30) / max(float(noise), 1e-30))))


def _judged(
    made: Quantized, kept: Collection[str], judge: Judge, logits: list[Logits]
) -> tuple[float, float]:
    """Return drop in points and disagreement in percent; leave the logits behind."""
    predict = in_runtime(with_kept(made, kept, "float32"))

    def run(images: Pictures) -> Logits:
        logits.append(predict(images))
        return logits[-1]

    verdict = judge.verdict(run, max_drop=0.0)
    return verdict.drop, 100 * (1 - verdict.agreement)


def in_runtime(graph: Graph) -> Predict:
    """Return a graph of ours, written as a file and loaded, as a function of pictures."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tflite"
        path.write_bytes(write_tflite(graph))
        return file_predict(LiteRT(path))


def _kind(graph: Graph, layer: str) -> str:
    nodes = [node for node in graph.nodes if node.layer == layer]
    for node in nodes:
        if isinstance(node.op, Conv2d) and node.op.is_depthwise(graph.shapes(node)):
            return "depthwise"
        if isinstance(node.op, Conv2d | ConvTranspose2d):
            return "convolution"
    return nodes[0].op.kind.lower()


def blamed(made: Quantized, judge: Judge, errors: Sequence[LayerError] = ()) -> tuple[str, ...]:
    """Return the layers whose noise reaches the output strongest, the worst first.

    errors: those of `sensitivity`, where it was asked already.
    """
    errors = errors or sensitivity(made, judge.of_first(_TRIAL_IMAGES))
    return tuple(error.layer for error in sorted(errors, key=lambda e: e.sqnr_db)[:_BLAMED])
