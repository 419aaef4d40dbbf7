"""Pictures a second of one process and of two that train together, epochs in turns."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mobileseg.train import data as train_data
from mobileseg.train.parallel.launch import free_port
from mobileseg.train.parallel.ranks import LostPeerError
from mobileseg.train.parallel.team import join
from tests.bench.training import Contest, OverError, Turns, recipe_of, train_on

# Processes and threads of each.
SIDES = ((1, 1), (2, 1), (1, 2))
_Environment = dict[str, str]


def scaling(contest: Contest, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Return pictures a second of each side, the median of the rounds, after one to warm up.

    times: of one process with one thread, the median of the ratios within a round.
    cpu_ms_per_image: of all processes together, which others on the machine do not change much.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for count, threads in SIDES:
        pipes[count, threads], theirs = context.Pipe()
        processes += _side(context, contest, count, threads, theirs)
    pictures = {side: pipe.recv() for side, pipe in pipes.items()}
    seconds: dict[tuple[int, int], list[float]] = {side: [] for side in SIDES}
    for number in range(rounds + 1):
        say(f"{contest.net}: {f'round {number}' if number else 'warming up'}")
        for side, pipe in pipes.items():
            pipe.send("epoch")
            seconds[side].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send("end")
    busy = {side: side[0] * pipe.recv() for side, pipe in pipes.items()}
    for process in processes:
        process.join()
    first = seconds[SIDES[0]][1:]
    return {
        "net": contest.net,
        "size": list(contest.size),
        "batch": contest.batch,
        "load": os.getloadavg()[0],
        "sides": [
            {
                "processes": side[0],
                "threads": side[1],
                "images_per_second": pictures[side] / median(took[1:]),
                "times": median(a / b for a, b in zip(first, took[1:], strict=True)),
                "cpu_ms_per_image": 1e3 * busy[side] / pictures[side],
            }
            for side, took in seconds.items()
        ],
    }


def _side(
    context: SpawnContext, contest: Contest, count: int, threads: int, pipe: Connection
) -> list[SpawnProcess]:
    meeting = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    meeting["MASTER_PORT"] = str(free_port())
    started = []
    for rank in range(count):
        told = meeting | {"RANK": str(rank)}
        started.append(context.Process(target=_train, args=(contest, threads, told, pipe)))
        started[-1].start()
    return started


def _train(contest: Contest, threads: int, meeting: _Environment, pipe: Connection) -> None:
    os.environ.update(meeting)
    recipe, _ = recipe_of(contest)
    pictures = train_data.load(recipe.data, "train", contest.size)
    steps = len(pictures) // contest.batch
    team, turns = join(), Turns(pipe, lambda: None)
    clock = [0.0]

    def after_step(done: int) -> None:
        if team.leads and done % steps == 0:
            clock.append(time.process_time())
            turns.done()

    with (
        tempfile.TemporaryDirectory() as folder,
        # Who helps learns that it is over when its leader is gone.
        suppress(OverError, LostPeerError),
        team.work({}, "cpu") as ranks,
    ):
        torch.set_num_threads(threads)
        if team.leads:
            pipe.send(steps * contest.batch)
            turns.wait()
        train_on(contest, pictures, Path(folder), after_step, ranks)
    if team.leads:
        pipe.send(median(b - a for a, b in pairwise(clock[1:])))
