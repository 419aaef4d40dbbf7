"""LiteRT.js, the browser's runtime: found, or fetched from npm once, on the user's explicit say.

Packages are pinned by version and digest and every file by its own, so that what a page runs is
the same wherever it came from. Nothing outside the cache folder is touched.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mobileseg.errors import MobilesegError
from mobileseg.files import user_cache, write_atomic

Say = Callable[[str], None]

VERSION = "2.5.3"
CORE, UTILS = "@litertjs/core", "@litertjs/wasm-utils"

# The larger package has 11.8 MB; a registry that answers with more is not believed.
_LARGEST_PACKAGE = 32 * 2**20
_PATIENCE_S = 300
_WHERE = "--setup"


@dataclass(frozen=True)
class Package:
    """An npm package; `sha512` is of its archive, in base64, as npm's lock files say it."""

    name: str
    sha512: str

    @property
    def spec(self) -> str:
        """What npm is asked for."""
        return f"{self.name}@{VERSION}"


PACKAGES = (
    Package(
        CORE,
        "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    ),
    Package(
        UTILS,
        "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",
    ),
)

# SHA-256 by name below node_modules: all that a page may load, and all that is ever unpacked.
FILES: Mapping[str, str] = {
    f"{CORE}/dist/index.js": "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3",
    f"{CORE}/wasm/litert_wasm_compat_internal.js": (
        "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5"
    ),
    f"{CORE}/wasm/litert_wasm_compat_internal.wasm": (
        "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c"
    ),
    f"{CORE}/wasm/litert_wasm_internal.js": (
        "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb"
    ),
    f"{CORE}/wasm/litert_wasm_internal.wasm": (
        "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614"
    ),
    f"{CORE}/wasm/litert_wasm_jspi_internal.js": (
        "e685a3ed86f447c1feb8f5414319539c5e94d1cfc0eb49c3c5e6a788a6f5541b"
    ),
    f"{CORE}/wasm/litert_wasm_jspi_internal.wasm": (
        "a103e14db26cdbda9ba1a93633e59f3bf604d082fa7ab0c30ca730838e3faa69"
    ),
    f"{CORE}/wasm/litert_wasm_threaded_internal.js": (
        "92fe7a720c6deedaa1194c011c79a005ea4f6fc98f533b661cf7900760ab4849"
    ),
    f"{CORE}/wasm/litert_wasm_threaded_internal.wasm": (
        "b5e54eca10f043497edf9a02186332707cae260c550d7ea22b2cae55669596cf"
    ),
    f"{UTILS}/dist/index.js": "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2",
}


def find_runtime(given: Path | None = None) -> Mapping[str, bytes]:
    """Return the runtime's files by name, each as its digest says.

    given: a node_modules folder; by default what `set_up` made. Raises MobilesegError where a file
    is missing or another one, with what to do.
    """
    if given is not None:
        mend = f"give a node_modules folder that npm install {CORE}@{VERSION} made"
        return _read(given, mend)
    folder = _folder()
    if not folder.is_dir():
        raise MobilesegError(
            f"demo: LiteRT.js {VERSION} is not here; mobileseg demo --setup fetches it by npm "
            f"(12 MB) and unpacks it to {folder} (39 MB), or name a node_modules folder that has "
            "it with --runtime"
        )
    return _read(folder, "mobileseg demo --setup fetches it anew")


def set_up(say: Say = lambda _: None) -> Path:
    """Return the folder with the runtime; fetch and unpack it where it is not there, or damaged.

    Raises MobilesegError where npm is missing or fails, or where a package is not the pinned one:
    then nothing was unpacked.
    """
    folder = _folder()
    if _whole(folder):
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise MobilesegError(
            f"{_WHERE}: there is no npm; install Node.js (Debian: apt install npm), or run npm "
            f"install {CORE}@{VERSION} on another machine and name its node_modules with --runtime"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".litertjs-", dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            for package in PACKAGES:
                say(f"fetching {package.spec} by npm")
                unpack(fetch(npm, package, Path(scratch)), package, made)
            _read(made, "report it")
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
    except OSError as error:
        raise MobilesegError(
            f"{folder.parent}: cannot be written ({error.strerror}); make room, or set "
            "XDG_CACHE_HOME to another folder"
        ) from None
    return folder


def _folder() -> Path:
    return user_cache() / f"litertjs-{VERSION}"


def _whole(folder: Path) -> bool:
    try:
        return bool(_read(folder, ""))
    except MobilesegError:
        return False


def _read(folder: Path, mend: str) -> dict[str, bytes]:
    found = {}
    for name, digest in FILES.items():
        path = folder / name
        try:
            found[name] = path.read_bytes()
        except OSError as error:
            raise MobilesegError(f"{path}: cannot be read ({error.strerror}); {mend}") from None
        if hashlib.sha256(found[name]).hexdigest() != digest:
            raise MobilesegError(f"{path}: is not the one of LiteRT.js {VERSION}; {mend}")
    return found


def fetch(npm: str, package: Package, scratch: Path) -> bytes:
    """Return the package's archive as npm fetches it, held against its digest.

    npm: the program. scratch: a folder, where no project's own settings of npm lie. Raises
    MobilesegError where npm fails or fetched something else.
    """
    folder = scratch / hashlib.sha256(package.spec.encode()).hexdigest()[:8]
    folder.mkdir()
    command = [npm, "pack", package.spec, "--ignore-scripts", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise MobilesegError(f"{_WHERE}: npm came to no end in {_PATIENCE_S} s") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        raise MobilesegError(
            f"{_WHERE}: npm pack {package.spec} failed: {_complaint(done.stderr)}; is the network "
            "up? Try again"
        )
    if archives[0].stat().st_size > _LARGEST_PACKAGE:
        raise MobilesegError(f"{_WHERE}: {package.spec} has more than {_LARGEST_PACKAGE} bytes")
    data = archives[0].read_bytes()
    found = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != package.sha512:
        raise MobilesegError(
            f"{_WHERE}: what npm fetched as {package.spec} is not the package that mobileseg "
            f"pins: sha512 {found}; nothing was unpacked; ask the one who runs your npm registry"
        )
    return data


def _complaint(said: str) -> str:
    """Return npm's first error; a terminal obeys nothing of it."""
    lines = [line for line in said.splitlines() if "error" in line.lower() or "ERR!" in line]
    words = [*lines, "it said nothing"][0][:200]
    return "".join(c for c in words if c.isprintable())


def unpack(archive: bytes, package: Package, folder: Path) -> None:
    """Write the package's files that FILES names, below `folder`.

    No name of the archive becomes a path: names are looked up, and the table's own are written.
    """
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
        for member in packed:
            name = f"{package.name}/{member.name.removeprefix('package/')}"
            held = packed.extractfile(member) if member.isfile() and name in FILES else None
            if held is not None:
                write_atomic(folder / name, held.read())
