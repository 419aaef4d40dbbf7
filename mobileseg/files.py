"""Files that are whole or not there: read with one clear error, written by renaming."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write the file under a temporary name beside it, then rename: a kill leaves the old one.

    Raises MobilesegError where the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            # On the disk before the name is: a power cut, too, leaves the old file or the new one.
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise MobilesegError(f"{path}: cannot be written ({error.strerror})") from None


def write_json(path: Path, data: object) -> None:
    """Write plain data, indented, keys in their order."""
    write_atomic(path, json.dumps(data, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the file's JSON. Raises MobilesegError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MobilesegError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise MobilesegError(f"{path}: is no readable JSON ({error}); make it again") from None


def shipped(*parts: str) -> Path:
    """Return the path of a shipped file or folder: in a checkout, or inside the installed package.

    parts begin with "recipes" or "assets".
    """
    package = Path(__file__).resolve().parent
    inside = package / "_data"
    return (inside if inside.is_dir() else package.parent).joinpath(*parts)


def user_cache() -> Path:
    """Return the user's folder for what mobileseg has fetched; it may not exist yet."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return cache / "mobileseg"
