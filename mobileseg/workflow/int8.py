"""A run's float graph to its int8 graph, and what stands beside a file about that."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.export.runtime import pixels_as
from mobileseg.files import read_json, write_json
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import hard_swish_to_mul
from mobileseg.nets.module import Net
from mobileseg.quantize.calibrate import Ranges
from mobileseg.quantize.config import CONFIGS, QuantizeConfig
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.repair import Quantized
from mobileseg.reading.saved import load_graph, save_graph
from mobileseg.recipe import Recipe
from mobileseg.runs import Run
from mobileseg.train.data import read_image, resize_image
from mobileseg.train.pairs import Pair, listed, pairs
from mobileseg.validate import parse
from mobileseg.workflow.forms import FOR_INT8, Choice, Forms, choose
from mobileseg.workflow.network import Output, Pictures, plain_graph, with_output

_BATCH = 16
# Letters of one word in a file's name; folders take 255 of the whole.
_WORD = 48


def wished(recipe: Recipe, changes: Mapping[str, Any]) -> QuantizeConfig:
    """Return [quantize] with some keys changed. Raises MobilesegError naming wrong ones."""
    if not changes:
        return recipe.quantize
    keys = dict(changes)
    config = CONFIGS[keys.pop("activations", "int8")]
    return parse(config, asdict(recipe.quantize) | keys, "quantize")


def changed_words(recipe: Recipe, changes: Mapping[str, Any]) -> list[str]:
    """Return what is quantized otherwise than the recipe says, in words for a file's name."""
    config = wished(recipe, changes)
    words: list[str] = [config.activations] if config.activations != "int8" else []
    if config.images != recipe.quantize.images:
        words.append(f"{config.images}images")
    if config.ranges != recipe.quantize.ranges:
        words.append(config.ranges)
    for key, none in (("repair", "unrepaired"), ("keep_float", "nofloat")):
        value = getattr(config, key)
        if value != getattr(recipe.quantize, key):
            words.append(_listed(key, value) if value else none)
    return words


def _listed(key: str, value: str | Sequence[str]) -> str:
    """Return auto, or a list in a word that every folder takes, cut where it is long."""
    named = [value] if isinstance(value, str) else value
    said = "+".join(re.sub(r"[^\w.]", "_", name) for name in named)
    if key == "keep_float":
        said = f"float_{said}"
    if len(said) <= _WORD:
        return said
    return f"{said[:_WORD]}_{hashlib.sha256('+'.join(named).encode()).hexdigest()[:8]}"


def graph_for(
    net: Net, changes: Mapping[str, Any], output: Output = "logits", forms: Forms = FOR_INT8
) -> tuple[Graph, Choice]:
    """Return the float graph that an int8 file is made of, and why its operators are those.

    With int16 activations, which no price knows, they stay plain where no form is asked for; but a
    hard swish is rewritten, for LiteRT has no int16 kernel of it.
    """
    return formed_for(with_output(plain_graph(net), output), changes, forms)


def formed_for(
    graph: Graph, changes: Mapping[str, Any], forms: Forms = FOR_INT8
) -> tuple[Graph, Choice]:
    """Return the same of a graph that is as its network has it; see `graph_for`."""
    sixteen = changes.get("activations") == "int16"
    plain = replace(forms, rewrite="none") if sixteen and forms.rewrite == "auto" else forms
    choice = choose(graph, plain)
    formed = choice(graph)
    return hard_swish_to_mul(formed) if sixteen else formed, choice


@dataclass(frozen=True)
class Calibration:
    """Training pictures that quantization may look at, and none of any other split."""

    pairs: tuple[Pair, ...]
    pictures: Pictures

    def __iter__(self) -> Iterator[Array]:
        """Walk through batches of float images `(N, 3, H, W)`."""
        for start in range(0, len(self.pictures), _BATCH):
            yield pixels_as(self.pictures[start : start + _BATCH], np.dtype(np.float32))


def load_calibration(recipe: Recipe, size: tuple[int, int], count: int) -> Calibration:
    """Return `count` training pictures, or all where there are fewer."""
    chosen = calibration_pairs(recipe, count)
    return Calibration(tuple(chosen), read_pictures(chosen, size))


def calibration_pairs(recipe: Recipe, count: int) -> list[Pair]:
    """Return seeded pairs of the training split, none of which any other split holds."""
    held_out = {pair.image.resolve() for pair in pairs(recipe.data, "val")}
    if recipe.data.test is not None:
        held_out |= {pair.image.resolve() for pair in pairs(recipe.data, "test")}
    mine = [pair for pair in pairs(recipe.data, "train") if pair.image.resolve() not in held_out]
    if not mine:
        raise MobilesegError(
            f"{listed(recipe.data.train)}: every training picture is also in val or test; "
            "calibration needs some of its own"
        )
    order = np.random.default_rng(recipe.seed).permutation(len(mine))
    return [mine[i] for i in order[:count]]


def read_pictures(chosen: Sequence[Pair], size: tuple[int, int]) -> Pictures:
    """Return the pairs' pictures at a size (height, width)."""
    return np.stack([resize_image(read_image(pair.image), size) for pair in chosen])


def calibration_path(folder: Path, stem: str) -> Path:
    """Where it stands what an int8 export was calibrated with: beside its files."""
    return folder / f"{stem}.calibration.json"


def write_calibration(
    path: Path,
    made: Quantized,
    config: QuantizeConfig,
    seen: Calibration,
    recipe: Recipe,
    run: Run,
) -> None:
    """Write what an int8 export was made with: its ranges, and the graph where these do not do."""
    graph = path.with_name(path.name.replace(".calibration.json", ".graph.safetensors"))
    graph.unlink(missing_ok=True)
    if made.repaired:
        save_graph(made.graph, graph, source=run.weights_digest)
    manifest = {
        "graph": graph.name if made.repaired else None,
        "quantize": asdict(config) | {"activations": config.activations},
        "split": "train",
        "seed": recipe.seed,
        "weights_sha256": run.weights_digest,
        "images": [str(pair.image) for pair in seen.pairs],
        "ranges": {name: list(span) for name, span in made.ranges.items()},
    }
    write_json(path, manifest)


def read_int8(path: Path, run: Run, graph: Graph) -> Graph | None:
    """Return an export's int8 graph; None where it is of other weights or names than `graph`.

    Raises MobilesegError for a damaged file.
    """
    manifest = read_json(path)
    try:
        digest = manifest["weights_sha256"]
        ranges: Ranges = {
            name: (float(low), float(high)) for name, (low, high) in manifest["ranges"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise MobilesegError(f"{path}: is no calibration; export again") from None
    if digest != run.weights_digest:
        return None
    if manifest.get("graph"):
        return load_graph(path.with_name(Path(manifest["graph"]).name), str(digest))
    if not ranges.keys() >= {n.output for n in graph.nodes}:
        return None
    return quantize(graph, ranges)
