"""What quantization-aware training left in a run's folder: a float graph and its ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.files import read_json, write_json
from mobileseg.graph.ir import Graph
from mobileseg.quantize.calibrate import Ranges
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.edges import Interface
from mobileseg.quantize.qat.config import QatConfig
from mobileseg.quantize.repair import Quantized
from mobileseg.reading.saved import load_graph, save_graph
from mobileseg.recipe import Recipe
from mobileseg.runs import Run
from mobileseg.workflow.network import Output, with_output


@dataclass(frozen=True)
class Trained:
    """The trained graph of logits, in float; with its ranges it is the int8 one."""

    source: Graph
    ranges: Ranges

    def int8(self, output: Output = "logits", interface: Interface = "uint8") -> Quantized:
        """Return the int8 graph that ships."""
        graph = with_output(self.source, output)
        int8 = quantize(graph, self.ranges, interface)
        return Quantized(int8, graph, self.ranges, repaired=True)


def origin_of(run: Run, recipe: Recipe, config: QatConfig) -> dict[str, Any]:
    """Return all that the result is made of, as plain JSON."""
    plain = recipe.as_dict() | {"qat": asdict(config)}
    said = {key: plain[key] for key in ("seed", "data", "augment", "train", "quantize", "qat")}
    # Where the pictures lie and what is asked of the result do not change it.
    for key, word in (("data", "root"), ("quantize", "max_drop"), ("qat", "max_drop")):
        said[key].pop(word)
    return {"weights_sha256": run.weights_digest, **said}


def save_trained(run: Run, trained: Trained, origin: Mapping[str, Any]) -> None:
    """Write the result."""
    digest = origin["weights_sha256"]
    save_graph(trained.source, run.qat.graph_path)
    save_graph(trained.int8().graph, run.qat.int8_path, constants=False, source=digest)
    ranges = {name: list(span) for name, span in trained.ranges.items()}
    write_json(run.qat.ranges_path, {"weights_sha256": digest, "ranges": ranges})


def load_trained(run: Run) -> Trained | None:
    """Return the run's result; None where it has none.

    Raises MobilesegError for a damaged one, and for one of other weights than the run's.
    """
    path = run.qat.ranges_path
    if not path.is_file():
        return None
    table = read_json(path)
    try:
        digest = table["weights_sha256"]
        ranges = {name: (float(low), float(high)) for name, (low, high) in table["ranges"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise MobilesegError(f"{path}: holds no ranges; {_again(run)}") from None
    if digest != run.weights_digest:
        raise MobilesegError(
            f"{run.qat.folder}: was trained from other weights than the run's; {_again(run)}"
        )
    return Trained(load_graph(run.qat.graph_path), ranges)


def _again(run: Run) -> str:
    return f"train again (mobileseg qat {run.name} --restart) or leave it out with --no-qat"
