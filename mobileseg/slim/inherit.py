"""The weights of a parent network into its slimmer child; what does not fit stays initialised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks import Block, Role, Sum
from mobileseg.nets.spec import NetSpec
from mobileseg.slim.channels import NONE, Index, Maps, channel_maps

# Of a new branch's usual strength. Not 0: through its ReLU no gradient would ever come back.
QUIET = 0.1
_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Inherited:
    """The child's state. `share` of its trainable parameters came from the parent (0 to 1).

    `fresh` names the blocks with weights of which none did.
    """

    state: dict[str, Tensor]
    share: float
    fresh: tuple[str, ...]


def inherit(
    parent_spec: NetSpec,
    parent_state: Mapping[str, Tensor],
    child_spec: NetSpec,
    child_state: Mapping[str, Tensor],
    scores: Mapping[str, NDArray[np.float64]] | None = None,
) -> Inherited:
    """Return the freshly initialised child state with everything of the parent's that fits.

    A block inherits from the parent's block of its name, kind and kernel: of its filters those of
    largest L1 norm, or of largest `scores` (per block one for each filter), of its inputs those
    that were kept. See `channels` for how they are matched.
    A separable block whose depthwise filters read other groups of channels than before is fresh.
    """
    _check(parent_spec, parent_state, "parent")
    _check(child_spec, child_state, "child")
    maps = channel_maps(parent_spec, parent_state, child_spec, scores)
    state = {name: tensor.detach().clone() for name, tensor in child_state.items()}
    kept, fresh, live = 0, [], child_spec.live()
    for block in child_spec.blocks:
        if not block.axes():
            continue
        count = 0
        if block.name in maps and _same_make(parent_spec[block.name], block):
            count = _copy(block, maps[block.name], parent_state, state)
        if not count:
            fresh.append(block.name)
        kept += count if block.name in live else 0
    _quieten(child_spec, fresh, state)
    return Inherited(state, kept / max(child_spec.params, 1), tuple(fresh))


def _quieten(spec: NetSpec, fresh: list[str], state: dict[str, Tensor]) -> None:
    """Let new branches that are added to inherited ones start small: near the parent's function."""
    for block in spec.blocks:
        new = [name for name in block.inputs if name in fresh]
        if isinstance(block, Sum) and len(new) < len(block.inputs):
            for name in new:
                gamma = state.get(f"{name}.norm.weight")
                if gamma is not None:
                    gamma *= QUIET


def _check(spec: NetSpec, state: Mapping[str, Tensor], whose: str) -> None:
    for block in spec.blocks:
        for tensor in block.axes():
            # A group norm keeps no statistics.
            if spec.norm == "group" and tensor.endswith(_STATISTICS):
                continue
            if f"{block.name}.{tensor}" not in state:
                raise MobilesegError(
                    f"{spec.name}: the {whose}'s weights lack {block.name}.{tensor}; "
                    "they belong to another network: take the file made with this spec"
                )


def _same_make(old: Block, new: Block) -> bool:
    return type(old) is type(new) and getattr(old, "kernel", 1) == getattr(new, "kernel", 1)


def _copy(block: Block, maps: Maps, parent: Mapping[str, Tensor], state: dict[str, Tensor]) -> int:
    """Copy what maps into the child's state; return the number of trainable parameters."""
    # Statistics and scales belong to the weights: with none of those, they are of no use.
    if (maps.into == NONE).all() or (maps.hidden == NONE).all():
        return 0
    count = 0
    for tensor, axes in block.axes().items():
        name = f"{block.name}.{tensor}"
        if name not in parent or name not in state:
            continue
        copied = _copy_tensor(parent[name], state[name], axes, maps)
        if not tensor.endswith(_STATISTICS):
            count += copied
    for name in [n for n in state if n.startswith(f"{block.name}.")]:
        if name.endswith("num_batches_tracked") and name in parent:
            state[name] = parent[name].detach().clone()
    return count


def _copy_tensor(old: Tensor, new: Tensor, axes: tuple[Role, ...], maps: Maps) -> int:
    """Copy the mapped part of one tensor, in place; return its size. On meta there is only size."""
    source: list[Index] = []
    target: list[Index] = []
    for axis, role in enumerate(axes):
        whole = np.arange(new.shape[axis])
        index = maps.role(role) if role else whole
        target.append(whole[index != NONE])
        source.append(index[index != NONE])
    copied = prod(len(index) for index in target)
    if new.is_meta:
        return copied
    picked = old.detach().to(new.dtype)
    for axis, index in enumerate(source):
        picked = picked.index_select(axis, torch.from_numpy(index))
    new[tuple(torch.from_numpy(index) for index in np.ix_(*target))] = picked
    return copied
