"""The int8 graph at work in integers, as the runtimes compute it.

Integer values travel as float32 tensors, which hold them exactly. A convolution's sum is exact;
it is scaled in float32 and rounded half to even, as XNNPACK does, so it should agree to the bit.
Where runtimes differ among themselves (mul, softmax: fixed-point shortcuts) we compute the exact
real value and round it once: then they differ from us by at most one step.
Source: XNNPACK, src/qs8-requantization (fp32); TFLite 8-bit quantization specification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.execute import activate, crop, depth_to_space, resize, run_node
from mobileseg.graph.execute import pool as float_pool
from mobileseg.graph.execute_int16 import multiplied16, resized16
from mobileseg.graph.inverse_root import inverse_roots
from mobileseg.graph.ir import Array, Graph, Node, QuantParams
from mobileseg.graph.ir import Tensor as Value

# float32 holds every integer up to here.
_EXACT = 2**24
_BYTE = 2**8
# Far less than a mean of steps can be from a half, far more than float64 errs.
_TINY = 1e-9
_Q11 = 2**11
LIMITS = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
}


def execute_int8(
    graph: Graph, image: Array, observe: Callable[[str, Array], None] | None = None
) -> Array:
    """Return the output for images `(N, 3, H, W)` of the graph's own input type; any N.

    The result has the output's type: steps for an integer output, reals for a float32 one.
    `observe(name, steps)` sees every activation.
    """
    given = graph[graph.inputs[0]]
    if image.dtype != np.dtype(given.dtype):
        raise MobilesegError(f"{given.name}: takes {given.dtype} images, not {image.dtype}")
    values: dict[str, Tensor] = {given.name: torch.from_numpy(image.astype(np.float32))}
    for node in graph.nodes:
        values[node.output] = run_step(Step(graph, node, values))
        if observe is not None:
            observe(node.output, values[node.output].numpy())
        for name in node.inputs:
            if graph.consumers[name][-1] is node and name not in graph.outputs:
                values.pop(name, None)
    out = graph[graph.outputs[0]]
    return values[out.name].numpy().astype(np.dtype(out.dtype))


def run_step(step: Step) -> Tensor:
    """Return the steps that a node makes; reals where it was kept in float."""
    node = step.node
    if in_float(step.graph, node):
        return run_node(node, [step.steps(i) for i in range(len(node.inputs))])
    kernel = INT8_KERNELS.get(type(node.op))
    if kernel is None:
        raise MobilesegError(f"{node.layer}: {node.op.kind} is no int8 operator")
    return kernel(step)


def in_float(graph: Graph, node: Node) -> bool:
    """Whether the node computes in float: one that was kept so among integers."""
    tensors = (*graph.activations(node), graph[node.output])
    return all(tensor.dtype == "float32" for tensor in tensors)


@dataclass(frozen=True)
class Step:
    """A node with what it reads, for a kernel."""

    graph: Graph
    node: Node
    values: dict[str, Tensor]

    @property
    def op(self) -> Any:
        return self.node.op

    @property
    def out(self) -> Value:
        return self.graph[self.node.output]

    def steps(self, position: int = 0) -> Tensor:
        """An input as stored."""
        name = self.node.inputs[position]
        data = self.graph[name].data
        if data is None:
            return self.values[name]
        return torch.from_numpy(np.asarray(data, dtype=np.float32).copy())

    def centred(self, position: int = 0) -> Tensor:
        """An input as steps from its zero point."""
        return self.steps(position) - self.quant(position).zero_point

    def real(self, position: int = 0) -> Tensor:
        """An input as reals."""
        return self.centred(position) * float(self.quant(position).scale[0])

    def quant(self, position: int = 0) -> QuantParams:
        return quant_of(self.graph[self.node.inputs[position]])

    def store(self, real: Tensor) -> Tensor:
        """Return reals as the output's steps: rounded half to even, clamped."""
        quant = quant_of(self.out)
        steps = torch.round(real / float(quant.scale[0])) + quant.zero_point
        return torch.clamp(steps, *self.limits())

    def limits(self) -> tuple[int, int]:
        return step_limits(self.out, getattr(self.op, "activation", "none"))


def step_limits(value: Value, activation: str) -> tuple[int, int]:
    """Return the least and largest step: the type's, narrowed by a fused activation."""
    low, high = LIMITS[value.dtype]
    quant = quant_of(value)
    if activation != "none":
        low = max(low, quant.zero_point)
    if activation == "relu6":
        high = min(high, quant.zero_point + round(6 / float(quant.scale[0])))
    return low, high


def quant_of(value: Value) -> QuantParams:
    """Return the tensor's quantization. Raises MobilesegError where it has none."""
    if value.quant is None:
        raise MobilesegError(f"{value.name}: has no scale; calibrate it")
    return value.quant


def _conv(step: Step) -> Tensor:
    op, weight = step.op, step.centred(1)
    x = step.centred()
    top, left, bottom, right = op.pad
    x = F.pad(x, (left, right, top, bottom)) if any(op.pad) else x

    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, op.stride, 0, op.dilation, op.groups)

    return _requantize(step, _summed(x, weight, convolve, 1, op.groups == 1))


def _deconv(step: Step) -> Tensor:
    op = step.op

    def convolve(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(x, weight, None, op.stride)

    total = _summed(step.centred(), step.centred(1), convolve, 0)
    top, left, bottom, right = op.pad
    total = F.pad(total, (-left, op.extra[1] - right, -top, op.extra[0] - bottom))
    return _requantize(step, total)


def _summed(
    x: Tensor,
    weight: Tensor,
    convolve: Callable[[Tensor, Tensor], Tensor],
    along: int,
    may_cut: bool = True,
) -> Tensor:
    """Return a convolution of integers in which no partial sum was ever rounded.

    Sums too long for float32 are cut: float64 takes up to ten times as long. An int16 is cut into
    its bytes, a weight along its axis of input channels, if it has all of them.
    """
    largest = float(x.abs().max())
    if largest >= 2 * _BYTE:
        high = torch.floor(x / _BYTE)
        coarse, fine = (
            _summed(each, weight, convolve, along, may_cut) for each in (high, x - _BYTE * high)
        )
        return _BYTE * coarse.double() + fine
    reach = weight.abs().sum(dim=(along, 2, 3)).max()
    if float(reach) * largest < _EXACT:
        return convolve(x, weight)
    if not may_cut or weight.shape[along] == 1:
        return convolve(x.double(), weight.double())
    halves = zip(x.chunk(2, 1), weight.chunk(2, along), strict=True)
    first, second = (_summed(*half, convolve, along) for half in halves)
    return first.double() + second


def _requantize(step: Step, total: Tensor) -> Tensor:
    """Return the integer sum plus bias, scaled per channel to the output's steps."""
    if len(step.node.inputs) > 2:
        bias = step.graph[step.node.inputs[2]].data
        total = total.double() + torch.from_numpy(np.asarray(bias, np.float64)).view(1, -1, 1, 1)
    out = quant_of(step.out)
    if step.out.dtype == "int16":
        ratios = step.quant().scale[0] * step.quant(1).scale / out.scale[0]
        return torch.clamp(multiplied16(total, ratios), *step.limits()).float()
    # In float32, in this order: XNNPACK computes the very same number.
    weight_scale = step.quant(1).scale.astype(np.float32)
    scale = np.float32(step.quant().scale[0]) * weight_scale / np.float32(out.scale[0])
    steps = torch.round(total.float() * torch.from_numpy(scale).view(1, -1, 1, 1))
    return torch.clamp(steps + out.zero_point, *step.limits())


def _add(step: Step) -> Tensor:
    """Sum in XNNPACK's fixed point: multipliers of 20 bits, one shift, half rounded up.

    Deep residual networks would carry a step's difference on, from sum to sum.
    Source: XNNPACK, src/microparams-init.c (xnn_init_qs8_add_minmax_scalar_params).
    """
    out = quant_of(step.out)
    if step.out.dtype == "int16":
        return step.store(step.real(0) + step.real(1))
    scale = np.float32(out.scale[0])
    ratios = [np.float32(np.float32(step.quant(i).scale[0]) / scale) for i in (0, 1)]
    shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
    a, b = (np.rint(np.ldexp(np.float64(ratio), shift)) for ratio in ratios)
    total = step.centred(0).double() * a + step.centred(1).double() * b
    steps = torch.floor(total / 2.0**shift + 0.5) + out.zero_point
    return torch.clamp(steps, *step.limits()).float()


def _leaky_relu(step: Step) -> Tensor:
    """Two multipliers of 8 bits behind the point, half rounded up, as XNNPACK has it.

    Source: XNNPACK, src/microparams-init.c (xnn_init_qs8_lrelu_scalar_params).
    """
    out = quant_of(step.out)
    if step.out.dtype == "int16":
        return step.store(F.leaky_relu(step.real(), step.op.slope))
    ratio = np.float32(step.quant().scale[0]) / np.float32(out.scale[0])
    above, below = (
        float(np.rint(256 * each)) for each in (ratio, ratio * np.float32(step.op.slope))
    )
    centred = step.centred()
    total = centred * torch.where(centred > 0, above, below)
    return torch.clamp(torch.floor(total / 256 + 0.5) + out.zero_point, *step.limits())


def _prelu(step: Step) -> Tensor:
    """Both sides in TFLite's fixed point: XNNPACK has no such kernel.

    Source: TFLite, lite/kernels/activations.cc (PreluPrepare).
    """
    out = quant_of(step.out)
    scale, slopes = np.float32(step.quant().scale[0]), np.float32(step.quant(1).scale[0])
    centred = step.centred().double()
    above = _multiplied(centred, scale / np.float32(out.scale[0]))
    below = _multiplied(centred * step.centred(1), scale * slopes / np.float32(out.scale[0]))
    steps = torch.where(centred >= 0, above, below) + out.zero_point
    return torch.clamp(steps, *step.limits()).float()


def _multiplied(steps: Tensor, factor: np.float32) -> Tensor:
    """Return integers times a factor of 31 bits, rounded half away from zero before its shift and
    again behind it. Source: TFLite, lite/kernels/internal/common.h, MultiplyByQuantizedMultiplier.
    """
    mantissa, exponent = np.frexp(np.float64(factor))
    left, right = max(int(exponent), 0), max(-int(exponent), 0)
    product = steps * 2.0**left * (float(np.rint(mantissa * 2**31)) / 2.0**31)
    return _away(_away(product) / 2.0**right)


def _away(reals: Tensor) -> Tensor:
    return torch.sign(reals) * torch.floor(reals.abs() + 0.5)


def _concat(step: Step) -> Tensor:
    return torch.cat([step.steps(i) for i in range(len(step.node.inputs))], dim=1)


def _pad(step: Step) -> Tensor:
    top, left, bottom, right = step.op.pad
    zero = float(step.quant().zero_point)
    return F.pad(step.steps(), (left, right, top, bottom), value=zero)


def pool_steps(op: ops.Pool, steps: Tensor) -> Tensor:
    """Return the maximum of steps; or their mean, rounded half away from zero as TFLite does."""
    # In float64, so that half a step is seen as just that.
    pooled = float_pool(op, [steps.double()])
    away = torch.sign(pooled) * torch.floor(pooled.abs() + 0.5 + _TINY)
    return away.float()


def _global_mean(step: Step) -> Tensor:
    # In float64: of hundreds of places a mean is often half a step from two, and is to stay so.
    mean = step.centred().double().mean(dim=(2, 3), keepdim=True)
    ratio = float(step.quant().scale[0]) / float(quant_of(step.out).scale[0])
    steps = torch.round(mean * ratio) + quant_of(step.out).zero_point
    return torch.clamp(steps, *step.limits()).float()


def _resize(step: Step) -> Tensor:
    if step.out.dtype == "int16" and step.op.mode == "bilinear":
        return resized16(step.op, step.steps())
    return resize_steps(step.op, step.steps())


def resize_steps(op: ops.Resize, steps: Tensor) -> Tensor:
    """Return steps resized: the nearest, or weighed in XNNPACK's fixed point, 11 bits per axis.

    Source: XNNPACK, src/indirection.c (resize_bilinear2d_hwc_q11), src/s8-ibilinear/scalar.c.
    """
    x = steps.double()
    if op.mode == "nearest":
        return resize(op, [x]).float()
    (top, bottom, down), (left, right, along) = (
        _taps(x.shape[axis], op.size[axis - 2], op.align_corners) for axis in (2, 3)
    )
    rows = []
    for row in (top, bottom):
        line = x[:, :, row]
        a, b = line[..., left], line[..., right]
        rows.append(a * _Q11 + (b - a) * along)
    total = rows[0] * _Q11 + (rows[1] - rows[0]) * down.view(-1, 1)
    return torch.floor(total / _Q11**2 + 0.5).float()


def _taps(size: int, wanted: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each output position of one axis its two inputs and the second's weight, Q11."""
    at = np.arange(wanted, dtype=np.float32)
    if align_corners and wanted > 1:
        at *= np.float32(size - 1) / np.float32(wanted - 1)
    else:
        scale = np.float32(size) / np.float32(wanted)
        at = at * scale + (np.float32(0.5) * scale - np.float32(0.5))
    at = np.clip(at, 0, np.float32(size - 1))
    first = at.astype(np.int64)
    second = np.minimum(first + 1, size - 1)
    weight = np.rint((at - first.astype(np.float32)) * np.float32(_Q11)).astype(np.float64)
    return torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(weight)


def _quantize(step: Step) -> Tensor:
    if step.graph[step.node.inputs[0]].quant is not None:
        return step.store(step.real())
    quant = quant_of(step.out)
    # XNNPACK multiplies by the inverse in float32: a tie may fall otherwise than by division.
    steps = torch.round(step.steps() * float(np.float32(1 / quant.scale[0]))) + quant.zero_point
    return torch.clamp(steps, *step.limits())


def _mul(step: Step) -> Tensor:
    if step.out.dtype != "int8":
        return step.store(step.real(0) * step.real(1))
    # XNNPACK multiplies integers, then by one float32: a tie may fall otherwise than of reals.
    first, second, out = (
        np.float32(each.scale[0]) for each in (step.quant(0), step.quant(1), quant_of(step.out))
    )
    product = step.centred(0) * step.centred(1) * float(np.float32(first * second) / out)
    return torch.clamp(torch.round(product) + quant_of(step.out).zero_point, *step.limits())


def _activation(step: Step) -> Tensor:
    function, out = step.op.function, step.out
    if function != "rsqrt" or out.dtype != "int8":
        return step.store(activate(step.real(), function))
    quant = quant_of(out)
    given, made = (float(np.float32(each.scale[0])) for each in (step.quant(), quant))
    roots = inverse_roots(given, made, quant.zero_point)
    table = torch.tensor(roots, dtype=step.steps().dtype)
    return table[step.centred().long().clamp(0, 255)]


INT8_KERNELS: dict[type[ops.Op], Callable[[Step], Tensor]] = {
    ops.Conv2d: _conv,
    ops.ConvTranspose2d: _deconv,
    ops.Activation: _activation,
    ops.LeakyRelu: _leaky_relu,
    ops.PRelu: _prelu,
    ops.Neg: lambda s: s.store(-s.real()),
    ops.Add: _add,
    ops.Mul: _mul,
    ops.Concat: _concat,
    ops.Pad: _pad,
    ops.Crop: lambda s: crop(s.steps(), s.op),
    ops.DepthToSpace: lambda s: depth_to_space(s.steps(), s.op.block),
    ops.Pool: lambda s: pool_steps(s.op, s.steps()),
    ops.GlobalMean: _global_mean,
    ops.Resize: _resize,
    ops.Softmax: lambda s: s.store(torch.softmax(s.real(), dim=1)),
    ops.ArgMax: lambda s: s.steps().argmax(dim=1).float(),
    ops.Quantize: _quantize,
    ops.Dequantize: lambda s: s.real(),
}
