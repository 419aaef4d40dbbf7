"""`mobileseg search`: the network of a recipe's that is best within a budget on a phone.

A study of Optuna's, kept where several machines can reach it. Every candidate is priced first; one
over the budget is not trained. The others train in rounds, each twice as long as the one before,
and after each only those go on that few others surpass in accuracy and time at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.random import SeedSequence

from mobileseg.errors import MobilesegError, unknown
from mobileseg.latency.price import price
from mobileseg.latency.profile import DeviceProfile
from mobileseg.nets.module import build
from mobileseg.nets.spec import NetSpec
from mobileseg.recipe import Recipe
from mobileseg.runs import ladder_folder
from mobileseg.slim.actions import Actions
from mobileseg.slim.inherit import inherit
from mobileseg.slim.space import WIDTHS, Choice, Space, actions_of, space_of
from mobileseg.slim.steps import apply
from mobileseg.train import data as train_data
from mobileseg.train.config import TrainConfig
from mobileseg.train.data import Dataset
from mobileseg.train.device import require_device
from mobileseg.train.evaluate import EvalSet, load_eval
from mobileseg.train.loop import fit
from mobileseg.train.optim import slower_inherited
from mobileseg.train.pairs import pairs
from mobileseg.workflow.device import device
from mobileseg.workflow.found import ended, finished, surpassed
from mobileseg.workflow.inherited import inherited_weights
from mobileseg.workflow.network import as_int8, empty_graph
from mobileseg.workflow.options import SearchOptions
from mobileseg.workflow.plan import plan

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial
    from torch import Tensor

Say = Callable[[str], None]

# Of the candidates that were as far, this share goes on; Optuna's own default.
_KEPT = 1 / 3
# Without news for so long a worker is taken for dead, and its candidate is free again.
_ALIVE_SECONDS = 60
_ATTEMPTS = 5
# The time of what is no network; Optuna takes no infinity.
_NEVER = 1e6


@dataclass(frozen=True)
class _Data:
    """Pictures at each size that a candidate asked for, decoded once."""

    recipe: Recipe
    cache: Path
    _held: dict[tuple[int, int], tuple[Dataset, EvalSet]]

    def at(self, size: tuple[int, int]) -> tuple[Dataset, EvalSet]:
        if size not in self._held:
            data = self.recipe.data
            train = train_data.load(data, "train", size, cache_dir=self.cache)
            self._held[size] = train, load_eval(pairs(data, "val"), data, size)
        return self._held[size]


@dataclass(frozen=True)
class _Search:
    recipe: Recipe
    options: SearchOptions
    folder: Path
    profile: DeviceProfile
    space: Space
    state: dict[str, Tensor]
    data: _Data
    say: Say

    def __call__(self, trial: Trial) -> tuple[float, float]:
        """Return val mIoU in percent, 0 of what was not trained, and estimated milliseconds."""
        name = f"candidate {trial.number}"
        choice = _drawn(trial, self.space)
        try:
            actions = actions_of(self.space, choice)
            spec = apply(self.space.spec, actions, "search")
        except MobilesegError as error:
            trial.set_user_attr("refused", str(error))
            trial.set_constraint("ms", _NEVER)
            return 0.0, _NEVER
        ms = price(as_int8(empty_graph(spec)), self.profile).ms
        trial.set_user_attr("step", _step(actions))
        trial.set_user_attr("counts", {"params": spec.params, "macs": spec.macs, "ms": ms})
        trial.set_constraint("ms", ms - self.options.budget_ms)
        if ms > self.options.budget_ms:
            trial.set_user_attr("refused", "over the budget")
            self.say(f"{name}: {ms:.2f} ms, over the budget; not trained")
            return 0.0, ms
        try:
            miou, done = self._trained(trial, spec, ms)
        except MobilesegError as error:
            # A training that diverged says something of the candidate, and nothing of the search.
            trial.set_user_attr("refused", str(error))
            self.say(f"{name}: {ms:.2f} ms, {error}")
            return 0.0, ms
        self.say(f"{name}: {ms:.2f} ms, {miou:.2f} % after {done} of {self.options.rounds} rounds")
        return miou, ms

    def _trained(self, trial: Trial, spec: NetSpec, ms: float) -> tuple[float, int]:
        folder = self.folder / f"candidate-{trial.number}"
        net = build(spec, self.recipe.seed)
        inherited = inherit(self.space.spec, self.state, spec, net.state_dict())
        net.load_state_dict(inherited.state)
        miou, number = 0.0, 0
        train, val = self.data.at(spec.image_size)
        config = self.recipe.train
        for number, epochs in enumerate(self.options.schedule()):
            result = fit(  # each round begins with the weights of the one before
                net,
                train,
                val,
                self.recipe.data,
                _shortened(config, epochs),
                self.recipe.augment,
                spec.image_size,
                folder,
                seed=self.recipe.seed,
                device=self.options.compute,
                lr_scale=slower_inherited(inherited.fresh, config.encoder_lr),
                heads=spec.heads(),
            )
            miou = float(result.last["val_miou_percent"] or 0)
            trial.set_user_attr(f"round {number}", miou)
            if not self._goes_on(trial, number, miou, ms):
                break
        # What a candidate is worth is in the study; its weights were trained too briefly to keep.
        shutil.rmtree(folder)
        return miou, number + 1

    def _goes_on(self, trial: Trial, number: int, miou: float, ms: float) -> bool:
        """Whether few of the candidates that came as far are both faster and better."""
        key = f"round {number}"
        others = [
            (each.user_attrs[key], each.user_attrs["counts"]["ms"])
            for each in trial.study.get_trials(deepcopy=False)
            if key in each.user_attrs and each.number != trial.number
        ]
        ranks = [surpassed(one, [*others, (miou, ms)]) for one in others]
        mine = surpassed((miou, ms), others)
        better = sum(rank < mine for rank in ranks)
        return better < max(1, _KEPT * (len(others) + 1))


def _shortened(config: TrainConfig, epochs: int) -> TrainConfig:
    warm = min(config.warmup_epochs, epochs / 4)
    return replace(config, epochs=epochs, warmup_epochs=warm, validate_every=epochs)


def _drawn(trial: Trial, space: Space) -> Choice:
    sides = {f"{height}x{width}": (height, width) for height, width in space.sides}
    return Choice(
        side=sides[trial.suggest_categorical("side", list(sides))],
        widths={
            stage: WIDTHS[trial.suggest_int(f"width {stage}", 0, len(WIDTHS) - 1)]
            for stage in space.wide
        },
        gone={
            stage: trial.suggest_int(f"gone {stage}", 0, len(names))
            for stage, names in space.removable.items()
        },
    )


def _untouched(space: Space) -> dict[str, Any]:
    height, width = space.spec.image_size
    full = {f"width {stage}": len(WIDTHS) - 1 for stage in space.wide}
    return {"side": f"{height}x{width}", **full, **{f"gone {each}": 0 for each in space.removable}}


def _step(actions: Actions) -> dict[str, Any]:
    """Return the step's keys as a recipe has them."""
    step: dict[str, Any] = {}
    if actions.image_size is not None:
        step["image_size"] = list(actions.image_size)
    if actions.remove:
        step["remove"] = list(actions.remove)
    if actions.width:
        step["width"] = {name: int(channels) for name, channels in actions.width.items()}
    return step


def search(recipe: Recipe, options: SearchOptions, say: Say) -> dict[str, Any]:
    """Search until the study has its trials, and return the front and the files written.

    Goes on with a study that is there. Raises MobilesegError where optuna is missing, the storage
    cannot be reached, or nothing was found within the budget.
    """
    require_device(options.compute)
    study = _study(recipe, options)
    rungs = plan(recipe, options.runs)
    by_name = {rung.step.name: rung for rung in rungs}
    name = options.origin or rungs[0].step.name
    if name not in by_name:
        raise unknown("--from", "step", name, by_name)
    rung, folder = by_name[name], ladder_folder(options.runs, recipe) / "search"
    state = (
        rung.run.load_weights()
        if rung.run.trained
        else inherited_weights(recipe, rung, rungs).state
    )
    ready = _Search(
        recipe,
        options,
        folder,
        device(options.device),
        space_of(rung.spec),
        dict(state),
        _Data(recipe, folder / "cache", {}),
        say,
    )
    left = options.trials - len(finished(study))
    if left > 0:
        from optuna.study import MaxTrialsCallback  # noqa: PLC0415
        from optuna.trial import TrialState  # noqa: PLC0415

        say(f"{name}: {left} candidates to go, {options.budget_ms:g} ms on {options.device}")
        if not study.trials:
            # The network as it is: all else is measured by it.
            study.enqueue_trial(_untouched(ready.space))
        enough = MaxTrialsCallback(options.trials, states=(TrialState.COMPLETE,))
        study.optimize(ready, callbacks=[enough])
    return ended(recipe, options, study, name, folder)


def _opened(where: str, name: str) -> Study:
    import optuna  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.RDBStorage(where, heartbeat_interval=_ALIVE_SECONDS)
    return optuna.create_study(
        study_name=name,
        storage=storage,
        directions=["maximize", "minimize"],
        load_if_exists=True,
    )


def _study(recipe: Recipe, options: SearchOptions) -> Study:
    try:
        import optuna  # noqa: PLC0415
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415
    except ImportError:
        raise MobilesegError(
            "search: optuna is not installed; pip install 'mobileseg[search]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder = ladder_folder(options.runs, recipe) / "search"
    folder.mkdir(parents=True, exist_ok=True)
    where = options.storage or f"sqlite:///{(folder / 'study.db').resolve()}"
    # What the figures of a study depend on: another recipe's candidates say nothing here.
    facts = [recipe.digest(), options.origin, options.device, options.budget_ms]
    facts += [options.epochs, options.rounds]
    name = f"{recipe.name}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:12]}"
    for attempt in range(_ATTEMPTS):
        try:
            study = _opened(where, name)
            break
        except (SQLAlchemyError, ImportError) as error:
            said = str(error).splitlines()[0]
            # Two workers who begin at once may both make the tables, and one finds them made.
            made = any(word in said for word in ("exist", "duplicate", "UNIQUE"))
            if not made or attempt == _ATTEMPTS - 1:
                raise MobilesegError(f"--storage: {said}") from None
            time.sleep(1)
    # Workers that draw alike would try the same candidates.
    seed = SeedSequence((recipe.seed, len(study.trials), os.getpid())).generate_state(1)[0]
    study.sampler = optuna.samplers.TPESampler(seed=int(seed))
    return study
