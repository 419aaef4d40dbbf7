"""Train a module; killed at any moment, a resumed training ends with the same bits."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.files import write_atomic
from mobileseg.train.augment import augment
from mobileseg.train.checkpoint import Checkpoint, State
from mobileseg.train.config import AugmentConfig, DataConfig, TrainConfig
from mobileseg.train.console import Display
from mobileseg.train.data import Dataset
from mobileseg.train.evaluate import EvalSet, evaluate, module_predict
from mobileseg.train.heads import Heads
from mobileseg.train.losses import Loss, class_weights, make_loss
from mobileseg.train.memory.lean import lean_forward, make_lean
from mobileseg.train.metrics import percent
from mobileseg.train.optim import Average, lr_factor, make_optimizer, set_lr

Record: TypeAlias = dict[str, float | int | None]
"""One line of train.jsonl; the unit stands in each key; null where there is no figure."""

Teach: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A batch's inputs and logits to a term that is added to its loss."""

# what a step's random numbers are for
_ORDER, _AUGMENT, _DROPOUT = 1, 2, 3
_CHECK_EVERY = 20  # steps on a GPU between looks at the loss, each of which waits for the GPU


@dataclass(frozen=True)
class FitResult:
    """How a training ended. The module holds the weights of the last epoch, averaged if `ema`."""

    epochs: int
    seconds: float  # over all resumptions
    images_per_second: float  # of the last epoch's training part
    last: Record
    best: Record | None  # the epoch with the highest val mIoU; None without val
    history: list[Record]


@dataclass
class _Run:
    """Everything a training step needs."""

    module: nn.Module
    average: Average | None
    optimizer: torch.optim.Optimizer
    loss: Loss
    teach: Teach | None
    heads: Heads
    data: Dataset
    config: TrainConfig
    augment: AugmentConfig
    size: tuple[int, int]
    seed: int
    device: torch.device
    checkpoint: Checkpoint
    state: State
    steps: int
    display: Display
    pending: list[tuple[int, Tensor]] = field(default_factory=list)  # losses not yet looked at


def fit(  # noqa: PLR0913 - one call site, in the workflow; every argument by name
    module: nn.Module,
    train: Dataset,
    val: EvalSet | None,
    data: DataConfig,
    config: TrainConfig,
    augment: AugmentConfig,
    size: tuple[int, int],
    folder: Path,
    *,
    seed: int,
    resume: bool = False,
    device: torch.device | str = "cpu",
    progress: bool = True,
    lr_scale: Callable[[str], float] | None = None,
    after_step: Callable[[int], None] | None = None,
    teach: Teach | None = None,
    heads: Sequence[str] = (),
) -> FitResult:
    """Train `module` in place and return the figures.

    module: float32 [N, 3, *size], (x - 128) / 128 -> logits [N, classes, *size]. `folder` gets
    `train.jsonl`, a line per epoch, and `checkpoint.safetensors`. With `resume` and a checkpoint
    there it goes on from that; without, it starts anew. `lr_scale` maps parameter names to
    factors of the learning rate. `after_step` is called with the number of steps done so far
    (counted over all epochs), before the average is updated: for masks and shared weights.
    `heads`: layers that give logits of their own, whose loss is added.
    `teach` adds to the loss; a checkpoint does not know of it, nor of the first weights: who calls
    with others begins a folder anew.

    "The same bits" holds on one machine with one version and thread count of torch.
    """
    device = _device(device)
    folder.mkdir(parents=True, exist_ok=True)
    module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.train()
    if config.memory == "lean":
        make_lean(module)
    optimizer = make_optimizer(module, config, lr_scale)
    average = Average(module, config.ema) if config.ema else None
    identity = _identity(train, data, config, augment, size, seed)
    path = folder / "checkpoint.safetensors"
    checkpoint = Checkpoint(path, module, average, optimizer, identity)
    state = _start(checkpoint, folder, resume)
    steps = max(1, len(train) // config.batch_size)
    display = Display(config.epochs * steps, state.epoch * steps + state.step, progress)
    with display, Heads(module, heads) as asked:
        run = _Run(
            module=module,
            average=average,
            optimizer=optimizer,
            loss=make_loss(
                config.loss, class_weights(train, data, config, device), config.label_smoothing
            ),
            teach=teach,
            heads=asked,
            data=train,
            config=config,
            augment=augment,
            size=size,
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            state=state,
            steps=steps,
            display=display,
        )
        while state.epoch < config.epochs:
            _epoch(run, after_step)
            _finish_epoch(run, val, folder)
    if average:
        average.copy_to(module)
    return _result(state)


def _device(wanted: torch.device | str) -> torch.device:
    """Return the device. Raises MobilesegError that names those there are."""
    there = ["cpu"]
    if torch.cuda.is_available():
        there += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there.append("mps")
    if str(wanted) not in there:
        raise MobilesegError(f"device {str(wanted)!r}: is not here; there are: {', '.join(there)}")
    return torch.device(wanted)


def generator(seed: int, epoch: int, step: int, purpose: int) -> Generator:
    """Return a CPU generator that depends on all of the numbers: no state need be saved."""
    numbers = (seed, epoch, step, purpose)
    drawn = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    # torch takes seeds up to 2^64 but MPS and older versions up to 2^63
    return Generator().manual_seed(int(drawn) >> 1)


def _start(checkpoint: Checkpoint, folder: Path, resume: bool) -> State:
    state = checkpoint.load() if resume else None
    if state is None:
        (folder / "train.jsonl").unlink(missing_ok=True)
        state = State()
        checkpoint.save(state)  # with the first weights, so a kill before the next one is harmless
    return state


def _identity(
    train: Dataset,
    data: DataConfig,
    config: TrainConfig,
    augment: AugmentConfig,
    size: tuple[int, int],
    seed: int,
) -> dict[str, object]:
    """Return what the result depends on, as flat JSON. Folders may move, names may not."""
    names = "\n".join(f"{pair.image.name} {pair.mask.name}" for pair in train.pairs)
    facts: dict[str, object] = {f"train.{k}": v for k, v in asdict(config).items()}
    del facts["train.checkpoint_seconds"]
    reading = asdict(data)
    for place in ("root", "train", "val", "test", "cache_mb"):
        del reading[place]
    facts |= {f"data.{k}": v for k, v in reading.items()}
    facts |= {f"augment.{k}": v for k, v in asdict(augment).items()}
    facts |= {
        "seed": seed,
        "size": size,
        "working size": train.masks.shape[1:],
        "train pictures": len(train),
        "train names (sha256)": hashlib.sha256(names.encode()).hexdigest()[:16],
    }
    plain: dict[str, object] = json.loads(json.dumps(facts))
    return plain


def _epoch(run: _Run, after_step: Callable[[int], None] | None) -> None:
    state, config = run.state, run.config
    order = _order(run)
    run.module.train()
    saved = clock = time.perf_counter()
    for step in range(state.step, run.steps):
        # the rest of the order, less than a batch, waits for another epoch's shuffle: batch
        # norm would learn from too few pictures
        chosen = order[step * config.batch_size : (step + 1) * config.batch_size]
        done = state.epoch * run.steps + step
        _step(run, chosen, done)
        if after_step:
            after_step(done + 1)
        if run.average:
            run.average.update(run.module, done)
        state.step = step + 1
        now = time.perf_counter()
        state.epoch_seconds += now - clock
        state.seconds += now - clock
        clock = now
        if now - saved >= config.checkpoint_seconds and state.step < run.steps:
            _look(run)
            _check_weights(run)
            run.checkpoint.save(state)
            saved = clock = time.perf_counter()
    _look(run)


def _order(run: _Run) -> npt.NDArray[np.int64]:
    """Return the running epoch's order of the pictures."""
    draws = generator(run.seed, run.state.epoch, 0, _ORDER)
    order: npt.NDArray[np.int64] = torch.randperm(len(run.data), generator=draws).numpy()
    return order


def _step(run: _Run, chosen: npt.NDArray[np.int64], done: int) -> None:
    config, state = run.config, run.state
    images, masks = (torch.from_numpy(part).to(run.device) for part in run.data.batch(chosen))
    draws = generator(run.seed, state.epoch, state.step, _AUGMENT)
    inputs, labels = augment(images, masks, run.size, run.augment, draws)
    lr = config.lr * lr_factor(config, done, run.steps)
    set_lr(run.optimizer, lr)
    logits = _forward(run, inputs, labels)
    loss = run.loss(logits, labels) + config.auxiliary * run.heads.loss(run.loss, labels)
    if run.teach:
        loss = loss + run.teach(inputs, logits)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    limit = config.clip_norm or math.inf
    norm = nn.utils.clip_grad_norm_(run.module.parameters(), limit, foreach=True)
    # NaN if the gradient is not finite: a finite loss may have one
    run.pending.append((state.step, loss.detach() + 0 * norm))
    if run.device.type == "cpu" or len(run.pending) >= _CHECK_EVERY:
        _look(run)
    run.optimizer.step()


def _forward(run: _Run, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the logits. Dropout draws from the step's own seed, so a resumed step drops alike."""
    mixed = torch.autocast(
        run.device.type, torch.bfloat16, enabled=run.config.precision == "bfloat16"
    )
    devices = [run.device] if run.device.type == "cuda" else []
    draws = generator(run.seed, run.state.epoch, run.state.step, _DROPOUT)
    lean = lean_forward() if run.config.memory == "lean" else nullcontext()
    with torch.random.fork_rng(devices=devices), mixed, lean:
        torch.manual_seed(draws.initial_seed())
        try:
            logits: Tensor = run.module(inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise MobilesegError(
                "train.batch_size: batch norm over 1x1 pixels needs more than one picture"
            ) from error
    if logits.ndim != 4 or logits.shape[2:] != labels.shape[1:]:
        raise MobilesegError(
            f"train: the net gives {list(logits.shape)} for masks {list(labels.shape)}"
        )
    return logits


def _look(run: _Run) -> None:
    """Add up the losses of the last steps; NaN or infinity ends the training with an error."""
    for step, value in run.pending:
        loss = float(value)
        if not math.isfinite(loss):
            raise _diverged(run, step, loss)
        run.state.loss_sum += loss
    if run.pending:
        epoch = run.state.epoch
        done = run.pending[-1][0] + 1
        mean = run.state.loss_sum / done
        miou = next((r["val_miou_percent"] for r in reversed(run.state.history)), None)
        text = f"epoch {epoch + 1}/{run.config.epochs}  loss {mean:.4f}  mIoU {_show(miou)}"
        run.display.step(epoch * run.steps + done, text)
    run.pending.clear()


def _check_weights(run: _Run) -> None:
    """Raise if the last step, whose loss was still finite, ruined a weight."""
    for name, parameter in run.module.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise MobilesegError(
                f"train: {name} became NaN or infinite in epoch {run.state.epoch + 1}; lower "
                "train.lr or raise train.warmup_epochs; the last good state is "
                f"{run.checkpoint.path}"
            )


def _diverged(run: _Run, step: int, loss: float) -> MobilesegError:
    size, epoch = run.config.batch_size, run.state.epoch
    names = [run.data.pairs[i].image.name for i in _order(run)[step * size : (step + 1) * size]]
    lr = run.config.lr * lr_factor(run.config, epoch * run.steps + step, run.steps)
    return MobilesegError(
        f"train: loss or gradient is {loss} in epoch {epoch + 1}, step {step + 1} of {run.steps}, "
        f"lr {lr:.3g}, pictures {', '.join(names)}; lower train.lr, raise train.warmup_epochs or "
        f"set train.clip_norm, or mend these files; the last good state is {run.checkpoint.path}"
    )


def _finish_epoch(run: _Run, val: EvalSet | None, folder: Path) -> None:
    """Validate, then write the checkpoint, then the log: after a kill the log is at most short."""
    _check_weights(run)
    state, config = run.state, run.config
    started = time.perf_counter()
    number = state.epoch + 1
    record: Record = {
        "epoch": number,
        "lr": config.lr * lr_factor(config, number * run.steps - 1, run.steps),
        "loss": state.loss_sum / run.steps,
        "val_miou_percent": None,
        "val_foreground_iou_percent": None,
        "train_seconds": state.epoch_seconds,
        "images_per_second": run.steps
        * min(config.batch_size, len(run.data))
        / max(state.epoch_seconds, 1e-9),
    }
    if val is not None and (number % config.validate_every == 0 or number == config.epochs):
        judged = run.average.module if run.average else run.module
        scores = evaluate(module_predict(judged, run.device), val, boundary=False)
        record["val_miou_percent"] = percent(scores.miou)
        record["val_foreground_iou_percent"] = percent(scores.foreground_iou)
    state.seconds += time.perf_counter() - started
    record["seconds"] = state.seconds
    state.history.append(record)
    state.epoch, state.step, state.loss_sum, state.epoch_seconds = number, 0, 0.0, 0.0
    run.checkpoint.save(state)
    _write_log(folder / "train.jsonl", state.history)
    run.display.line(
        f"epoch {number}/{config.epochs}  lr {record['lr']:.3g}  loss {record['loss']:.4f}  "
        f"val mIoU {_show(record['val_miou_percent'])}  {record['train_seconds']:.1f} s  "
        f"{record['images_per_second']:.0f} img/s"
    )


def _write_log(path: Path, history: list[Record]) -> None:
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in history))


def _show(percent: float | int | None) -> str:
    return "-" if percent is None else f"{percent:.2f} %"


def _result(state: State) -> FitResult:
    judged = [record for record in state.history if record["val_miou_percent"] is not None]
    last = state.history[-1]
    return FitResult(
        epochs=state.epoch,
        seconds=state.seconds,
        images_per_second=float(last["images_per_second"] or 0),
        last=last,
        best=max(judged, key=lambda record: record["val_miou_percent"] or 0.0, default=None),
        history=list(state.history),
    )
