"""What is cheap to compute is computed again on the way back instead of kept.

Behind a convolution autograd keeps what the norm reads, what the activation reads or gives, and
what the next layer reads. All follow from the first and a few numbers per channel: only those stay.
So do a depthwise convolution, padding, joining and resizing follow from what they read.
Source of the idea: Rota Bulo et al., In-Place Activated BatchNorm, 2018 (which keeps the output
instead and inverts it, for activations that can be).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mobileseg.train.precision import precision_now

Keep: TypeAlias = Callable[[Tensor], None]
"""Called with every tensor that autograd really keeps."""

_PAIRS = (("norm", "act"), ("dw_norm", "dw_act"))


@dataclass(frozen=True)
class _Again:
    """How to compute a tensor again, and what is held for that."""

    compute: Callable[[], Tensor]
    roots: tuple[Tensor, ...]


class _Known:
    """The tensors that can be computed again, by the storage they lie in, while they live."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[weakref.ref[Tensor], _Again]] = {}

    def add(self, tensor: Tensor, again: _Again) -> None:
        where = place(tensor)

        def forget(gone: weakref.ref[Tensor]) -> None:
            if where in self._of and self._of[where][0] is gone:
                del self._of[where]

        self._of[where] = weakref.ref(tensor, forget), again

    def forget_all(self) -> None:
        """Let go of what is held for computing."""
        self._of.clear()

    def find(self, tensor: Tensor) -> _Again | None:
        """Return how to compute it; None for a part of it, or another one at its old place."""
        entry = self._of.get(place(tensor))
        found = entry[0]() if entry else None
        if entry is None or found is None:
            return None
        same = found.shape == tensor.shape and found.stride() == tensor.stride()
        return entry[1] if same else None

    def again(self, tensor: Tensor) -> _Again:
        """Return how to compute it, or to fetch it where it has to be kept."""
        kept = tensor.detach()
        return self.find(tensor) or _Again(lambda: kept, (kept,))


def place(tensor: Tensor) -> int:
    """Return the number of the storage that a tensor lies in, on the meta device too."""
    return int(tensor.untyped_storage()._cdata)


# What the forward pass that is running can compute again: `_NormAct` has no other way to know.
_running: list[_Known] = []


@contextmanager
def lean_forward(keep: Keep | None = None) -> Iterator[None]:
    """Let autograd keep only what nothing else leads to. See `make_lean` for norms.

    The forward pass belongs inside, the backward pass need not.
    """
    known = _Known()

    def pack(tensor: Tensor) -> Tensor | _Again:
        again = known.find(tensor)
        for root in (tensor,) if again is None else again.roots:
            if keep is not None:
                keep(root)
        return tensor if again is None else again

    def unpack(kept: Tensor | _Again) -> Tensor:
        return kept if isinstance(kept, Tensor) else kept.compute()

    _running.append(known)
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack), _Watch(known):
            yield
    finally:
        _running.remove(known)
        # Autograd holds `pack`, which holds this, until the last of the way back.
        known.forget_all()


class _Watch(TorchFunctionMode):
    """Notes how the outputs of cheap functions follow from what they read."""

    def __init__(self, known: _Known) -> None:
        super().__init__()
        self._known = known

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = func(*args, **(kwargs or {}))
        # Without gradients nothing is kept, so nothing need be known.
        wanted = torch.is_grad_enabled() and func in _CHEAP
        if wanted and (func not in _CONVS or _depthwise(args)):
            self._known.add(given, self._call(func, args, kwargs or {}))
        return given

    def _call(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> _Again:
        sources = [self._source(arg) for arg in args]
        precision = precision_now()

        @torch.no_grad()
        def compute() -> Tensor:
            with precision():
                result: Tensor = func(*(source() for source, _ in sources), **kwargs)
            return result

        return _Again(compute, tuple(root for _, roots in sources for root in roots))

    def _source(self, arg: Any) -> tuple[Callable[[], Any], tuple[Tensor, ...]]:
        if isinstance(arg, Tensor):
            again = self._known.again(arg)
            return again.compute, again.roots
        if isinstance(arg, list | tuple) and arg and isinstance(arg[0], Tensor):
            parts = [self._known.again(part) for part in arg]
            roots = tuple(root for part in parts for root in part.roots)
            return (lambda: [part.compute() for part in parts]), roots
        return (lambda: arg), ()


_CONVS = {torch.conv2d, F.conv2d}
# Not ReLU alone: it keeps what it gives, and then there is nothing to compute again.
_CHEAP = {*_CONVS, F.pad, torch.cat, F.interpolate, F.relu6, F.hardswish}


def _depthwise(args: Sequence[Any]) -> bool:
    """Whether a convolution reads one channel per filter: others cost too much to repeat."""
    weight = args[1]
    return isinstance(weight, Tensor) and weight.shape[1] == 1 and args[0].shape[1] > 1


class LeanNorm(nn.BatchNorm2d):
    """Batch norm and the activation behind it as one function; its state is a plain norm's."""

    activate: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Return what norm and activation give."""
        if not self.training:
            out: Tensor = self.activate(super().forward(x))
            return out
        known = _running[-1] if _running and torch.is_grad_enabled() else None
        given: Tensor = _NormAct.apply(x, self.weight, self.bias, self, known)  # type: ignore[no-untyped-call]
        return given

    def normed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return the normalised x, and what `gradients` wants to know: mean, 1 / deviation, count.

        The count is for norms over more pictures than these.
        """
        assert self.momentum is not None
        running: tuple[Tensor | None, Tensor | None] = None, None
        if self.track_running_stats:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            running = self.running_mean, self.running_var
        plain, mean, scale = torch.native_batch_norm(
            x, self.weight, self.bias, *running, True, self.momentum, self.eps
        )
        return plain, mean, scale, None

    def gradients(
        self, passed: Tensor, x: Tensor, mean: Tensor, scale: Tensor, _count: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of x, weight and bias."""
        to_x, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            passed, x, self.weight, None, None, mean, scale, True, self.eps, [True, True, True]
        )
        return to_x, to_weight, to_bias


class _NormAct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: LeanNorm, known: _Known | None
    ) -> Tensor:
        plain, mean, scale, count = norm.normed(x)
        given: Tensor = norm.activate(plain)
        # An activation that is none gives what it gets: a tensor of its own is wanted.
        given = given.view_as(given) if given is plain else given
        ctx.save_for_backward(x, weight, bias, mean, scale, count)
        ctx.norm = norm
        if known is not None:
            activate = norm.activate
            before = known.again(x)
            known.add(
                given,
                _Again(
                    lambda: activate(_normed(before.compute(), weight, bias, mean, scale)),
                    before.roots,
                ),
            )
        return given

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        x, weight, bias, mean, scale, count = ctx.saved_tensors
        norm = ctx.norm
        with torch.enable_grad():
            plain = _normed(x, weight, bias, mean, scale).detach().requires_grad_()
            (passed,) = torch.autograd.grad(norm.activate(plain), plain, gradient)
        return *norm.gradients(passed, x, mean, scale, count), None, None


@torch.no_grad()
def _normed(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    shape = (1, -1, 1, 1)
    factor = (weight * scale).view(shape)
    # Where layers compute in less than float32, so do norms give.
    shift = (bias - mean * weight * scale).view(shape)
    return torch.addcmul(shift, x.detach(), factor).to(x.dtype)


def make_lean(module: nn.Module) -> int:
    """Turn the norms of a module and the activations behind them into `LeanNorm`; return how many.

    Names and shapes of parameters and buffers stay, and so does what is computed.
    """
    changed = 0
    for parent in list(module.modules()):
        for norm_name, act_name in _PAIRS:
            norm, act = getattr(parent, norm_name, None), getattr(parent, act_name, None)
            if type(norm) is not nn.BatchNorm2d or not isinstance(act, nn.Module):
                continue
            norm.__class__ = LeanNorm
            # Not as a submodule: a plain norm has none.
            object.__setattr__(norm, "activate", act)
            setattr(parent, act_name, nn.Identity())
            changed += 1
    return changed
