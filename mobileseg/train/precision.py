"""What a training computes in: weights, norms and the loss in float32, layers in less if wished."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def mixed(device: str, precision: str) -> AbstractContextManager[object]:
    """Return the context of a forward pass; it changes nothing for float32."""
    kind = _TYPES.get(precision)
    return nullcontext() if kind is None else torch.autocast(device, kind)


def precision_now() -> Callable[[], AbstractContextManager[object]]:
    """Return what enters the autocast that is on now, for what is computed again later."""
    kinds = [kind for kind in ("cpu", "cuda", "mps") if torch.is_autocast_enabled(kind)]
    if not kinds:
        return nullcontext
    return partial(torch.autocast, kinds[0], torch.get_autocast_dtype(kinds[0]))


def make_scaler(device: str, precision: str) -> torch.amp.GradScaler:
    """Return what scales a float16 loss so that its gradient is neither 0 nor infinite.

    It begins high and is halved with every gradient that does not fit, whose step is left out;
    after 2,000 that fit it is doubled. For others than float16 it does nothing. Source:
    Micikevicius et al., Mixed Precision Training, 2018, section 3.2.
    """
    return torch.amp.GradScaler(device, enabled=precision == "float16")
