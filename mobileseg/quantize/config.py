"""What a recipe may say about int8. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Le

from mobileseg.validate import Table


@dataclass(frozen=True)
class QuantizeConfig(Table):
    """Post-training quantization. `images`: how many of the training split calibrate it."""

    # Ranges settle within a few dozen pictures; more only cost time.
    images: Annotated[int, Gt(0), Le(100_000)] = 64
    # Points of class-mean mIoU that int8 may lose on val.
    max_drop: Annotated[float, Gt(-100), Le(100)] = 0.5
