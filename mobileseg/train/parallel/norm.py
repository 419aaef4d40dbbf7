"""Batch norm over the pictures of all processes, on any device that torch.distributed serves.

torch's own SyncBatchNorm is for CUDA alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.train.memory.lean import LeanNorm
from mobileseg.train.parallel.ranks import Ranks


def make_synced(module: nn.Module, ranks: Ranks) -> int:
    """Turn the norms of a module into those over all processes; return how many.

    Names and shapes of parameters and buffers stay. Raises MobilesegError for other batch norms
    than BatchNorm2d: what they would learn of a share of the pictures is not the whole's.
    """
    norms = {name: part for name, part in module.named_modules() if isinstance(part, _BATCH_NORMS)}
    for name, norm in norms.items():
        if type(norm) not in _SYNCED or not norm.affine:
            raise MobilesegError(
                f"devices: layer {name} is a {type(norm).__name__}, which is not synchronised; "
                "train on one device"
            )
        norm.__class__ = _SYNCED[type(norm)]  # type: ignore[assignment]
        # Not as a submodule: a plain norm has none.
        object.__setattr__(norm, "ranks", ranks)
    return len(norms)


class SyncNorm(nn.BatchNorm2d):
    """A batch norm that sees all processes' pictures in training; its state is a plain norm's."""

    ranks: Ranks

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised x, [N, C, H, W]; N may differ between the processes."""
        if not self.training:
            return super().forward(x)
        given: Tensor = _Norm.apply(x, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return given


class SyncLeanNorm(LeanNorm):
    """The same for a norm that is one function with the activation behind it."""

    ranks: Ranks

    def normed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the normalised x, and what `gradients` wants to know."""
        return _forward(x, self.weight, self.bias, self)

    def gradients(
        self, passed: Tensor, x: Tensor, mean: Tensor, scale: Tensor, count: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, weight and bias."""
        assert count is not None
        return _backward(passed, x, self.weight, mean, scale, count, self)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: SyncNorm) -> Tensor:
        plain, mean, scale, count = _forward(x, weight, bias, norm)
        ctx.save_for_backward(x, weight, mean, scale, count)
        ctx.norm = norm
        return plain

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, count = ctx.saved_tensors
        return *_backward(gradient, x, weight, mean, scale, count, ctx.norm), None


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor, norm: SyncNorm | SyncLeanNorm
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the normalised x, mean [C], 1 / deviation [C] and the values per channel [1].

    Each process's mean and sum of squares about it are joined. Source: Chan et al., Updating
    Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979, equation 2.1.
    """
    channels = x.shape[1]
    exact = torch.promote_types(x.dtype, torch.float32)
    mine, spread = torch.batch_norm_update_stats(x.to(exact), None, None, 0.0)
    own = x.new_tensor([x.numel() // channels], dtype=torch.float64)
    told = torch.cat([own, mine.double(), spread.double() * own])
    parts = torch.stack(norm.ranks.gathered(told))
    counts, means, squares = parts[:, :1], parts[:, 1 : channels + 1], parts[:, channels + 1 :]
    count = counts.sum(0)
    if float(count) == 1:
        raise ValueError("Expected more than 1 value per channel when training")
    mean = (counts * means).sum(0) / count
    squares = squares.sum(0) + (counts * (means - mean) ** 2).sum(0)
    _follow(norm, mean, squares / (count - 1))
    mean, found = mean.to(exact), (squares / count).to(exact)
    plain = F.batch_norm(x, mean, found, weight, bias, False, 0.0, norm.eps)
    return plain, mean, (found + norm.eps).rsqrt(), count


@torch.no_grad()
def _follow(norm: SyncNorm | SyncLeanNorm, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics; `variance` is the unbiased one."""
    if not norm.track_running_stats:
        return
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


def _backward(
    passed: Tensor,
    x: Tensor,
    weight: Tensor,
    mean: Tensor,
    scale: Tensor,
    count: Tensor,
    norm: SyncNorm | SyncLeanNorm,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, of this process's share, and of weight and bias, over its share.

    As if the statistics were constants, less what moves with them: the means over all processes of
    the gradient, and of the gradient times the normalised x.
    """
    to_x, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
        passed, x, weight, mean, scale**-2 - norm.eps, None, None, False, norm.eps, [True] * 3
    )
    told = torch.cat([to_bias, to_weight]).to(mean.dtype)
    both = torch.stack(norm.ranks.gathered(told)).sum(0) / count
    of_gradient, of_product = both.to(mean.dtype).chunk(2)
    slope = weight * scale**2 * of_product
    level = weight * scale * of_gradient - slope * mean
    shape = (1, -1, 1, 1)
    moved = torch.addcmul(level.view(shape), x, slope.view(shape))
    return to_x - moved.to(to_x.dtype), to_weight, to_bias


_BATCH_NORMS = nn.modules.batchnorm._BatchNorm
_SYNCED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: SyncNorm,
    LeanNorm: SyncLeanNorm,
}
