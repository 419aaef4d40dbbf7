"""A device profile as TOML text, keys in the order of the dataclasses."""

from __future__ import annotations

import json
from dataclasses import fields

from mobileseg.latency.profile import Coefficients, DeviceProfile, FitError, Kernel, precisions

FROM_TABLES = "from assets/latency/; change the data or the fit, not this"


def profile_toml(profile: DeviceProfile, command: str, origin: str = FROM_TABLES) -> str:
    """Return the text of a profile; `load_profile` reads it back equal."""
    lines = [
        f"# Written by `{command}` {origin}.",
        "# What each key means: mobileseg/latency/profile.py.",
        *_scalars(profile),
    ]
    for name, table in precisions(profile):
        lines += ["", f"[{name}]", *_scalars(table)]
        lines += ["", f"[{name}.error]", *_scalars(table.error)]
        for kernel, values in table.kernels.items():
            lines += ["", f"[{name}.kernels.{kernel}]", *_scalars(values)]
    return "\n".join(lines) + "\n"


def _scalars(table: DeviceProfile | Coefficients | FitError | Kernel) -> list[str]:
    """The keys that are no tables themselves. JSON writes strings, numbers and arrays as TOML."""
    values = {field.name: getattr(table, field.name) for field in fields(table)}
    return [
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
        if isinstance(value, str | int | float | tuple)
    ]
