"""The device that a person names: a shipped profile, or a file of one."""

from __future__ import annotations

from pathlib import Path

from mobileseg.errors import MobilesegError, unknown
from mobileseg.files import shipped
from mobileseg.latency.profile import DeviceProfile, load_profile, profiles


def devices() -> dict[str, Path]:
    """Return the shipped device profiles by name."""
    return profiles(shipped("assets", "devices"))


def device(name: str) -> DeviceProfile:
    """Return a profile by its name or path. Raises MobilesegError with the names there are."""
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return load_profile(path)
    known = devices()
    if name not in known and any(word in name.lower() for word in _NEURAL):
        raise MobilesegError(
            f"--device {name!r}: the time on a neural processor cannot be told from the network: "
            "its compiler fuses, splits and refuses operators by rules of its own. Measure it on "
            f"the phone; CPU and GPU devices are: {', '.join(known)}"
        )
    if name not in known:
        raise unknown("--device", "device", name, known)
    return load_profile(known[name])


_NEURAL = ("npu", "dsp", "hexagon", "edgetpu", "nnapi", "ane")
