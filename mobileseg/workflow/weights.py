"""A run's network as one file that recipes start from."""

from __future__ import annotations

import json
from pathlib import Path

from mobileseg.nets.pretrained import Encoder, save_encoder
from mobileseg.runs import Run

# Of a step's figures, those that say what the weights are worth.
_FIGURES = ("command", "seed", "train_images", "epochs", "miou_percent", "versions")


def export_weights(run: Run, out: Path) -> None:
    """Write spec and weights, with the recipe and the figures of their training.

    Raises MobilesegError where the run is not trained, or the disk refuses.
    """
    recipe = run.recipe().as_dict()
    recipe["data"].pop("root")  # a place on one machine
    report = run.report()
    facts = {key: json.dumps(report[key]) for key in _FIGURES if key in report}
    state = run.load_weights()
    save_encoder(out, Encoder(run.spec(), state), {"recipe": json.dumps(recipe), **facts})
