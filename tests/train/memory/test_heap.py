"""What a step frees is there for the next one."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
import torch

from mobileseg.train.memory.heap import kept_heap

# Above what glibc's threshold for maps grows to by itself (32 MB), so that no history of the
# process and no number of threads changes what is counted.
STEP = 48 * 2**20
# Above every hole that the steps leave.
LARGE = 2**30


def faults() -> int:
    """Return how many pages the last of equal steps touches for the first time."""
    before = 0
    for _ in range(24):  # the ends of aligned blocks fill glibc's cache of seven before they join
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(STEP // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def held() -> int:
    """Return how many bytes of a freed tensor the process still has."""

    def size() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    before = size()
    torch.empty(LARGE // 4)
    return size() - before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's switch")
def test_pages_are_touched_once() -> None:
    plain = faults()
    assert plain > 1000
    with kept_heap():
        assert faults() < 0.2 * plain
        assert held() > 0.5 * LARGE
    assert held() < 0.01 * LARGE  # switched back
