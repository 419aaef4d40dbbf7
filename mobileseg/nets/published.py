"""A published 8-bit MobileNet run as its own list of operators says: an import is held against it.

.npz of folded convolutions + .ops.json -> every tensor by its number, and the classes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks import Separable, Sum, same_pads
from mobileseg.nets.module import Net
from mobileseg.nets.spec import NetSpec

Arrays = Mapping[str, NDArray[np.float32]]
Ops = Sequence[Mapping[str, Any]]

# Weights are kept as float16: fifty layers of that come to less than a hundredth.
_TOLERANCE = 0.02
_SHOWN = 5


@dataclass(frozen=True)
class Verified:
    """An imported encoder beside the published network on the same pictures.

    error: root mean square of the difference over that of what the encoder gives. ours, published:
    each picture's five likeliest classes by the rest of the published network, empty where the
    file holds no classifier.
    """

    pictures: int
    error: float
    ours: tuple[tuple[int, ...], ...] = ()
    published: tuple[tuple[int, ...], ...] = ()

    @property
    def agreeing(self) -> int:
        """Pictures of which both name the same class first."""
        return sum(a[0] == b[0] for a, b in zip(self.ours, self.published, strict=True))


def verify(net: Net, arrays: Arrays, ops: Ops, x: Tensor, where: str) -> Verified:
    """Return the comparison on images `(N, 3, H, W)`, (pixel - 128) / 128.

    Raises MobilesegError where the encoder computes something else than the published network.
    """
    end = _end(net.spec, ops, where)
    with torch.inference_mode():
        mine = net.eval()(x)
        theirs = _run(arrays, ops, x, where)
        other = theirs[end]
        error = float((mine - other).norm() / other.norm().clamp_min(1e-30))
        if not error <= _TOLERANCE:
            raise MobilesegError(
                f"{where}: the import differs from the published network by {100 * error:.1f} % "
                f"(root mean square); {100 * _TOLERANCE:g} % is allowed: its .ops.json is another "
                "network's"
            )
        last = _classifier(ops)
        if last is None:
            return Verified(len(x), error)
        ours = _run(arrays, ops, x, where, {end: mine})
        return Verified(len(x), error, _top(ours[last]), _top(theirs[last]))


def _end(spec: NetSpec, ops: Ops, where: str) -> int:
    """Return the number of the tensor that the encoder gives."""
    count = sum(2 if isinstance(b, Separable) else bool(b.axes()) for b in spec.blocks)
    convs = [op for op in ops if op.get("op") == "conv"]
    end = _number(convs[count - 1], "out", where)
    if not isinstance(spec.blocks[-1], Sum):
        return end
    sums = (op for op in ops if op.get("op") == "ADD" and end in op["inp"])
    return _number(next(sums, {}), "out", where)


def _number(op: Mapping[str, Any], key: str, where: str) -> int:
    if not isinstance(op.get(key), int):
        raise MobilesegError(f"{where}: an operator of its .ops.json names no {key!r} tensor")
    return int(op[key])


def _classifier(ops: Ops) -> int | None:
    """Return the number of the classes' tensor, None where nothing reads the mean."""
    means = [op["out"] for op in ops if op.get("op") == "AVERAGE_POOL_2D"]
    found = [op["out"] for op in ops if op.get("op") == "conv" and op.get("inp") in means]
    return int(found[0]) if found else None


def _run(
    arrays: Arrays, ops: Ops, x: Tensor, where: str, known: Mapping[int, Tensor] | None = None
) -> dict[int, Tensor]:
    """Return every tensor by its number; those that are known are not computed."""
    convs = [op for op in ops if op.get("op") == "conv"]
    values = {_number(convs[0], "inp", where): x}
    fixed = known or {}
    for op in ops:
        kind = op.get("op")
        if kind == "conv":
            made = _conv(arrays, convs.index(op), op, values[_number(op, "inp", where)])
        elif kind == "ADD":
            made = values[op["inp"][0]] + values[op["inp"][1]]
        elif kind == "AVERAGE_POOL_2D":
            made = values[op["inp"][0]].mean((2, 3), keepdim=True)
        else:
            continue
        number = _number(op, "out", where)
        values[number] = fixed.get(number, made)
    return values


def _conv(arrays: Arrays, index: int, op: Mapping[str, Any], x: Tensor) -> Tensor:
    """TensorFlow's SAME convolution with its bias and activation."""
    weight, bias = (torch.from_numpy(arrays[f"conv{index}.{part}"]) for part in ("weight", "bias"))
    kernel, stride = weight.shape[2], int(op["stride"])
    top, bottom = same_pads(x.shape[2], kernel, stride)
    left, right = same_pads(x.shape[3], kernel, stride)
    made = F.conv2d(F.pad(x, (left, right, top, bottom)), weight, bias, stride, 0, 1, op["groups"])
    return made.clamp(0, 6) if op["act"] == "relu6" else made


def _top(scores: Tensor) -> tuple[tuple[int, ...], ...]:
    best = scores.flatten(1).topk(_SHOWN, dim=1).indices
    return tuple(tuple(int(i) for i in row) for row in best)
