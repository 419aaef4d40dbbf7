"""What a recipe may say about int8. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

from annotated_types import Gt, Le

from mobileseg.validate import Table

# In the order in which they are applied.
Repair: TypeAlias = Literal["relu6", "equalise", "round", "bias"]
# The steps of activations, beside int8 weights.
Activations: TypeAlias = Literal["int8", "int16"]
RangeBy: TypeAlias = Literal["mean", "minmax", "moving", "percentile", "mse", "kl"]


@dataclass(frozen=True)
class QuantizeConfig(Table):
    """Post-training quantization. `images`: how many of the training split calibrate it.

    ranges: how an activation's range comes from what calibration saw: mean over images of each
    image's extremes; minmax of all; moving average; all but a ten-thousandth at either end; least
    mse; least divergence (kl).
    repair: what is done against the loss.
    - relu6: ReLU6 becomes ReLU where no channel came to 6;
    - equalise: channels are scaled to like ranges, across layers;
    - round: the weights of the `round_layers` worst layers learn whether to be rounded up or down;
    - bias: each bias takes back what rounding has shifted.
    Of clustered weights equalise and round would make many values: they are left out.
    auto: ranges and repairs that keep most pixels, of all that are tried on training pictures.
    keep_float: layers (globs) that stay in float; auto: the fewest that lose at most max_drop.
    """

    # Ranges settle within a few dozen pictures; more only cost time.
    images: Annotated[int, Gt(0), Le(100_000)] = 64
    # Points of class-mean mIoU that int8 may lose on val.
    max_drop: Annotated[float, Gt(-100), Le(100)] = 0.5
    ranges: RangeBy = "mean"
    repair: Literal["auto"] | tuple[Repair, ...] = ()
    round_layers: Annotated[int, Gt(0), Le(1000)] = 8
    keep_float: Literal["auto"] | tuple[str, ...] = ()
    activations: ClassVar[Activations] = "int8"


@dataclass(frozen=True)
class FineConfig(QuantizeConfig):
    """The same with activations of int16 (16x8), of a single file: a recipe's are int8 throughout,
    and so is all that is priced and trained.
    """

    activations: ClassVar[Activations] = "int16"


CONFIGS: dict[Activations, type[QuantizeConfig]] = {"int8": QuantizeConfig, "int16": FineConfig}
