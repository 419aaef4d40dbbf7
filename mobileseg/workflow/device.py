"""The devices that come with mobileseg: by name, by number of threads, or a file of one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError, unknown
from mobileseg.files import shipped, write_atomic
from mobileseg.latency.hardware import transferred
from mobileseg.latency.profile import DeviceProfile, load_profile, precisions, profiles
from mobileseg.latency.toml import profile_toml


def devices() -> dict[str, Path]:
    """Return the shipped device profiles by name."""
    return profiles(shipped("assets", "devices"))


def device(name: str, threads: int | None = None) -> DeviceProfile:
    """Return a profile by its name or path; threads: the one of that device with so many.

    Raises MobilesegError with the names, or the numbers of threads, that there are.
    """
    path = Path(name)
    if path.suffix == ".toml":
        return _threaded([path], name, threads)
    known = devices()
    if name not in known and any(word in name.lower() for word in _NEURAL):
        raise MobilesegError(
            f"--device {name!r}: the time on a neural processor cannot be told from the network: "
            "its compiler fuses, splits and refuses operators by rules of its own. Measure it on "
            f"the phone; CPU and GPU devices are: {', '.join(known)}"
        )
    if name not in known:
        raise _unknown(name, known)
    alike = [known[other] for other in known if _alone(other) == _alone(name)]
    return _threaded(alike if threads else [known[name]], name, threads)


def _unknown(name: str, known: Mapping[str, Path]) -> MobilesegError:
    """A name that is no profile's may be a chip's: then its phones are the answer."""
    found = [load_profile(path) for path in known.values()]
    phones = [each.name for each in found if _chip(each.soc) == _chip(name)]
    if not phones:
        return unknown("--device", "device", name, known)
    return MobilesegError(
        f"--device {name!r}: is a chip, not a profile; with that chip there are: "
        f"{', '.join(phones)}"
    )


def _chip(name: str) -> str:
    """A chip's name as people write it: Snapdragon 855, snapdragon855, SD855."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("snapdragon", "sd").replace("google", "")


def _alone(name: str) -> str:
    """A profile's name without the number of threads: those of one device have that in common."""
    return re.sub(r"_\d+threads?$", "", name)


def _threaded(paths: Sequence[Path], name: str, threads: int | None) -> DeviceProfile:
    """Return the profile with that many threads; the first one if any number will do."""
    found = [load_profile(path) for path in paths]
    fitting = [each for each in found if threads in (None, each.threads)]
    if not fitting:
        counts = ", ".join(f"{each.threads} ({each.name})" for each in found)
        raise MobilesegError(
            f"--threads {threads}: {name} has profiles for this many only: {counts}; leave "
            f"--threads out, or calibrate the machine: mobileseg latency calibrate --help"
        )
    return fitting[0]


def transfer_device(base: str, chip: str, out: Path) -> None:
    """Write the profile of a chip that nobody measured, by a measured device of the same core."""
    facts, measured = shipped("assets", "latency"), device(base)
    if measured.float32.basis == "transferred":
        known = [load_profile(path) for path in devices().values()]
        names = ", ".join(each.name for each in known if each.float32.basis == "fitted")
        raise MobilesegError(
            f"devices transfer: {base} was itself transferred, and its errors would add up unseen; "
            f"start from one that was measured: {names}"
        )
    profile = transferred(measured, facts, chip, out.stem, f"{chip} (not measured)")
    command = f"mobileseg devices transfer {base} {json.dumps(chip)}"
    write_atomic(out, profile_toml(profile, command).encode())


def device_facts() -> list[dict[str, Any]]:
    """Return what every shipped profile says of itself, and its cross-validated error."""
    rows = []
    for path in devices().values():
        profile = load_profile(path)
        row: dict[str, Any] = {
            "name": profile.name,
            "title": profile.title,
            "soc": profile.soc,
            "core": profile.core,
            "threads": profile.threads,
            "runtime": profile.runtime,
            "year": profile.year,
        }
        row |= dict.fromkeys(("float32", "float16", "int8"))
        for precision, table in precisions(profile):
            row[precision] = {
                "basis": table.basis,
                "median_error_percent": table.error.median_percent,
                "spearman": table.error.spearman,
                "check": table.error.check,
                "band_factor": table.error.factor,
            }
        rows.append(row)
    return rows


_NEURAL = ("npu", "dsp", "hexagon", "edgetpu", "nnapi", "ane")
