"""The devices that a training may run on."""

from __future__ import annotations

import torch

from mobileseg.errors import MobilesegError


def require_device(wanted: torch.device | str) -> torch.device:
    """Return the device. Raises MobilesegError that names those there are."""
    there = ["cpu"]
    if torch.cuda.is_available():
        there += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there.append("mps")
    if str(wanted) not in there:
        raise MobilesegError(f"device {str(wanted)!r}: is not here; there are: {', '.join(there)}")
    return torch.device(wanted)
