"""One process does the work of a verb; the others wait and help it where a network is trained."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from mobileseg.errors import MobilesegError
from mobileseg.train.device import require_device
from mobileseg.train.parallel.launch import LAUNCHED, ranked
from mobileseg.train.parallel.ranks import ALONE, LostPeerError, Ranks

# To start and to import torch, on all machines.
_MEETING = timedelta(minutes=5)
# One process validates while the others wait for its next step.
_STEP = timedelta(hours=2)
# Between two trainings the first one quantizes, prices, prunes: for hours, perhaps.
_BETWEEN = timedelta(days=30)
_GOODBYE_SECONDS = 30
_END = ""


@dataclass
class Team:
    """This process among `count`, of which number 0 leads. Of one alone there is nobody to tell."""

    rank: int = 0
    count: int = 1
    store: Store | None = None
    done: int = field(default=0, init=False)  # jobs

    @property
    def leads(self) -> bool:
        """Whether this process does the verb's work."""
        return self.rank == 0

    def device(self, compute: str) -> str:
        """Return this process's device. Raises MobilesegError where it is not here or cannot be
        shared out.
        """
        if self.count == 1 or compute == "cpu":
            return str(require_device(compute))
        if compute != "cuda":
            raise MobilesegError(
                f"--compute {compute}: several processes train on cpu or cuda, each on its own"
            )
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= there:
            raise MobilesegError(
                f"devices: process {local} of this machine has no CUDA device; there are {there}"
            )
        torch.cuda.set_device(local)
        return f"cuda:{local}"

    @contextmanager
    def work(self, job: Mapping[str, Any], device: str) -> Iterator[Ranks]:
        """Do a job with all processes; the leader tells the others what it is: plain JSON.

        The processor's threads are divided among those on this machine. Raises LostPeerError where
        another process is gone.
        """
        if self.store is None:
            yield ALONE
            return
        if self.leads:
            self.store.set(f"job/{self.done}", json.dumps(job))
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, threads // _neighbours(self.count)))
        ranks = Ranks(self.rank, self.count)
        try:
            with ranks.watched():
                dist.init_process_group(
                    "nccl" if device.startswith("cuda") else "gloo",
                    store=PrefixStore(f"group/{self.done}", self.store),
                    rank=self.rank,
                    world_size=self.count,
                    timeout=_STEP,
                )
                yield ranks
        except LostPeerError:
            self._explained()
            raise
        finally:
            torch.set_num_threads(threads)
            if dist.is_initialized():
                dist.destroy_process_group()
            self.done += 1

    def jobs(self) -> Iterator[dict[str, Any]]:
        """Wait for the leader's jobs, one after the other, until it has none.

        Each has to be done, by `work`, before the next is asked for.
        """
        assert self.store is not None
        self.store.set_timeout(_BETWEEN)
        with Ranks(self.rank, self.count).watched():
            while told := self.store.get(f"job/{self.done}").decode():
                yield json.loads(told)
            self.store.add("left", 1)

    def end(self) -> None:
        """Let the others go."""
        if self.store is None or not self.leads:
            return
        self.store.set(f"job/{self.done}", _END)
        # The store is in this process, perhaps: it stays until they have heard.
        until = time.monotonic() + _GOODBYE_SECONDS
        while self.store.add("left", 0) < self.count - 1 and time.monotonic() < until:
            time.sleep(0.05)

    def _explained(self) -> None:
        """Leave the word to who started the processes: it knows which one is gone, and how."""
        if LAUNCHED in os.environ:
            time.sleep(_GOODBYE_SECONDS)


def join() -> Team:
    """Return the team that the environment tells of, as torchrun sets it; or one process alone.

    Raises MobilesegError where the others do not come.
    """
    if not ranked():
        return Team()
    try:
        store, rank, count = next(rendezvous("env://", timeout=_MEETING))
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise MobilesegError(
            f"devices: the {os.environ['WORLD_SIZE']} processes did not meet at {where} "
            f"({str(error).splitlines()[0]})"
        ) from error
    return Team(rank, count, store)


def _neighbours(count: int) -> int:
    """Return how many of the processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", count))
