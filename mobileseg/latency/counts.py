"""Kernels that gain otherwise from int8 than convolutions do, by instructions counted on Arm.

What a runtime does with a lone relu, a hard-swish or a softmax at int8 is other code than in
floats, and none of it is a product of matrices: a device's gain from int8 in its convolutions says
nothing of them, and no public table times them. `assets/latency/arm_counts.toml` holds the
instructions that LiteRT's kernels run per element on a 64-bit Arm core.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mobileseg.latency.error import short
from mobileseg.latency.profile import KERNELS, DeviceProfile, Kernel, Precision

# Timed on an x86-64 machine (assets/devices/host.toml) 14 of 17 such kernels lie within this factor
# of what the counts foretell; beyond it lie mean pooling (3.6), quantize (4.5) and hard-swish (28),
# which only Arm has in vectors.
COUNTED_FACTOR = 2.5
_NOTE = "instructions counted on Arm (assets/latency/arm_counts.toml), as fast as pointwise's run"


def counted(
    counts: DeviceProfile, precision: Precision, float32: Mapping[str, Kernel]
) -> dict[str, Kernel]:
    """Return the kernels that multiply no matrices, as the counts tell them.

    float32: the device's own. Its pointwise rate over the counted one is the instructions a second
    that it reaches in a busy loop, taken for all kernels alike; none gains more on its float32 form
    than the counts do, or than nothing.
    """
    known, table = counts.float32.kernels, counts.coefficients(precision).kernels
    speed = float32["pointwise"].giga_per_s / known["pointwise"].giga_per_s

    def rate(name: str) -> float:
        gain = max(1.0, table[name].giga_per_s / known[name].giga_per_s)
        return min(table[name].giga_per_s * speed, float32[name].giga_per_s * gain)

    return {
        name: replace(
            table[name],
            giga_per_s=short(rate(name)),
            error_factor=COUNTED_FACTOR,
            basis="assumed",
            note=_NOTE,
        )
        for name, unit in KERNELS.items()
        if "MACs" not in unit
    }
