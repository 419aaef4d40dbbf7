"""Pictures a second of our training loop beside a plain one, epochs in turns."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Generator

from mobileseg.nets.module import build
from mobileseg.nets.zoo import zoo_net
from mobileseg.recipe import Recipe, read_recipe
from mobileseg.train import data as train_data
from mobileseg.train.augment import augment
from mobileseg.train.config import LossConfig, TrainConfig
from mobileseg.train.data import Dataset
from mobileseg.train.loop import fit
from mobileseg.train.parallel.ranks import ALONE, Ranks
from tests.bench import plain_loop

WORKERS = (0, 1, 2)
OURS = "ours"
_MANY = 1000  # epochs: more than are ever asked for


@dataclass(frozen=True)
class Contest:
    """A network at a size, on pictures."""

    net: str
    size: tuple[int, int]
    batch: int
    threads: int
    data: Path | None


class OverError(Exception):
    """No further epoch is wanted."""


class Turns:
    """One side of a contest: does an epoch when it is told to, and says what that took."""

    def __init__(self, pipe: Connection, only_data: Callable[[], None]) -> None:
        self._pipe = pipe
        self._only_data = only_data
        self._started = 0.0

    def wait(self) -> None:
        """Return when the next epoch is wanted; answer what the pictures alone take before."""
        while (word := self._pipe.recv()) == "data":
            started = time.perf_counter()
            self._only_data()
            self._pipe.send(time.perf_counter() - started)
        if word == "end":
            raise OverError
        self._started = time.perf_counter()

    def done(self) -> None:
        """Say how long it took, then wait."""
        self._pipe.send(time.perf_counter() - self._started)
        self.wait()


def contest(
    contest: Contest, rounds: int, workers: Sequence[int], say: Callable[[str], None]
) -> dict[str, Any]:
    """Return pictures a second of each side, the median of the rounds, after one to warm up."""
    context = multiprocessing.get_context("spawn")
    sides = {OURS: (run_ours, 0)} | {f"plain, {n} workers": (run_plain, n) for n in workers}
    pipes, processes = {}, []
    for name, (run, count) in sides.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=run, args=(contest, count, theirs)))
        processes[-1].start()
    pictures = {name: pipe.recv() for name, pipe in pipes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    alone: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        say(f"{contest.net}: {f'round {number}' if number else 'warming up'}")
        for name, pipe in pipes.items():
            for word, found in (("data", alone), ("epoch", seconds)):
                pipe.send(word)
                found[name].append(pipe.recv())
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send("end")
        process.join()
    return row(contest, pictures, seconds, alone)


def row(
    contest: Contest,
    pictures: dict[str, int],
    seconds: dict[str, list[float]],
    alone: dict[str, list[float]],
) -> dict[str, Any]:
    """Return the contest's figures; the ratio is the median of those within a round."""
    sides = {
        name: {
            "images_per_second": pictures[name] / median(seconds[name][1:]),
            "data_share_percent": 100 * median(alone[name][1:]) / median(seconds[name][1:]),
        }
        for name in seconds
    }
    plain = [name for name in sides if name != OURS]
    best = max(plain, key=lambda name: sides[name]["images_per_second"])
    pairs = zip(seconds[best][1:], seconds[OURS][1:], strict=True)
    return {
        "net": contest.net,
        "size": list(contest.size),
        "batch": contest.batch,
        "threads": contest.threads,
        "sides": sides,
        "best_plain": best,
        "times_faster": median(theirs / ours for theirs, ours in pairs),
    }


def recipe_of(contest: Contest) -> tuple[Recipe, TrainConfig]:
    """Both loops clip, neither averages weights."""
    recipe = read_recipe("portrait_ladder")
    if contest.data is not None:
        recipe = replace(recipe, data=replace(recipe.data, root=contest.data))
    config = replace(
        recipe.train,
        epochs=_MANY,
        batch_size=contest.batch,
        ema=0.0,
        loss=LossConfig(cross_entropy=1.0),
    )
    return recipe, config


def run_ours(contest: Contest, _: int, pipe: Connection) -> None:
    """Train with our loop, in a process of its own."""
    torch.set_num_threads(contest.threads)
    recipe, _ = recipe_of(contest)
    pictures = train_data.load(recipe.data, "train", contest.size)
    steps = len(pictures) // contest.batch
    order = torch.arange(steps * contest.batch).view(steps, -1).numpy()

    def only_data() -> None:
        draws = Generator().manual_seed(1)
        for chosen in order:
            images, masks = (torch.from_numpy(part) for part in pictures.batch(chosen))
            augment(images, masks, contest.size, recipe.augment, draws)

    turns = Turns(pipe, only_data)

    def after_step(done: int) -> None:
        if done % steps == 0:
            turns.done()

    pipe.send(steps * contest.batch)
    with tempfile.TemporaryDirectory() as folder, suppress(OverError):
        turns.wait()
        train_on(contest, pictures, Path(folder), after_step)


def train_on(
    contest: Contest,
    pictures: Dataset,
    folder: Path,
    after_step: Callable[[int], None],
    ranks: Ranks = ALONE,
) -> None:
    """Train the contest's network until `after_step` raises."""
    recipe, config = recipe_of(contest)
    spec = zoo_net(contest.net, contest.size, len(recipe.data.classes), "bench")
    fit(
        build(spec),
        pictures,
        None,
        recipe.data,
        config,
        recipe.augment,
        contest.size,
        folder,
        seed=1,
        progress=False,
        after_step=after_step,
        ranks=ranks,
    )


def run_plain(contest: Contest, workers: int, pipe: Connection) -> None:
    """Train with the plain loop, in a process of its own."""
    torch.set_num_threads(contest.threads)
    recipe, config = recipe_of(contest)
    spec = zoo_net(contest.net, contest.size, len(recipe.data.classes), "bench")
    # The same pictures: what is held out of `train` for validation is so here.
    pairs = train_data.pairs(recipe.data, "train")
    pictures = plain_loop.Pictures(pairs, contest.size, recipe.augment)
    batches = plain_loop.loader(pictures, contest.batch, workers)

    def only_data() -> None:
        for _ in batches:
            pass

    turns = Turns(pipe, only_data)
    pipe.send(len(batches) * contest.batch)
    with tempfile.TemporaryDirectory() as folder, suppress(OverError):
        turns.wait()
        path = Path(folder) / "state.pt"
        plain_loop.train(build(spec), batches, len(batches), config, path, turns.done)
