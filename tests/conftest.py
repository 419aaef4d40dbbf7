"""What all tests share."""

from __future__ import annotations

import os

# Before torch is imported, as the command line does it: waiting threads give their core away.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from hypothesis import settings

# Machines are noisy and first calls import: a deadline per example says nothing.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
