"""The float net and the int8 file on the same test pictures: the worst of them, and where the two
differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.export.runtime import load
from mobileseg.files import read_json
from mobileseg.recipe import Recipe
from mobileseg.report.picture import embedded, heated, palette, tinted
from mobileseg.runs import Run
from mobileseg.train.config import IGNORE
from mobileseg.train.console import Display
from mobileseg.train.evaluate import EvalSet, labels_at, load_eval, module_predict
from mobileseg.train.metrics import Scores
from mobileseg.train.pairs import Pair, pairs
from mobileseg.train.pictures import read_image, resize_image, resize_mask
from mobileseg.workflow.export import export_stem
from mobileseg.workflow.network import Pictures, Predict, file_predict, load_net
from mobileseg.workflow.options import ExportOptions
from mobileseg.workflow.report.parts import Gathered, Shown, judged_on

_BATCH = 16
# So many of the worst are shown, this long at most: to be looked at, in a file to be mailed.
_WORST = 3
_LONGEST = 200

Reals = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Seen:
    """One picture, and what both said of it: logits [C, h, w]; None without an int8 file.

    Classes at the mask's size are made when asked for: many large ones would fill the memory.
    """

    pair: Pair
    truth: Pictures
    float32: Reals
    int8: Reals | None

    @property
    def judged(self) -> Reals:
        """What ships: int8, if it is there."""
        return self.float32 if self.int8 is None else self.int8

    def labels(self, of: Reals) -> Pictures:
        """Return class numbers at the mask's size."""
        return labels_at(of, self.truth.shape)

    def miou(self, classes: Sequence[str], of: Reals) -> float:
        """Mean IoU over the picture's own classes; nan where all of it is ignored."""
        scores = Scores(classes, boundary=False)
        scores.add(self.truth, self.labels(of))
        return scores.miou

    @property
    def heat(self) -> Reals | None:
        """The probability [h, w], in [0, 1], that float and int8 share out otherwise."""
        if self.int8 is None:
            return None
        # Half the sum counts each share that moved once.
        moved: Reals = 0.5 * np.abs(_shares(self.float32) - _shares(self.int8)).sum(axis=0)
        return moved


def pictures(
    runs: Sequence[Shown], gathered: Gathered, count: int, data: Path | None
) -> list[dict[str, Any]]:
    """Return, per trained run, the worst of `count` test pictures as overlays, and the heat map."""
    found = []
    with Display(len(runs), 0, bar=True) as display:
        for number, each in enumerate(runs):
            display.step(number, f"{each.label}: pictures")
            if not each.run.trained:
                gathered.lacks("pictures", each.label, "has no weights: it was not trained")
                continue
            made = gathered.attempt("pictures", each.label, _looked, each, gathered, count, data)
            if made is not None:
                found.append(made)
    return found


def _looked(each: Shown, gathered: Gathered, count: int, data: Path | None) -> dict[str, Any]:
    recipe, net = each.run.recipe().with_data(data), load_net(each.run)
    split = judged_on(recipe)
    every = pairs(recipe.data, split)
    # From all of the list, for lists are often sorted by where the pictures come from.
    at = np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int)
    evalset = load_eval([every[i] for i in at], recipe.data, net.spec.image_size)
    path = gathered.attempt("pictures", each.label, int8_file, each.run, recipe)
    int8 = None if path is None else file_predict(load(path))
    seen = _seen(evalset, module_predict(net), int8)
    classes = recipe.data.classes
    scored = [(one, one.miou(classes, one.judged)) for one in seen]
    valid = [(one, miou) for one, miou in scored if not np.isnan(miou)]
    worst = [one for one, _ in sorted(valid, key=lambda each: each[1])[:_WORST]]
    found: dict[str, Any] = {
        "label": each.label,
        "split": split,
        "images": len(seen),
        "of": len(every),
        "file": None if path is None else path.name,
        "classes": _colours(classes),
        "worst": [_shown(one, classes) for one in worst],
    }
    if int8 is not None:
        mean = np.mean([heat for one in seen if (heat := one.heat) is not None], axis=0)
        found["heat"] = {
            "picture": embedded(heated(mean, hottest=float(mean.max()))),
            "mean_percent": 100 * float(mean.mean()),
            "highest_percent": 100 * float(mean.max()),
            "size": list(mean.shape),
        }
    return found


def int8_file(run: Run, recipe: Recipe) -> Path:
    """Return the int8 file that ships, or else another one with logits.

    Raises MobilesegError where the run has none.
    """
    stem = export_stem(recipe, run, ExportOptions(), run.qat.ranges_path.is_file())
    shipped = run.export_folder / f"{stem}.tflite"
    if shipped.is_file():
        return shipped
    for path in sorted(run.export_folder.glob("*.tflite")):
        beside = path.with_suffix(".json")
        said = read_json(beside) if beside.is_file() else None
        wished = said[0] if isinstance(said, list) and said and isinstance(said[0], dict) else {}
        if wished.get("precision") == "int8" and wished.get("output") == "logits":
            return path
    raise MobilesegError(
        f"{run.export_folder}: holds no int8 .tflite file with logits; "
        f"mobileseg export {run.name} --int8 writes one"
    )


def _seen(evalset: EvalSet, float32: Predict, int8: Predict | None) -> list[Seen]:
    found: list[Seen] = []
    for start in range(0, len(evalset), _BATCH):
        part = slice(start, start + _BATCH)
        images = evalset.images[part]
        plain = float32(images)
        rounded = [None] * len(images) if int8 is None else int8(images)
        every = zip(evalset.pairs[part], evalset.masks[part], plain, rounded, strict=True)
        found += [Seen(*each) for each in every]
    return found


def _shares(logits: Reals) -> Reals:
    raised = np.exp(logits - logits.max(axis=0, keepdims=True))
    shares: Reals = raised / raised.sum(axis=0, keepdims=True)
    return shares


def _shown(one: Seen, classes: Sequence[str]) -> dict[str, Any]:
    """Return a picture's overlays and what they say in words."""
    image = read_image(one.pair.image)
    scale = min(1.0, _LONGEST / max(image.shape[:2]))
    size = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    small = resize_image(image, size)
    said = {"float": one.float32} | ({} if one.int8 is None else {"int8": one.int8})
    masks = {"truth": one.truth} | {name: one.labels(logits) for name, logits in said.items()}
    overlays = [
        {
            "name": name,
            "picture": embedded(tinted(small, resize_mask(_drawn(mask), size))),
            "shares": _counted(mask, classes),
            "miou_percent": 100 * one.miou(classes, said[name]) if name in said else None,
        }
        for name, mask in masks.items()
    ]
    heat = one.heat
    if heat is not None:
        overlays.append(
            {
                "name": "heat",
                "picture": embedded(heated(heat, small)),
                "mean_percent": 100 * float(heat.mean()),
                "highest_percent": 100 * float(heat.max()),
            }
        )
    return {"image": one.pair.image.name, "overlays": overlays}


def _colours(classes: Sequence[str]) -> list[dict[str, str]]:
    """Return the colour of each class that has one."""
    shades = palette(len(classes))[1:]
    return [
        {"name": name, "colour": f"#{red:02x}{green:02x}{blue:02x}"}
        for name, (red, green, blue) in zip(classes[1:], shades, strict=True)
    ]


def _drawn(mask: Pictures) -> Pictures:
    """Ignored pixels have no colour."""
    return np.where(mask == IGNORE, np.uint8(0), mask)


def _counted(mask: Pictures, classes: Sequence[str]) -> dict[str, float]:
    """Return the share in percent of each class that is there, of the pixels that count."""
    counts = np.bincount(mask.ravel(), minlength=256)[: len(classes)]
    total = max(1, int(counts.sum()))
    return {
        name: 100 * int(count) / total for name, count in zip(classes, counts, strict=True) if count
    }
