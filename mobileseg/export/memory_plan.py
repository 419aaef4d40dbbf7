"""A plan of the arena as a TFLite file carries it, for runtimes that allocate nothing themselves.

TFLite for microcontrollers and Arm's compilers read it; LiteRT on phones plans for itself.
Source: tflite-micro, docs/memory_management.md, "Offline planned tensor allocations".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PLAN = "OfflineMemoryAllocation"
# Readers that check it want 1.
_VERSION = 1
_SUBGRAPH = 0
# The runtime finds a place: for constants there is none to find.
_ITS_CHOICE = -1


def memory_plan(names: Sequence[str], offsets: Mapping[str, int]) -> bytes:
    """Return the metadata for a file whose tensors have these names, in the file's order.

    Its words are int32: version, subgraph, how many tensors, each one's first byte in the arena.
    """
    places = [offsets.get(name, _ITS_CHOICE) for name in names]
    return np.array([_VERSION, _SUBGRAPH, len(places), *places], "<i4").tobytes()
