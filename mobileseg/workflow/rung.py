"""One rung of a ladder: its training, and what float and int8 reach."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobileseg.export.runtime import load
from mobileseg.nets.module import Net, build
from mobileseg.nets.spec import read_spec
from mobileseg.recipe import Recipe
from mobileseg.runs import Run, ladder_folder
from mobileseg.slim.inherit import Inherited
from mobileseg.train import data as train_data
from mobileseg.train.board import board
from mobileseg.train.compress.cluster import Clusters
from mobileseg.train.compress.layers import zero_share
from mobileseg.train.compress.sparse import Masks
from mobileseg.train.distill import Lessons
from mobileseg.train.evaluate import EvalSet, evaluate, load_eval, module_predict
from mobileseg.train.loop import FitResult, fit
from mobileseg.train.optim import slower_inherited
from mobileseg.train.pairs import pairs
from mobileseg.train.parallel.ranks import Ranks
from mobileseg.train.parallel.team import Team
from mobileseg.train.step import Teach
from mobileseg.workflow.consumer import gzip_size, gzipped_sizes
from mobileseg.workflow.export import export_net
from mobileseg.workflow.forms import FOR_FLOAT
from mobileseg.workflow.network import file_predict, float_graph, load_net
from mobileseg.workflow.options import ExportOptions
from mobileseg.workflow.plan import Rung
from mobileseg.workflow.teacher import Teacher, find_teacher, taught

if TYPE_CHECKING:
    from mobileseg.train.metrics import Scores


@dataclass(frozen=True)
class SlimOptions:
    """How a ladder is climbed. `only`: stop after this step, its ancestors alone before it.

    command: what the person typed, to be kept with the figures. tensorboard: whether its events
    are written, too.
    """

    runs: Path
    device: str = "cpu"
    restart: bool = False
    progress: bool = True
    only: str | None = None
    team: Team = field(default_factory=Team)
    command: str = ""
    tensorboard: bool = False


class TestPictures:
    """The pictures that decide, decoded once per input size."""

    # pytest takes classes of such names for tests.
    __test__ = False

    def __init__(self, recipe: Recipe) -> None:
        """Raises MobilesegError where the recipe's pictures are not there."""
        self._data = recipe.data
        self.split = "test" if recipe.data.test is not None else "val"
        self.pairs = pairs(recipe.data, "test" if self.split == "test" else "val")
        self._sets: dict[tuple[int, int], EvalSet] = {}

    def at(self, size: tuple[int, int]) -> EvalSet:
        """Return them at a network's size."""
        if size not in self._sets:
            self._sets[size] = load_eval(self.pairs, self._data, size)
        return self._sets[size]


def train_rung(
    recipe: Recipe, rung: Rung, inherited: Inherited, options: SlimOptions, test: TestPictures
) -> dict[str, Any]:
    """Train, save, and return the figures of float and int8 on the test pictures."""
    size = rung.spec.image_size
    net = build(rung.spec, recipe.seed)
    net.load_state_dict(inherited.state)
    start = {}
    if rung.step.prune is not None:
        start["miou_before_training_percent"] = _percent(
            evaluate(module_predict(net), test.at(size), boundary=False)
        )
    job = {
        "step": rung.step.name,
        "spec": rung.spec.as_dict(),
        "fresh": list(inherited.fresh),
    }
    with options.team.work(job, options.device) as ranks:
        result, train_images = _trained(recipe, rung, net, inherited.fresh, options, ranks)
    rung.run.save_weights(net.state_dict())
    # Built anew: what held the weights in training has no place in a file.
    net = load_net(rung.run)
    return {
        **start,
        "train_images": train_images,
        "epochs": result.epochs,
        "train_seconds": round(result.seconds, 1),
        "images_per_second": round(result.images_per_second, 1),
        **score(net, recipe, rung.run, test.at(size)),
    }


def help_train(recipe: Recipe, options: SlimOptions) -> None:
    """Train what the leader of the team trains, until it has no more; write nothing."""
    for job in options.team.jobs():
        step = recipe[job["step"]]
        run = Run(ladder_folder(options.runs, recipe) / step.name)
        spec = read_spec(job["spec"], f"{recipe.name}: step {step.name!r}")
        rung = Rung(step.name, step, None, spec, recipe.data.classes, run, key="")
        with options.team.work(job, options.device) as ranks:
            _trained(recipe, rung, build(spec), job["fresh"], options, ranks)


def _trained(
    recipe: Recipe,
    rung: Rung,
    net: Net,
    fresh: Collection[str],
    options: SlimOptions,
    ranks: Ranks,
) -> tuple[FitResult, int]:
    """Train the net, of which the first process has the weights; return with how many pictures."""
    ranks.spread(net)
    size, cache = rung.spec.image_size, rung.run.folder / "cache"
    train = train_data.load(recipe.data, "train", size, cache_dir=cache)
    teacher = _teacher(recipe, rung, options)
    if rung.step.distill is not None and rung.step.distill.unlabelled is not None:
        assert teacher is not None
        train += taught(rung.step.distill, teacher, recipe, size, cache, options.progress)
    val = load_eval(pairs(recipe.data, "val"), recipe.data, size) if ranks.first else None
    config = recipe.training(rung.step)
    shapers = _shapers(rung, net, config.epochs * max(1, len(train) // config.batch_size), recipe)

    def reshape(done: int) -> None:
        for each in shapers:
            each.after_step(done)

    with ExitStack() as stack:
        result = fit(
            net,
            train,
            val,
            recipe.data,
            config,
            recipe.augmentation(rung.step),
            size,
            rung.run.folder,
            seed=recipe.seed,
            resume=True,
            device=options.device,
            progress=options.progress,
            lr_scale=slower_inherited(fresh, config.encoder_lr),
            after_step=reshape,
            teach=_lessons(rung, net, teacher, stack),
            heads=rung.spec.heads(),
            on_epoch=board(rung.run.folder / "tensorboard") if options.tensorboard else None,
            ranks=ranks,
        )
    for each in shapers:
        each.settle()
    return result, len(train)


def _teacher(recipe: Recipe, rung: Rung, options: SlimOptions) -> Teacher | None:
    if rung.step.distill is None:
        return None
    return find_teacher(rung.step.distill, recipe, options.runs, options.device)


def _lessons(rung: Rung, net: Net, teacher: Teacher | None, stack: ExitStack) -> Teach | None:
    """Return what the teacher adds to the loss, its watches closed with the stack."""
    wish = rung.step.distill
    if wish is None or teacher is None or not wish.teaches:
        return None
    return stack.enter_context(Lessons(wish, teacher.ask, net, teacher.module))


def _shapers(rung: Rung, net: Net, steps: int, recipe: Recipe) -> list[Masks | Clusters]:
    """Return what holds the weights sparse or clustered; zeros first, for clusters keep them."""
    step, shapers = rung.step, list[Masks | Clusters]()
    if step.sparse is not None:
        shapers.append(Masks(net, step.sparse, steps))
    if step.cluster is not None:
        shapers.append(Clusters(net, step.cluster, recipe.seed))
    return shapers


def score(net: Net, recipe: Recipe, run: Run, evalset: EvalSet) -> dict[str, Any]:
    """Return float and int8 figures: the module's, and the int8 file's in its runtime."""
    exported = export_net(net, recipe, run, ExportOptions(qat=False))[0]
    scores = evaluate(module_predict(net), evalset)
    int8 = evaluate(file_predict(load(exported.path)), evalset)
    plain = float_graph(net, forms=FOR_FLOAT)
    return {
        **gzipped_sizes(plain, run.name, recipe.data.classes),
        "int8_gzip_bytes": gzip_size(exported.path.read_bytes()),
        "zero_weights_percent": round(100 * zero_share(net)),
        "miou_percent": _percent(scores),
        "miou_int8_percent": _percent(int8),
        "float": scores.as_dict(),
        "int8": int8.as_dict(),
        "int8_check": exported.check.as_dict(),
    }


def _percent(scores: Scores) -> float:
    return round(100 * scores.miou, 2)
