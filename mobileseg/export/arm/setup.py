"""The emulator's folder: found, or made from Debian's packages and PyPI's wheels.

Nothing outside the folder is touched: apt keeps a state of its own there, and packages are
unpacked, not installed.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from mobileseg.errors import MobilesegError
from mobileseg.export.arm.emulator import CLEAN, CORES, Core, Emulator
from mobileseg.export.arm.packages import (
    ARM,
    HOST,
    KEYRING,
    MIRROR,
    PLUGIN,
    PYTHON,
    RELEASE,
    WHEELS,
)
from mobileseg.files import user_cache

Say = Callable[[str], None]

# Fetching is bounded: a mirror that stalls is an error, not a wait for ever.
_PATIENCE_S = 900
_WHERE = "--arm"


def find_emulator() -> Emulator:
    """Return the emulator. Raises MobilesegError with what to do where it is not set up."""
    folder = _folder()
    if folder.is_dir():
        return Emulator(folder)
    if lacking := _lacking():
        raise MobilesegError(f"{_WHERE}: cannot be set up here: {'; '.join(lacking)}")
    raise MobilesegError(
        f"{_WHERE}: the emulator is not set up; add --setup: it fetches {len(HOST) + len(ARM)} "
        f"packages of Debian {RELEASE} and {len(_wheels())} of PyPI's wheels (100 MB) and unpacks "
        f"them to {folder} (250 MB); nothing else on this machine changes"
    )


def set_up(say: Say = lambda _: None) -> Emulator:
    """Return the emulator; fetch and unpack it where it is not there yet.

    Raises MobilesegError with all that is missing on this machine, or with what failed.
    """
    folder = _folder()
    if folder.is_dir():
        return Emulator(folder)
    if lacking := _lacking():
        raise MobilesegError(f"{_WHERE}: cannot be set up here: {'; '.join(lacking)}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".arm-", dir=folder.parent) as scratch:
            made = Emulator(Path(scratch) / "made")
            made.folder.mkdir()
            _fill(made, Path(scratch), say)
            # Another process may have been faster; either is whole.
            if not folder.is_dir():
                made.folder.rename(folder)
    except OSError as error:
        raise MobilesegError(
            f"{folder.parent}: cannot be written ({error.strerror}); make room, or set "
            "XDG_CACHE_HOME to another folder"
        ) from None
    return Emulator(folder)


def _folder() -> Path:
    """Return the folder of this very set: another set of packages or cores has another name."""
    words = repr((RELEASE, HOST, ARM, [core.cpuinfo() for core in CORES.values()]))
    parts = words.encode() + WHEELS.read_bytes() + PLUGIN.read_bytes()
    return user_cache() / f"arm-{hashlib.sha256(parts).hexdigest()[:12]}"


def _lacking() -> list[str]:
    """Return what this machine lacks, each with its mend."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return [
            f"this is {platform.system()} on {platform.machine()}; it takes Linux on x86_64 (on an "
            "Arm machine itself leave --arm out: the check runs Arm kernels there)"
        ]
    lacking = [
        f"there is no {program}; it takes Debian, Ubuntu or another system with apt"
        for program in ("apt-get", "dpkg-deb")
        if shutil.which(program) is None
    ]
    if not lacking and not KEYRING.is_file():
        lacking.append(
            "Debian's keys are missing; run: sudo apt-get install debian-archive-keyring"
        )
    if find_spec("pip") is None:
        lacking.append(f"this Python has no pip; run: {sys.executable} -m ensurepip")
    return lacking


def _wheels() -> list[str]:
    return [line for line in WHEELS.read_text(encoding="utf-8").splitlines() if "==" in line]


def _fill(made: Emulator, scratch: Path, say: Say) -> None:
    say(f"fetching {len(HOST) + len(ARM)} packages of Debian {RELEASE}")
    _debian(scratch, made.folder)
    say(f"fetching {len(_wheels())} wheels")
    _pypi(scratch / "wheels", made.folder / "wheels")
    _trim(made.folder / "host" / "usr")
    for core in CORES.values():
        _core(made.folder, core)
    say("building the instruction counter and trying all of it")
    tcc = made.folder / "host" / "usr" / "lib" / "x86_64-linux-gnu" / "tcc"
    target = made.folder / "count.so"
    _run([*made.native("tcc"), f"-B{tcc}", "-nostdlib", "-shared", "-o", str(target), str(PLUGIN)])
    for core in CORES.values():
        _run(made.command(core, made.folder / "count.log"), env=CLEAN)


def _debian(scratch: Path, folder: Path) -> None:
    """Fetch by apt with a state of its own, and unpack without installing."""
    for name in ("lists/partial", "archives/partial", "none"):
        (scratch / name).mkdir(parents=True)
    (scratch / "status").touch()
    (scratch / "sources.list").write_text(
        f"deb [signed-by={KEYRING} arch=amd64,arm64] {MIRROR} {RELEASE} main\n", encoding="utf-8"
    )
    (scratch / "apt.conf").write_text(_APT.format(scratch=scratch), encoding="utf-8")
    apt = ["apt-get", "-q", "-c", str(scratch / "apt.conf")]
    _run([*apt, "update"])
    for kind, names in (("amd64", HOST), ("arm64", ARM)):
        place = scratch / kind
        place.mkdir()
        _run([*apt, "download", *(f"{name}:{kind}" for name in names)], place)
        for package in sorted(place.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(folder / _ROOTS[kind])])


_ROOTS = {"amd64": "host", "arm64": "arm"}

# The system's own settings, proxies among them, stay in force; its hooks and sources do not.
_APT = """
Dir::State "{scratch}";
Dir::State::Lists "{scratch}/lists";
Dir::State::status "{scratch}/status";
Dir::Cache "{scratch}";
Dir::Etc::SourceList "{scratch}/sources.list";
Dir::Etc::SourceParts "{scratch}/none";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "{scratch}/none";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; "arm64"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "60";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


def _pypi(scratch: Path, folder: Path) -> None:
    platforms = [f"--platform=manylinux{tag}_aarch64" for tag in ("2014", "_2_27", "_2_28")]
    fixed = ["--no-deps", "--require-hashes", "--only-binary=:all:", f"--python-version={PYTHON}"]
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    _run([*command, *fixed, *platforms, "-r", str(WHEELS), "-d", str(scratch)])
    for wheel in sorted(scratch.glob("*.whl")):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)


def _trim(usr: Path) -> None:
    """Leave out what is never used: emulators of other processors, and manuals."""
    for program in (usr / "bin").glob("qemu-*"):
        if program.name != "qemu-aarch64":
            program.unlink()
    shutil.rmtree(usr / "share")


def _core(folder: Path, core: Core) -> None:
    """Make the root that the core sees: the Arm system, with a /proc/cpuinfo of its own."""
    root = folder / core.name
    (root / "proc").mkdir(parents=True)
    (root / "proc" / "cpuinfo").write_text(core.cpuinfo(), encoding="utf-8")
    for part in ("lib", "usr"):
        (root / part).symlink_to(Path("..") / "arm" / part)


def _run(
    command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    """Run a step. Raises MobilesegError with its last words where it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"no end after {_PATIENCE_S} s"
    except OSError as error:
        said = str(error.strerror)
    else:
        if not done.returncode:
            return
        # apt tells the cause first and ends with a general remark.
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        first = [line for line in lines if line.startswith("E:")]
        said = [*first, *lines[-1:], f"it ended with {done.returncode}"][0]
    raise MobilesegError(
        f"{_WHERE}: {Path(command[0]).name} failed: {said}; is the network up? Try again"
    )
