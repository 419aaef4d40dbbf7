"""One step of a training: a batch, its loss, its gradient, and an error where these go wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.train.augment import Part, augment
from mobileseg.train.checkpoint import Checkpoint, State
from mobileseg.train.config import AugmentConfig, TrainConfig
from mobileseg.train.console import Display
from mobileseg.train.data import Dataset
from mobileseg.train.heads import Heads
from mobileseg.train.losses import Losses, Whole, edges
from mobileseg.train.memory.lean import lean_forward
from mobileseg.train.memory.recompute import Unit, recomputed
from mobileseg.train.optim import Average, lr_factor, set_lr
from mobileseg.train.parallel.ranks import Ranks
from mobileseg.train.precision import mixed

if TYPE_CHECKING:
    from mobileseg.train.parallel.whole import SharedLoss

Teach: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A batch's inputs and logits to a term that is added to its loss."""

# What a step's random numbers are for. The last has a number per process.
_ORDER, _AUGMENT, _DROPOUT = 1, 2, 3
_LEAST_SCALE = 1.0  # below it the gradient itself does not fit
_CHECK_EVERY = 20  # steps on a GPU between looks at the loss, each of which waits for the GPU


@dataclass
class Run:
    """Everything a training step needs."""

    module: nn.Module
    average: Average | None
    optimizer: torch.optim.Optimizer
    loss: Losses | SharedLoss
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
    ranks: Ranks
    scaler: torch.amp.GradScaler
    units: tuple[Unit, ...]  # what the network is computed in where parts are computed again
    called: nn.Module  # the module, or what calls it among several processes
    pending: list[tuple[int, Tensor]] = field(default_factory=list)  # losses not yet looked at


def take_step(run: Run, chosen: npt.NDArray[np.int64], done: int) -> None:
    """Train on the chosen pictures. done: the number of steps before, over all epochs."""
    config, state = run.config, run.state
    inputs, labels = _share(run, chosen)
    set_lr(run.optimizer, config.lr * lr_factor(config, done, run.steps))
    run.optimizer.zero_grad(set_to_none=True)
    with _draws(run):
        loss = _gradient(run, inputs, labels, len(chosen))
    run.ranks.require_gradients(run.module)
    run.scaler.unscale_(run.optimizer)
    limit = config.clip_norm or math.inf
    norm = nn.utils.clip_grad_norm_(run.module.parameters(), limit, foreach=True)
    # NaN if the gradient is not finite: a finite loss may have one. With a scale that only means
    # that the scale was too large.
    run.pending.append((state.step, loss if run.scaler.is_enabled() else loss + 0 * norm))
    if run.device.type == "cpu" or len(run.pending) >= _CHECK_EVERY:
        look(run)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    _note_scale(run)


def _gradient(run: Run, inputs: Tensor, labels: Tensor, pictures: int) -> Tensor:
    """Leave the gradient of the batch's loss in the parameters and return the loss.

    In `accumulate` parts, one after the other, whose losses add up. pictures: how many the batch
    has, those of other processes too.
    """
    # As many in every process: the least share decides.
    parts = min(run.config.accumulate, pictures // run.ranks.count)
    whole = Whole(run.loss.counted(labels), 1.0) if parts > 1 else None
    total = torch.zeros((), device=run.device)
    pieces = zip(inputs.tensor_split(parts), labels.tensor_split(parts), strict=True)
    for number, (x, y) in enumerate(pieces):
        part = whole and replace(whole, share=len(x) / len(inputs))
        with run.ranks.gathering(run.called, last=number == parts - 1):
            loss = _loss(run, x, y, part, len(x) / pictures)
            # Each process has the gradient of its own pictures: the sum is wanted, DDP makes the
            # mean.
            run.scaler.scale(run.ranks.count * loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _loss(run: Run, inputs: Tensor, labels: Tensor, whole: Whole | None, share: float) -> Tensor:
    """Return the loss of a batch, or what a part adds to that of the `whole`, of which it is so
    large a `share` over all processes.
    """
    logits = _forward(run, inputs, labels)

    def loss(out: Tensor, masks: Tensor) -> Tensor:
        return run.loss(out, masks, whole)

    def of_edges(out: Tensor, masks: Tensor) -> Tensor:
        # No sum over pixels: the edges of all processes' pictures weigh as much as what is none.
        found = edges(run.ranks.joined(out), run.ranks.joined(masks))
        return found * (whole.share if whole else 1)

    heads = run.heads.loss(loss, labels, of_edges)
    found = loss(logits, labels) + run.config.auxiliary * heads
    if run.teach:
        # A mean over pictures, whoever has them.
        found = found + run.ranks.summed(run.teach(inputs, logits) * share)
    return found


def _note_scale(run: Run) -> None:
    """Keep the scale of a float16 loss for the checkpoint. Raises where none fits any more."""
    before, run.state.scaler = run.state.scaler, run.scaler.state_dict()
    if not run.state.scaler:
        return
    scale = run.state.scaler["scale"]
    run.state.skipped += scale < before["scale"]
    if scale < _LEAST_SCALE:
        raise MobilesegError(
            "train.precision: the gradient does not fit in float16 even when the loss is scaled "
            f"by {scale:g} (epoch {run.state.epoch + 1}, step {run.state.step + 1}); lower "
            "train.lr, or take bfloat16 or float32; the last good state is "
            f"{run.checkpoint.path}"
        )


def _share(run: Run, chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return this process's inputs and labels of the batch."""
    own = run.ranks.share(len(chosen))
    part = Part(own.start, own.stop, len(chosen))
    pictures = run.data.batch(chosen[part.needed(run.augment)])
    images, masks = (torch.from_numpy(each).to(run.device) for each in pictures)
    draws = generator(run.seed, run.state.epoch, run.state.step, _AUGMENT)
    return augment(images, masks, run.size, run.augment, draws, part)


@contextmanager
def _draws(run: Run) -> Iterator[None]:
    """Let dropout draw from the step's own seed, so that a resumed step drops alike."""
    devices = [run.device] if run.device.type == "cuda" else []
    draws = generator(run.seed, run.state.epoch, run.state.step, _DROPOUT + run.ranks.rank)
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(draws.initial_seed())
        yield


def _forward(run: Run, inputs: Tensor, labels: Tensor) -> Tensor:
    lean = lean_forward() if run.config.memory == "lean" else nullcontext()
    precision = mixed(run.device.type, run.config.precision)
    with precision, lean, recomputed(run.module, run.units):
        try:
            logits: Tensor = run.called(inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise MobilesegError(
                "train.batch_size: batch norm over 1x1 pixels needs more than one picture at a time"
            ) from error
    if logits.ndim != 4 or logits.shape[2:] != labels.shape[1:]:
        raise MobilesegError(
            f"train: the net gives {list(logits.shape)} for masks {list(labels.shape)}"
        )
    return logits


def look(run: Run) -> None:
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
        text = f"epoch {epoch + 1}/{run.config.epochs}  loss {mean:.4f}  mIoU {shown(miou)}"
        run.display.step(epoch * run.steps + done, text)
    run.pending.clear()


def check_weights(run: Run) -> None:
    """Raise if the last step, whose loss was still finite, ruined a weight."""
    for name, parameter in run.module.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise MobilesegError(
                f"train: {name} became NaN or infinite in epoch {run.state.epoch + 1}; lower "
                "train.lr or raise train.warmup_epochs; the last good state is "
                f"{run.checkpoint.path}"
            )


def _diverged(run: Run, step: int, loss: float) -> MobilesegError:
    size, epoch = run.config.batch_size, run.state.epoch
    names = [run.data.pairs[i].image.name for i in order(run)[step * size : (step + 1) * size]]
    lr = run.config.lr * lr_factor(run.config, epoch * run.steps + step, run.steps)
    return MobilesegError(
        f"train: loss or gradient is {loss} in epoch {epoch + 1}, step {step + 1} of {run.steps}, "
        f"lr {lr:.3g}, pictures {', '.join(names)}; lower train.lr, raise train.warmup_epochs or "
        f"set train.clip_norm, or mend these files; the last good state is {run.checkpoint.path}"
    )


def order(run: Run) -> npt.NDArray[np.int64]:
    """Return the running epoch's order of the pictures."""
    draws = generator(run.seed, run.state.epoch, 0, _ORDER)
    pictures: npt.NDArray[np.int64] = torch.randperm(len(run.data), generator=draws).numpy()
    return pictures


def generator(seed: int, epoch: int, step: int, purpose: int) -> Generator:
    """Return a CPU generator that depends on all of the numbers: no state need be saved."""
    numbers = (seed, epoch, step, purpose)
    drawn = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    # torch takes seeds up to 2^64 but MPS and older versions up to 2^63
    return Generator().manual_seed(int(drawn) >> 1)


def shown(percent: float | int | None) -> str:
    """Return a figure as people read it."""
    return "-" if percent is None else f"{percent:.2f} %"
