"""What a browser measured: the dataclass is the schema of the JSON file that a run keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MaxLen

from mobileseg.errors import MobilesegError
from mobileseg.files import read_json, write_json
from mobileseg.validate import Table, parse

# Longer names say nothing more, and would fill a terminal.
_LONGEST = 80
# An hour-long loop of posts fills no disk: the oldest go.
_MOST = 1000

_Words = Annotated[str, MaxLen(1000)]
_Milliseconds = Annotated[float, Gt(0), Le(60_000)]


@dataclass(frozen=True)
class Posted(Table):
    """What a page says.

    sha256: of the file that ran. device, browser: as the page's reader and the browser name
    themselves. threads: None on a GPU. runs: inferences timed, after a warm-up. median_ms, p90_ms:
    of an inference with the copies into and out of the runtime. clock_ms: the smallest step of the
    browser's clock, which no time is finer than.
    """

    sha256: Annotated[str, MaxLen(64)]
    device: _Words
    browser: _Words
    backend: Literal["wasm", "webgpu"]
    threads: Annotated[int, Ge(1), Le(256)] | None
    runs: Annotated[int, Ge(10), Le(100_000)]
    median_ms: _Milliseconds
    p90_ms: _Milliseconds
    clock_ms: Annotated[float, Ge(0), Le(1000)]

    def __post_init__(self) -> None:
        if self.p90_ms < self.median_ms:
            raise ValueError(f"p90_ms = {self.p90_ms} is below median_ms = {self.median_ms}")
        if (self.threads is None) != (self.backend == "webgpu"):
            raise ValueError("threads: a number for wasm, and null for webgpu")


@dataclass(frozen=True)
class BrowserMeasurement(Posted):
    """One entry of a run's `latency/browser.json`.

    file: the file's name, whose sha256 is known here. runtime: name and version. time: when it
    came, by this machine's clock, in ISO 8601 and UTC.
    """

    file: str
    runtime: str
    time: str

    def words(self) -> str:
        """Return the measurement as a person reads it."""
        return (
            f"{self.device}, {self.browser}, {self.how()}: {self.median_ms:.2f} ms "
            f"(p90 {self.p90_ms:.2f}, {self.runs} runs) for {self.file}"
        )

    def how(self) -> str:
        """Return the backend, with its threads."""
        if self.threads is None:
            return "WebGPU"
        return f"wasm, {self.threads} {'thread' if self.threads == 1 else 'threads'}"


def received(data: object, files: dict[str, str], runtime: str, time: str) -> BrowserMeasurement:
    """Return what a page posted, checked; `files`: names by sha256.

    What a terminal would obey is taken out of its words. Raises MobilesegError with all mistakes.
    """
    posted = parse(Posted, data, "measurement")
    if posted.sha256 not in files:
        raise MobilesegError("measurement: sha256: of no file that is shown here")
    words = {key: _clean(getattr(posted, key)) for key in ("device", "browser")}
    given = asdict(posted) | words
    return BrowserMeasurement(**given, file=files[posted.sha256], runtime=runtime, time=time)


def _clean(words: str) -> str:
    """Return one line of printable characters, and not too many of them."""
    spaced = " ".join(words.split())
    return "".join(c for c in spaced if c.isprintable())[:_LONGEST].strip() or "unknown"


def read_measurements(path: Path) -> tuple[BrowserMeasurement, ...]:
    """Return what a run keeps, the oldest first; nothing where there is no file.

    Raises MobilesegError with its mistakes where the file is damaged.
    """
    if not path.is_file():
        return ()
    return parse(tuple[BrowserMeasurement, ...], read_json(path), str(path))


def add_measurement(path: Path, one: BrowserMeasurement) -> None:
    """Append to the run's file, whole or not at all."""
    kept = [*read_measurements(path), one][-_MOST:]
    write_json(path, as_dicts(kept))


def as_dicts(measurements: Sequence[BrowserMeasurement]) -> list[dict[str, Any]]:
    """Plain data for JSON."""
    return [asdict(each) for each in measurements]
