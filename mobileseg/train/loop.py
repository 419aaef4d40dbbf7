"""Train a module; killed at any moment, a resumed training ends with the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from mobileseg.files import write_atomic
from mobileseg.train.checkpoint import Checkpoint, State
from mobileseg.train.config import AugmentConfig, DataConfig, TrainConfig
from mobileseg.train.console import Display
from mobileseg.train.data import Dataset
from mobileseg.train.device import require_device
from mobileseg.train.evaluate import EvalSet, evaluate, module_predict
from mobileseg.train.heads import Heads
from mobileseg.train.losses import class_weights, make_loss
from mobileseg.train.memory.heap import kept_heap
from mobileseg.train.memory.lean import make_lean
from mobileseg.train.memory.recompute import units
from mobileseg.train.metrics import percent
from mobileseg.train.optim import Average, lr_factor, make_optimizer
from mobileseg.train.parallel.norm import make_synced
from mobileseg.train.parallel.ranks import ALONE, Ranks
from mobileseg.train.parallel.whole import SharedLoss
from mobileseg.train.precision import make_scaler
from mobileseg.train.step import Run, Teach, check_weights, look, order, shown, take_step

Record: TypeAlias = dict[str, float | int | None]
"""One line of train.jsonl; the unit stands in each key; null where there is no figure."""


@dataclass(frozen=True)
class FitResult:
    """How a training ended. The module holds the weights of the last epoch, averaged if `ema`."""

    epochs: int
    seconds: float  # over all resumptions
    images_per_second: float  # of the last epoch's training part
    last: Record
    best: Record | None  # the epoch with the highest val mIoU; None without val
    history: list[Record]


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
    on_epoch: Callable[[Record], None] | None = None,
    ranks: Ranks = ALONE,
) -> FitResult:
    """Train `module` in place and return the figures.

    module: float32 [N, 3, *size], (x - 128) / 128 -> logits [N, classes, *size]. `folder` gets
    `train.jsonl`, a line per epoch, and `checkpoint.safetensors`. With `resume` and a checkpoint
    there it goes on from that; without, it starts anew. `lr_scale` maps parameter names to
    factors of the learning rate. `after_step` is called with the number of steps done so far
    (counted over all epochs), before the average is updated: for masks and shared weights.
    `heads`: layers that give logits of their own, whose loss is added.
    `on_epoch` is called with each line of train.jsonl once it is written.
    `teach` adds to the loss; a checkpoint does not know of it, nor of the first weights: who calls
    with others begins a folder anew.

    Of several `ranks` each calls this alike and takes its share of every batch. The first one's
    folder, checkpoint and first weights count, and it alone writes, shows and validates. What
    comes out is what one process makes, but for rounding and for what dropout draws.

    "The same bits" holds on one machine with one version and thread count of torch, and one number
    of processes.
    """
    device = require_device(device)
    if ranks.first:
        folder.mkdir(parents=True, exist_ok=True)
    module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    module.train()
    if config.memory == "lean":
        make_lean(module)
    if ranks.count > 1:
        make_synced(module, ranks)
    optimizer = make_optimizer(module, config, lr_scale)
    average = Average(module, config.ema) if config.ema else None
    identity = _identity(train, data, config, augment, size, seed)
    path = folder / "checkpoint.safetensors"
    checkpoint = Checkpoint(path, module, average, optimizer, identity)
    state = _start(checkpoint, folder, resume, ranks)
    steps = max(1, len(train) // config.batch_size)
    loss = make_loss(
        config.loss, class_weights(train, data, config, device), config.label_smoothing
    )
    bar = progress and ranks.first
    display = Display(config.epochs * steps, state.epoch * steps + state.step, bar)
    # Who saves memory wants every byte back.
    saving = config.memory == "lean" or config.recompute
    heap = nullcontext() if saving else kept_heap()
    exact = deterministic() if config.deterministic else nullcontext()
    with heap, exact, display, Heads(module, heads) as asked:
        run = Run(
            module=module,
            average=average,
            optimizer=optimizer,
            loss=SharedLoss(loss, ranks) if ranks.count > 1 else loss,
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
            ranks=ranks,
            units=units(module, config.recompute, config.memory == "lean"),
            scaler=_scaler(config, device, state),
            called=ranks.wrapped(module),
        )
        while state.epoch < config.epochs:
            _epoch(run, after_step)
            _finish_epoch(run, val, folder)
            if on_epoch and ranks.first:
                on_epoch(state.history[-1])
    if average:
        average.copy_to(module)
    return _result(state)


@contextmanager
def deterministic() -> Iterator[None]:
    """Let torch take only what gives the same bits each time, on a GPU too, and slower there."""
    before = torch.are_deterministic_algorithms_enabled()
    # What cuBLAS wants for it; read when its first kernel runs.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _scaler(config: TrainConfig, device: torch.device, state: State) -> torch.amp.GradScaler:
    scaler = make_scaler(device.type, config.precision)
    if state.scaler:
        scaler.load_state_dict(state.scaler)
    state.scaler = scaler.state_dict()
    return scaler


def _start(checkpoint: Checkpoint, folder: Path, resume: bool, ranks: Ranks) -> State:
    if not ranks.first:
        return checkpoint.spread(None, ranks)
    state = checkpoint.load() if resume else None
    if state is None:
        (folder / "train.jsonl").unlink(missing_ok=True)
        state = State()
        checkpoint.save(state)  # with the first weights, so a kill before the next one is harmless
    return checkpoint.spread(state, ranks) if ranks.count > 1 else state


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


def _epoch(run: Run, after_step: Callable[[int], None] | None) -> None:
    state, config = run.state, run.config
    pictures = order(run)
    run.module.train()
    saved = clock = time.perf_counter()
    for step in range(state.step, run.steps):
        # the rest of the order, less than a batch, waits for another epoch's shuffle: batch
        # norm would learn from too few pictures
        chosen = pictures[step * config.batch_size : (step + 1) * config.batch_size]
        done = state.epoch * run.steps + step
        take_step(run, chosen, done)
        if after_step:
            after_step(done + 1)
        if run.average:
            run.average.update(run.module, done)
        state.step = step + 1
        now = time.perf_counter()
        state.epoch_seconds += now - clock
        state.seconds += now - clock
        clock = now
        due = now - saved >= config.checkpoint_seconds and state.step < run.steps
        if due and run.ranks.first:
            look(run)
            check_weights(run)
            run.checkpoint.save(state)
            saved = clock = time.perf_counter()
    look(run)


def _finish_epoch(run: Run, val: EvalSet | None, folder: Path) -> None:
    """Validate, then write the checkpoint, then the log: after a kill the log is at most short."""
    check_weights(run)
    state, config = run.state, run.config
    started = time.perf_counter()
    number = state.epoch + 1
    record: Record = {
        "epoch": number,
        "lr": config.lr * lr_factor(config, number * run.steps - 1, run.steps),
        "loss": state.loss_sum / run.steps,
        "val_miou_percent": None,
        "val_foreground_iou_percent": None,
        "skipped_steps": state.skipped,
        "train_seconds": state.epoch_seconds,
        "images_per_second": run.steps
        * min(config.batch_size, len(run.data))
        / max(state.epoch_seconds, 1e-9),
    }
    due = number % config.validate_every == 0 or number == config.epochs
    if val is not None and due and run.ranks.first:
        judged = run.average.module if run.average else run.module
        scores = evaluate(module_predict(judged, run.device), val, boundary=False)
        record["val_miou_percent"] = percent(scores.miou)
        record["val_foreground_iou_percent"] = percent(scores.foreground_iou)
    state.seconds += time.perf_counter() - started
    record["seconds"] = state.seconds
    state.history.append(record)
    state.epoch, state.step, state.loss_sum, state.epoch_seconds = number, 0, 0.0, 0.0
    state.skipped = 0
    if not run.ranks.first:
        return
    run.checkpoint.save(state)
    _write_log(folder / "train.jsonl", state.history)
    run.display.line(
        f"epoch {number}/{config.epochs}  lr {record['lr']:.3g}  loss {record['loss']:.4f}  "
        f"val mIoU {shown(record['val_miou_percent'])}  {record['train_seconds']:.1f} s  "
        f"{record['images_per_second']:.0f} img/s"
    )


def _write_log(path: Path, history: list[Record]) -> None:
    write_atomic(path, "".join(json.dumps(record) + "\n" for record in history))


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
