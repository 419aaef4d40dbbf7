"""What a recipe may say about int8. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from annotated_types import Gt, Le

from mobileseg.validate import Table

# In the order in which they are applied.
Repair: TypeAlias = Literal["relu6", "equalise", "bias"]


@dataclass(frozen=True)
class QuantizeConfig(Table):
    """Post-training quantization. `images`: how many of the training split calibrate it.

    repair: what is done against the loss.
    - relu6: ReLU6 becomes ReLU where no channel came to 6;
    - equalise: channels are scaled to like ranges, across layers;
    - bias: each bias takes back what rounding has shifted.
    """

    # Ranges settle within a few dozen pictures; more only cost time.
    images: Annotated[int, Gt(0), Le(100_000)] = 64
    # Points of class-mean mIoU that int8 may lose on val.
    max_drop: Annotated[float, Gt(-100), Le(100)] = 0.5
    repair: tuple[Repair, ...] = ()
