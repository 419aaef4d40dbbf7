"""What a person sees of a training: a bar on a terminal, else a line per epoch, on stderr."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """A context that shows progress over `total` steps; a bar only on a terminal."""

    def __init__(self, total: int, done: int, bar: bool) -> None:
        self._bar: Progress | None = None
        if bar and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("training", total=total, completed=done)

    def __enter__(self) -> Display:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, done: int, text: str, total: int | None = None) -> None:
        """Move the bar to `done` steps, of `total` if given; nothing without a bar."""
        if self._bar:
            self._bar.update(self._task, completed=done, description=text, total=total)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if self._bar:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)
