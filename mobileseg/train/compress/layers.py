"""Which weights of a module are many, and its batch norm inside them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mobileseg.errors import matching

# A layer's convolutions and the batch norm behind each, as the module of a block names them.
_NORMED = (("conv", "norm"), ("dw", "dw_norm"), ("pw", "norm"), ("deconv", "norm"))
# Of all weights: fewer zeros or equals are chance, or a rewrite's constants.
_LEAST = 0.01
# With more different values than int8 has, a layer compresses no better for them.
_MOST_VALUES = 256
Convolution = nn.Conv2d | nn.ConvTranspose2d


def convolutions(module: nn.Module, keep: Sequence[str]) -> dict[str, Convolution]:
    """Return the convolutions by name, but for those of blocks that a glob of `keep` matches.

    Depthwise layers and their like are not among them: their few weights differ widely from filter
    to filter, and are worth too much.

    Raises MobilesegError for a glob that matches no block.
    """
    found = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.groups == 1
    }
    blocks = list(dict.fromkeys(name.split(".")[0] for name in found))
    kept = matching("keep", "block with such weights", keep, blocks)
    return {name: layer for name, layer in found.items() if name.split(".")[0] not in kept}


def few_values(module: nn.Module) -> bool:
    """Whether a module's weights are sparse or clustered; zeros that a rewrite needs are not."""
    weights = [layer.weight.detach() for layer in convolutions(module, ()).values()]
    return zero_share(module) > _LEAST or clustered(weights)


def zero_share(module: nn.Module) -> float:
    """Return the share of a module's weights, but for depthwise layers, that are zero."""
    weights = [layer.weight for layer in convolutions(module, ()).values()]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    return zeros / max(1, sum(map(torch.numel, weights)))


def clustered(weights: Sequence[Tensor]) -> bool:
    """Whether more than a trifle of the weights is in layers of few different values."""
    few = sum(weight.numel() for weight in weights if _is_clustered(weight))
    return few > _LEAST * sum(map(torch.numel, weights))


def _is_clustered(weight: Tensor) -> bool:
    # Zeros are equal in sparse weights, too.
    some = weight[weight != 0]
    return 0 < len(torch.unique(some)) <= min(_MOST_VALUES, some.numel() // 2)


class FrozenNorm(nn.BatchNorm2d):
    """Batch norm by its statistics, in training too; its state is that of a plain one."""

    def train(self, mode: bool = True) -> FrozenNorm:  # noqa: ARG002
        """Stay in eval mode."""
        return super().train(False)


@torch.no_grad()
def fold_norms(module: nn.Module) -> list[str]:
    """Fold every batch norm into the weights before it, and freeze it as all but a bias.

    The module computes what it did in eval mode. Returns the convolutions whose weights cannot
    hold their norm: those of CReLU blocks, where one filter meets two factors.
    """
    left = []
    for name, parent in module.named_modules():
        for conv_name, norm_name in _NORMED:
            conv, norm = getattr(parent, conv_name, None), getattr(parent, norm_name, None)
            if not isinstance(conv, nn.Module) or not isinstance(norm, nn.BatchNorm2d):
                continue
            norm.__class__ = FrozenNorm
            norm.weight.requires_grad_(False)
            norm.eval()
            if norm.num_features != conv.out_channels:
                left.append(f"{name}.{conv_name}")
                continue
            _fold(conv, norm)
    return left


def _fold(conv: nn.Module, norm: nn.BatchNorm2d) -> None:
    weight, mean, var = conv.weight, norm.running_mean, norm.running_var
    assert isinstance(weight, Tensor) and mean is not None and var is not None
    factor = norm.weight.double() / (var.double() + norm.eps).sqrt()
    axis = 1 if isinstance(conv, nn.ConvTranspose2d) else 0
    shape = [-1 if each == axis else 1 for each in range(weight.ndim)]
    weight.copy_((weight.double() * factor.view(shape)).float())
    norm.bias.copy_((norm.bias.double() - mean.double() * factor).float())
    norm.weight.fill_(1)
    mean.zero_()
    # With this the norm's own factor is 1 to the last bit.
    var.fill_(1 - norm.eps)
