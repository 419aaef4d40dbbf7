"""How much each filter of a trained network is worth, so that filters can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks import Block
from mobileseg.nets.spec import NetSpec
from mobileseg.slim.channels import produces
from mobileseg.slim.prune.config import Importance
from mobileseg.slim.prune.groups import Scores

State: TypeAlias = Mapping[str, Tensor]
_Measure: TypeAlias = Callable[[Tensor, tuple[int, ...]], Tensor]


def importance(spec: NetSpec, state: State, kind: Importance) -> Scores:
    """Return the importance of every filter of every block that makes channels.

    state: the trained weights; for "taylor" instead, per parameter, the mean over batches of the
    squared product of weight and gradient (see `train.taylor`). l1 and l2 are the norms of the
    filter's weights, norm the size of its batch norm's factor (or of its weights' L1 norm, where
    a layer has none): divided within a block by their root mean square, for layers of other sizes
    have other norms. taylor, the squared change of the loss to first order, needs no such thing.
    Source: Li et al., Pruning Filters for Efficient ConvNets, 2017 (l1); Liu et al., Network
    Slimming, 2017 (norm); Molchanov et al., Importance Estimation for Neural Network Pruning,
    2019, equation 8 (taylor).
    """
    found: dict[str, NDArray[np.float64]] = {}
    for block in spec.concrete():
        if not produces(block):
            continue
        worth = _of_block(block, state, kind)
        scale = 1.0 if kind == "taylor" else float(np.sqrt(np.mean(worth**2)))
        found[block.name] = worth / scale if scale > 0 else worth
    return found


def _of_block(block: Block, state: State, kind: Importance) -> NDArray[np.float64]:
    measure = _MEASURES[kind]
    parts = []
    for name, axes in block.axes().items():
        role = next((r for r in axes if r in {"out", "filters"}), None)
        if role is None or (len(axes) > 1) == (kind == "norm" and _has_norm(block)):
            continue
        if name.split(".")[-1] not in {"weight"}:
            continue
        tensor = state[f"{block.name}.{name}"].detach().double()
        rest = tuple(axis for axis, r in enumerate(axes) if r != role)
        worth = measure(tensor, rest)
        parts.append(worth)
    if not parts:
        raise MobilesegError(f"{block.name}: no rule says what its filters are worth")
    return np.asarray(sum(part.numpy() for part in parts), np.float64)


def _has_norm(block: Block) -> bool:
    return "norm.weight" in block.axes()


def _sum_abs(x: Tensor, rest: tuple[int, ...]) -> Tensor:
    return x.abs().sum(dim=rest) if rest else x.abs()


def _sum(x: Tensor, rest: tuple[int, ...]) -> Tensor:
    return x.sum(dim=rest) if rest else x


_MEASURES: dict[Importance, _Measure] = {
    "l1": _sum_abs,
    "l2": lambda x, rest: torch.linalg.vector_norm(x, dim=rest),
    "norm": _sum_abs,
    "taylor": _sum,
}
