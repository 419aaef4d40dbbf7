"""Optimiser, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.train.config import TrainConfig

_POLY_POWER = 0.9  # Chen et al., DeepLab, 2016, section 4.1


def make_optimizer(
    module: nn.Module, config: TrainConfig, lr_scale: Callable[[str], float] | None = None
) -> torch.optim.Optimizer:
    """Return AdamW or SGD over parameter groups, each with its `scale` of the learning rate.

    Vectors (norms, biases) are not decayed: pulling them to 0 regularises nothing.
    `lr_scale` maps a parameter's name to its factor; absent means 1 for all.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = lr_scale(name) if lr_scale else 1.0
        groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    if not groups:
        raise MobilesegError("train: the network has no parameter to train")
    listed = [
        {"params": params, "scale": scale, "weight_decay": config.weight_decay if decays else 0.0}
        for (scale, decays), params in groups.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(listed, lr=config.lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(listed, lr=config.lr, fused=True)


def slower_inherited(fresh: Collection[str], factor: float) -> Callable[[str], float]:
    """Return `lr_scale` for `make_optimizer`: 1 for the fresh blocks, else the factor."""
    names = set(fresh)
    return lambda name: 1.0 if name.split(".")[0] in names else factor


def lr_factor(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Return the factor on the learning rate at a step counted over all epochs.

    It rises linearly over `warmup_epochs`, at most half of the run, then falls to 0 at the end.
    """
    total = config.epochs * steps_per_epoch
    warm = min(round(config.warmup_epochs * steps_per_epoch), total // 2)
    if step < warm:
        return (step + 1) / warm
    share = (step - warm) / (total - warm)
    if config.schedule == "poly":
        return float((1 - share) ** _POLY_POWER)
    return 0.5 * (1 + math.cos(math.pi * share))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


class Average:
    """A copy of the module whose weights are the exponential moving average of the original's.

    Float buffers are averaged too: averaged weights want the batch-norm statistics that belong
    to them. Integer buffers (counters) are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards `module` after the step with this number, counted from 0.

        The decay rises as (1 + step) / (10 + step), so a short run does not average its start.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        old, new = state_tensors(self.module), state_tensors(module)
        moving = [name for name, tensor in old.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([old[n] for n in moving], [new[n] for n in moving], 1 - decay)
        for name in old.keys() - set(moving):
            old[name].copy_(new[name])

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Overwrite the weights and buffers of `module`."""
        own = state_tensors(self.module)
        for name, tensor in state_tensors(module).items():
            tensor.copy_(own[name])


def state_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, each once even when shared."""
    tensors: dict[str, Tensor] = {name: p.detach() for name, p in module.named_parameters()}
    return tensors | dict(module.named_buffers())
