"""The scales of a graph in training: what `quantize` makes of ranges and constants, as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Graph, Node, QuantParams
from mobileseg.graph.ops import Add, PRelu
from mobileseg.quantize.calibrate import Ranges
from mobileseg.quantize.convert import (
    BIAS_LIMITS,
    LARGEST_RATIO,
    LEAST_RATIO,
    fixed_quants,
    joined,
    shared,
)
from mobileseg.quantize.qat.constants import other_axes
from mobileseg.quantize.qat.fake import straight, whole_steps
from mobileseg.quantize.rules import rule


@dataclass(frozen=True)
class Groups:
    """Activations that share a range, `of` by name to the group's number; `fixed` have none."""

    of: Mapping[str, int]
    fixed: Mapping[str, QuantParams]
    count: int

    def spans(self, ranges: Ranges) -> tuple[Tensor, Tensor]:
        """Return the lowest and highest of each group, (groups,) each, zero inside.

        Raises MobilesegError naming a tensor without range.
        """
        ends = torch.zeros(2, self.count, dtype=torch.float64)
        for name, number in self.of.items():
            if name not in ranges:
                raise MobilesegError(f"{name}: has no range; calibrate the graph it belongs to")
            low, high = ranges[name]
            ends[0, number] = min(float(ends[0, number]), low)
            ends[1, number] = max(float(ends[1, number]), high)
        return ends[0].float(), ends[1].float()


def groups(graph: Graph) -> Groups:
    """Return the graph's groups; class numbers are in none.

    Raises MobilesegError for a join that has other scales in the int8 graph than in this one.
    """
    for name in sorted(joined(graph, graph.nodes)):
        raise MobilesegError(
            f"{name}: has a scale of its own and is joined with others; qat cannot train that, "
            "mobileseg quantize can"
        )
    given = fixed_quants(graph, graph.nodes)
    indices = {node.output for node in graph.nodes if rule(node) == "index"}
    of: dict[str, int] = {}
    fixed: dict[str, QuantParams] = {}
    count = 0
    for members in shared(graph, graph.nodes):
        quants = [given[name] for name in members if name in given]
        if quants:
            fixed |= dict.fromkeys(members, quants[0])
        elif not indices.intersection(members):
            of |= dict.fromkeys(members, count)
            count += 1
    return Groups(of, fixed, count)


@dataclass(frozen=True)
class Scale:
    """A step and a zero point, tensors without axes through which gradients reach the range."""

    step: Tensor
    zero: Tensor

    def store(self, steps: Tensor, activation: str = "none") -> Tensor:
        """Return steps in whole ones, cut where `execute_int8.step_limits` says."""
        with torch.no_grad():
            low, high = -128 - self.zero, 127 - self.zero
            if activation != "none":
                low = low.clamp(min=0)
            if activation == "relu6":
                high = torch.minimum(high, torch.round(6 / self.step))
        return whole_steps(steps, self.zero, low, high)


def scales(
    graph: Graph, found: Groups, low: Tensor, high: Tensor, constants: Mapping[str, Tensor]
) -> dict[str, Scale]:
    """Return every activation's scale, for the groups' ranges `low` and `high`, (groups,) each.

    The very numbers of `quantize`: computed in float64, a step held in float32.
    """
    with torch.no_grad():
        wide = high.double() - low.double()
        steps = (wide.clamp(min=1e-8) / 255).float()
        zeros = torch.round(-128 - low.double() / steps.double()).clamp(-128, 127).float()
        made = {name: _fixed(quant, low.device) for name, quant in found.fixed.items()}
        _widen(graph, found, steps, made, constants)
    steps = straight((high - low) / 255, steps)
    zeros = straight(-128 - low / steps, zeros)
    each = [Scale(*pair) for pair in zip(steps.unbind(), zeros.unbind(), strict=True)]
    return made | {name: each[number] for name, number in found.of.items()}


def _fixed(quant: QuantParams, device: torch.device) -> Scale:
    step, zero = float(quant.scale[0]), float(quant.zero_point)
    return Scale(torch.tensor(step, device=device), torch.tensor(zero, device=device))


def _widen(
    graph: Graph,
    found: Groups,
    steps: Tensor,
    fixed: Mapping[str, Scale],
    constants: Mapping[str, Tensor],
) -> None:
    """Coarsen, in place, the steps of outputs that are next to nothing, as `quantize` does."""

    def worth(name: str) -> Tensor:
        if name in constants:
            return constants[name].abs().max().double() / 127
        return (fixed[name].step if name in fixed else steps[found.of[name]]).double()

    for node in graph.nodes:
        if rule(node) != "own" or node.output not in found.of:
            continue
        each = torch.stack([worth(name) for name in node.inputs[:2]])
        most = each.max() if isinstance(node.op, Add | PRelu) else each.prod()
        number = found.of[node.output]
        steps[number] = torch.maximum(steps[number], (most / LARGEST_RATIO).float())


def constant_steps(
    node: Node, constants: Sequence[Tensor], into: Scale, out: Scale, one_scale: bool = False
) -> tuple[list[Tensor], Tensor]:
    """Return a convolution's weight and bias in whole steps: 8 bits per channel, and 32 bits; and
    what one step of their sum is worth in the output's steps, (1, channels, 1, 1).

    one_scale: the weight's, for all channels.
    """
    weight, *biases = constants
    others = other_axes(node)
    with torch.no_grad():
        source, target = into.step.double(), out.step.double()
        wide = weight.abs().amax(others).double() / 127
        if one_scale:
            wide = wide.max().expand_as(wide)
        wide = torch.maximum(wide, target / source * LEAST_RATIO)
        for bias in biases:
            wide = torch.maximum(wide, bias.abs().double() / (source * BIAS_LIMITS["int32"]))
        # Held in float32, divided by in float64: as `quantize` does.
        step = wide.float()
        grid = step.view([1 if axis in others else -1 for axis in range(4)])
        whole = torch.round(weight / grid.double()).clamp(-127, 127).float()
        sums = [torch.round(bias / (source * step.double())).float() for bias in biases]
    made = [straight(weight / grid, whole)]
    made += [
        straight(bias / (into.step * step), rounded)
        for bias, rounded in zip(biases, sums, strict=True)
    ]
    return made, (into.step * step / out.step).view(1, -1, 1, 1)
