"""`mobileseg qat`: a trained run's graph trained on as the int8 file that ships, and judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from torch import Tensor

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.runtime import load
from mobileseg.nets.module import Net
from mobileseg.quantize.qat.config import QatConfig
from mobileseg.quantize.qat.kept import Kept
from mobileseg.quantize.qat.module import QatModule
from mobileseg.quantize.repair import Quantized
from mobileseg.recipe import Recipe
from mobileseg.runs import Run
from mobileseg.train import data as train_data
from mobileseg.train.compress.layers import few_values
from mobileseg.train.config import TrainConfig
from mobileseg.train.device import require_device
from mobileseg.train.distill import divergence
from mobileseg.train.evaluate import load_eval
from mobileseg.train.loop import FitResult, fit
from mobileseg.train.pairs import Split, pairs
from mobileseg.train.step import Teach
from mobileseg.workflow.choose import as_recipe_says
from mobileseg.workflow.export import export_net, judge_of
from mobileseg.workflow.network import file_predict, float_graph, load_net
from mobileseg.workflow.options import ExportOptions
from mobileseg.workflow.sensitivity import in_runtime
from mobileseg.workflow.trained import Trained, origin_of, save_trained

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class QatOptions:
    """How it is trained; restart: make anew what other settings or weights have made."""

    device: str = "cpu"
    restart: bool = False
    progress: bool = True


def train_int8(run: Run, recipe: Recipe, options: QatOptions, say: Say) -> dict[str, Any]:
    """Train the run's graph as int8, export it, and return its figures beside those without.

    What is done is kept, what was broken off goes on. Raises MobilesegError where the run is not
    trained, and where what is there has another origin, unless `restart`.
    """
    if not run.trained:
        raise MobilesegError(f"{run.folder}: holds no weights; train first (mobileseg slim)")
    require_device(options.device)
    config = recipe.qat or QatConfig()
    origin = origin_of(run, recipe, config)
    done = _finished(run, origin, options)
    if done:
        say(f"{run.name}: trained as int8 before, kept")
        return done | {"trained": _judged_anew(done["trained"], config.max_drop)}
    run.qat.begin(origin)
    net = load_net(run)
    start = _start(net, recipe, say)
    say(f"{run.name}: training as int8, {config.epochs} epochs")
    trained, result = _train(net, start, run, recipe, config, options)
    save_trained(run, trained, origin)
    report = {
        "run": run.name,
        "epochs": result.epochs,
        "train_seconds": round(result.seconds, 1),
        "images_per_second": round(result.images_per_second, 1),
        **_judged(net, start, run, recipe, config),
    }
    run.qat.finish(report)
    return report


def _judged_anew(trained: Mapping[str, Any], max_drop: float) -> dict[str, Any]:
    passed = trained["drop_points"] <= max_drop
    return {**trained, "max_drop_points": max_drop, "passed": passed}


def require(report: Mapping[str, Any]) -> None:
    """Raise GateError where the training of a report lost more than is allowed."""
    trained = report["trained"]
    if not trained["passed"]:
        raise GateError(
            f"{report['run']}: int8 as trained loses {trained['drop_points']:.2f} points of mIoU "
            f"on {trained['split']}; {trained['max_drop_points']:g} are allowed; train longer "
            "(--restart --set qat.epochs=...), or allow more (qat.max_drop)"
        )


def qat_figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a ladder's row says of a report of `train_int8`; of none, nothing."""
    return {"miou_qat_percent": report["trained"]["int8"]["miou_percent"]} if report else {}


def _finished(run: Run, origin: Mapping[str, Any], options: QatOptions) -> dict[str, Any]:
    begun = run.qat.begun()
    if begun and begun != origin and not options.restart:
        changed = ", ".join(key for key in origin if begun.get(key) != origin[key])
        raise MobilesegError(
            f"{run.qat.folder}: was made with other {changed}; use --restart to make it anew"
        )
    return run.qat.report() if begun == origin else {}


def _start(net: Net, recipe: Recipe, say: Say) -> Quantized:
    """Return what [quantize] makes of the net, with no layer kept in float: all of them train."""
    if recipe.quantize.keep_float:
        say("quantize.keep_float: of no use here, every layer trains as int8")
    whole = replace(recipe.quantize, keep_float=())
    return as_recipe_says(float_graph(net), recipe, whole, say=say).made


def _train(
    net: Net,
    start: Quantized,
    run: Run,
    recipe: Recipe,
    config: QatConfig,
    options: QatOptions,
) -> tuple[Trained, FitResult]:
    """Return what the training makes of post-training quantization's graph and ranges."""
    size = net.spec.image_size
    train = train_data.load(recipe.data, "train", size, cache_dir=run.folder / "cache")
    training = _training(recipe.train, config)
    updates = config.epochs * max(1, len(train) // training.batch_size)
    watch = None if config.ranges == "learned" else updates // 2
    module = QatModule(start.source, start.ranges, watch)
    kept = Kept(module.constants) if few_values(net) else None
    result = fit(
        module,
        train,
        load_eval(pairs(recipe.data, "val"), recipe.data, size),
        recipe.data,
        training,
        recipe.augment,
        size,
        run.qat.folder,
        seed=recipe.seed,
        resume=True,
        device=options.device,
        progress=options.progress,
        teach=_teach(net, config.distill, options.device) if config.distill else None,
        after_step=kept.after_step if kept else None,
    )
    if kept:
        kept.settle()
    module.to("cpu")
    return Trained(module.trained_graph(), module.ranges()), result


def _training(train: TrainConfig, config: QatConfig) -> TrainConfig:
    """Return [train] for the constants of a graph: shares of a unit, which nothing pulls to 0."""
    return replace(
        train,
        epochs=config.epochs,
        lr=config.lr,
        ema=config.ema,
        optimizer="adamw",
        weight_decay=0.0,
        # Steps finer than int8's are what is trained.
        precision="float32",
    )


def _teach(net: Net, weight: float, device: str) -> Teach:
    """Return the divergence from the float net's probabilities."""
    teacher = net.to(device).requires_grad_(False).eval()

    def teach(inputs: Tensor, logits: Tensor) -> Tensor:
        return weight * divergence(logits, teacher(inputs))

    return teach


def _judged(
    net: Net, start: Quantized, run: Run, recipe: Recipe, config: QatConfig
) -> dict[str, Any]:
    """Return the verdicts on int8 without and with the training, each in its real runtime."""
    file = export_net(net.to("cpu"), recipe, run, ExportOptions())[0]
    split: Split = "test" if recipe.data.test is not None else "val"
    judge = judge_of(net, recipe, split)
    before = judge.verdict(in_runtime(start.graph), config.max_drop)
    after = judge.verdict(file_predict(load(file.path, trusted=True)), config.max_drop)
    return {
        "post_training": before.as_dict(),
        "trained": after.as_dict(),
        "file": file.as_dict(),
    }
