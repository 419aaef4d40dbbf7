"""A float graph as a torch module that rounds as its int8 file will, and learns to.

The graph that ships is what is trained: batch norm folded, operators rewritten. The parameters are
its convolutions' constants and the ends of its ranges.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from mobileseg.graph.execute import activate, drop_read, execute
from mobileseg.graph.ir import Graph
from mobileseg.quantize.calibrate import Ranges
from mobileseg.quantize.qat.constants import Constants
from mobileseg.quantize.qat.nodes import State, run_steps
from mobileseg.quantize.qat.scales import groups, scales
from mobileseg.quantize.rules import rule

# Of the ranges' moving average: it forgets within some fifty batches.
_MOMENTUM = 0.98


class QatModule(nn.Module):
    """float32 images (N, 3, H, W), any N, to the reals of the int8 graph's output.

    `quantized`: false executes the graph in float, with the constants as trained so far.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self, graph: Graph, ranges: Ranges, watch: int | None = None) -> None:
        """Start with the graph's constants and these ranges.

        watch: None learns the ranges by gradient; with a number they follow what so many training
        batches show, as a moving average, and are frozen then. Raises MobilesegError naming a
        tensor without range.
        """
        super().__init__()
        self.graph = graph
        self.watch = watch
        self.quantized = True
        self._groups = groups(graph)
        low, high = self._groups.spans(ranges)
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        if watch is None:
            # Logarithms: an update is a share of the range, and no end changes its sign.
            self.grow_low = nn.Parameter(torch.zeros_like(low))
            self.grow_high = nn.Parameter(torch.zeros_like(high))
        largest = torch.maximum(-low, high).tolist()
        fixed = dict.fromkeys(self._groups.fixed, 1.0)
        reach = {name: largest[number] for name, number in self._groups.of.items()} | fixed
        self.constants = Constants(graph, reach)

    def forward(self, image: Tensor) -> Tensor:
        """Return the output; in training with `watch`, also move the ranges."""
        constants = self.constants()
        if not self.quantized:
            return execute(self.graph, image, constants=constants)
        found = scales(self.graph, self._groups, *self.span(), constants)
        state = State(found, constants, self.constants.rounded(), self.constants.one_scale)
        watching = self.training and self.watch is not None and int(self.seen) < self.watch
        if not watching:
            return self._run(image, state, None)
        shown = torch.zeros(2, self._groups.count, device=image.device)
        output = self._run(image, state, shown)
        self._follow(shown)
        return output

    def span(self) -> tuple[Tensor, Tensor]:
        """Return the ends of every group's range, (groups,) each."""
        if self.watch is not None:
            return self.low, self.high
        return self.low * self.grow_low.exp(), self.high * self.grow_high.exp()

    @torch.no_grad()
    def trained_graph(self) -> Graph:
        """Return the float graph with the constants of now."""
        values = {name: self.constants.value(name) for name in self.constants.trained}
        return self.graph.with_tensors(
            replace(self.graph[name], data=value.cpu().contiguous().numpy())
            for name, value in values.items()
        )

    @torch.no_grad()
    def ranges(self) -> Ranges:
        """Return the ranges of now: with them `quantize` makes `trained_graph` what this is."""
        low, high = (ends.double().tolist() for ends in self.span())
        return {name: (low[number], high[number]) for name, number in self._groups.of.items()}

    def _run(self, image: Tensor, state: State, shown: Tensor | None) -> Tensor:
        """Return the output; widen `shown`, (2, groups), to the ranges of this batch."""
        given, result = self.graph.inputs[0], self.graph.outputs[0]
        values = {given: state.scales[given].store(image / state.scales[given].step)}
        for node in self.graph.nodes:
            steps = run_steps(node, values, state)
            scale = state.scales.get(node.output)
            if scale is not None and rule(node) != "shared":
                function = getattr(node.op, "activation", "none")
                if shown is not None:
                    self._show(shown, node.output, activate(steps.detach() * scale.step, function))
                steps = scale.store(steps, function)
            values[node.output] = steps
            drop_read(self.graph, node, values)
        last = state.scales.get(result)
        return values[result] if last is None else values[result] * last.step

    @torch.no_grad()
    def _show(self, shown: Tensor, name: str, real: Tensor) -> None:
        """Widen the range of a tensor's group to the mean of each image's extremes."""
        number = self._groups.of.get(name)
        if number is not None:
            each = real.flatten(1)
            shown[0, number] = torch.minimum(shown[0, number], each.amin(1).mean())
            shown[1, number] = torch.maximum(shown[1, number], each.amax(1).mean())

    @torch.no_grad()
    def _follow(self, shown: Tensor) -> None:
        """Move the ranges towards those of one batch, (2, groups)."""
        self.low.lerp_(shown[0], 1 - _MOMENTUM)
        self.high.lerp_(shown[1], 1 - _MOMENTUM)
        self.seen += 1
