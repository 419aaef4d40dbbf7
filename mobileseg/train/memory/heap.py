"""Memory that a step frees is for the next one: on Linux the kernel else takes it back, zeroed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Source: glibc's malloc.h and mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER = -1
_TRIM_AT, _MAP_FROM, _MOST_MAPS = 128 * 2**10, 32 * 2**20, 65536


@contextmanager
def kept_heap() -> Iterator[None]:
    """Let the process keep what it frees until the end, then give it back.

    glibc maps every large tensor anew, and each of its pages is faulted in and zeroed at first
    touch: a sixth of a step on a CPU. Of the results not a bit changes. Holes between what is kept
    make the peak some percent higher. Other C libraries have no such switch: nothing is done.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        # glibc's own values; the second is where it would have got by itself.
        libc.mallopt(_MMAP_MAX, _MOST_MAPS)
        libc.mallopt(_MMAP_THRESHOLD, _MAP_FROM)
        libc.mallopt(_TRIM_THRESHOLD, _TRIM_AT)
        libc.malloc_trim(0)
