"""`mobileseg quantize`: a trained run in int8, judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mobileseg.files import write_json
from mobileseg.quantize.config import QuantizeConfig
from mobileseg.runs import Run
from mobileseg.train.pairs import Split
from mobileseg.workflow.export import judge_of
from mobileseg.workflow.int8 import as_recipe_says, wished
from mobileseg.workflow.network import float_graph, load_net
from mobileseg.workflow.sensitivity import blamed, in_runtime
from mobileseg.workflow.verdict import Verdict


@dataclass(frozen=True)
class QuantizeOptions:
    """What is asked. `changes`: keys in the place of the recipe's [quantize]."""

    changes: Mapping[str, Any]
    split: Split = "val"


@dataclass(frozen=True)
class Judged:
    """A network in int8 and what was found out about it; `path` holds all of it as JSON."""

    run: Run
    config: QuantizeConfig
    verdict: Verdict

    @property
    def path(self) -> Path:
        return self.run.quantize_folder / "report.json"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "run": self.run.name,
            "quantize": asdict(self.config),
            "verdict": self.verdict.as_dict(),
        }


def quantize(run: Run, options: QuantizeOptions, data: Path | None = None) -> Judged:
    """Return the verdict on the run in int8, and write it down.

    Raises MobilesegError where the run or its data are not there.
    """
    net, recipe = load_net(run), run.recipe().with_data(data)
    config = wished(recipe, options.changes)
    made, _ = as_recipe_says(float_graph(net), recipe, config)
    judge = judge_of(net, recipe, options.split)
    verdict = judge.verdict(in_runtime(made.graph), config.max_drop)
    if not verdict.passed:
        verdict = replace(verdict, blamed=blamed(made, judge))
    judged = Judged(run, config, verdict)
    write_json(judged.path, judged.as_dict())
    return judged
