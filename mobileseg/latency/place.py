"""Where files are timed: on this machine, or on a board that the system's ssh client reaches.

Both ways run `board.py` with the same job; only the command that starts it differs.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from mobileseg.errors import MobilesegError

Say = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """How files are timed: visits of at least `ms` and `least` runs, all files in each round."""

    threads: int = 1
    rounds: int = 5
    warmup: int = 3
    ms: int = 60
    least: int = 5
    most: int = 400


@dataclass(frozen=True)
class Place:
    """A machine to run on. name: what a person calls it; command: what starts Python there."""

    name: str
    command: tuple[str, ...]
    ssh: bool = False


HERE = Place("this machine", (sys.executable, "-u", "-c"))


def ssh_place(address: str, python: str = "python3", config: Path | None = None) -> Place:
    """Return the place of `ssh://user@host:port`. Raises MobilesegError for any other form.

    python: the interpreter there. config: a file for ssh's -F. Nothing is asked at a terminal: a
    key or an agent must do.
    """
    try:
        parts = urlsplit(address)
        port, host, user = parts.port, parts.hostname or "", parts.username or ""
    except ValueError:
        raise _no_address(address) from None
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.password
    # urlsplit drops line ends and tabs before it looks.
    odd = any(letter.isspace() for letter in address)
    if odd or parts.scheme != "ssh" or rest or not _HOST.fullmatch(host):
        raise _no_address(address)
    if user and not _USER.fullmatch(user):
        raise _no_address(address)
    if not _PYTHON.fullmatch(python):
        raise MobilesegError(
            f"--board-python {python!r}: is no path of a program; give one such as "
            "venv/bin/python, of letters, digits and ._-/~"
        )
    command = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
    command += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
    command += ["-F", str(config)] if config else []
    command += ["-p", str(port)] if port else []
    command += ["-l", user] if user else []
    return Place(address, (*command, "--", host, python, "-u", "-c"), ssh=True)


# No name may begin with a dash, or the client would take it for an option.
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9._:%-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PYTHON = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9._/~-]*")


def _no_address(address: str) -> MobilesegError:
    return MobilesegError(
        f"--on {address!r}: is no address; give ssh://user@host, ssh://user@host:port or adb"
    )


def run_job(
    place: Place, job: Job, files: Mapping[str, bytes], say: Say, profiler: bool = False
) -> dict[str, Any]:
    """Time files (contents by name) and return the board's answer; see `board.time_files`.

    say: receives the number of visits done, of `job.rounds * len(files)`. profiler: also ask for
    the first file's operators. Raises MobilesegError with what to mend.
    """
    words = {
        "files": list(files),
        "threads": job.threads,
        "rounds": job.rounds,
        "warmup": job.warmup,
        "ms": job.ms,
        "least": job.least,
        "most": job.most,
        "patience": PATIENCE_S,
    }
    sent = dict(files)
    if profiler:
        sent["litert_profile.py"] = _source("litert_profile.py")
    board, packed = _source("board.py"), _packed(sent)
    given = b"%d\n%s%s\n%d\n%s" % (
        len(board),
        board,
        json.dumps(words).encode(),
        len(packed),
        packed,
    )
    with tempfile.TemporaryFile() as complaints:
        done = 0
        for answer in _answers(place, given, complaints):
            if "round" in answer:
                done += 1
                say(done)
            elif "done" in answer:
                return dict(answer["done"])
            else:
                raise _refused(place, answer)
        complaints.seek(0)
        raise _broken(place, complaints.read().decode(errors="replace"))


def _source(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()


def _packed(files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", compresslevel=3) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return target.getvalue()


def _answers(place: Place, given: bytes, complaints: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the lines of JSON that come back. Input stays open: its end tells the board to stop."""
    start = shlex.quote(BOOT) if place.ssh else BOOT
    try:
        process = subprocess.Popen(
            [*place.command, start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
    except FileNotFoundError:
        raise MobilesegError(
            f"{place.name}: there is no program {place.command[0]!r}; install the OpenSSH client"
        ) from None
    assert process.stdin is not None and process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(given)
            process.stdin.flush()
        while line := _line(process):
            # A login script may print something of its own.
            with contextlib.suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict):
                    yield answer
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    """The next line; nothing at the end, or when none came for long."""
    assert process.stdout is not None
    timer = threading.Timer(PATIENCE_S, process.terminate)
    timer.start()
    try:
        return process.stdout.readline()
    finally:
        timer.cancel()


def _refused(place: Place, answer: Mapping[str, Any]) -> MobilesegError:
    if "no_runtime" in answer:
        return MobilesegError(
            f"{place.name}: Python {answer['python']} there has neither ai_edge_litert nor "
            f"tflite_runtime; run there: {answer['no_runtime']} -m pip install ai-edge-litert"
        )
    return MobilesegError(f"{place.name}: the runtime refused the file: {answer.get('error')}")


def _broken(place: Place, complaints: str) -> MobilesegError:
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    for sign, mend in MENDS.items():
        if sign in complaints:
            return MobilesegError(f"{place.name}: {sign.lower()}; {mend}")
    last = lines[-1] if lines else "it ended without a word"
    return MobilesegError(f"{place.name}: the measurement broke off: {last}")


# Reads this program's own source from input and runs it.
BOOT = (
    'import sys; i = sys.stdin.buffer; exec(compile(i.read(int(i.readline())), "board.py", "exec"))'
)
# No network small enough for a board needs this long for one visit.
PATIENCE_S = 180.0

_BY_HAND = "run `ssh` with the same address once by hand"
# What the ssh client or the shell there says -> what to do.
MENDS: dict[str, str] = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "its key is another one than before: if you know "
    "why, forget the old one with `ssh-keygen -R HOST`",
    "Host key verification failed": f"its key is not known here: {_BY_HAND} and accept it",
    "Permission denied": "no key opens it: `ssh-copy-id` yours, or load it with `ssh-add`",
    "Could not resolve hostname": "there is no such name: mend it, or give the number",
    "Connection refused": "no ssh server listens there: start it, or give the right port",
    "Connection timed out": "it does not answer: is it on, and in this network?",
    "No route to host": "it does not answer: is it on, and in this network?",
    "Network is unreachable": "it does not answer: is it on, and in this network?",
    "Too many authentication failures": "name the key for this host in ~/.ssh/config",
    "not found": "Python is not where it was looked for: install python3 there, or give "
    "--board-python",
    "No such file or directory": "Python is not where it was looked for: install python3 there, "
    "or give --board-python",
}
