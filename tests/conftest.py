"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Machines are noisy and first calls import: a deadline per example says nothing.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
