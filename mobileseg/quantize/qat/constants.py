"""A graph's constants as the parameters of a training."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mobileseg.graph.ir import Graph, Node
from mobileseg.graph.ir import Tensor as Value
from mobileseg.graph.ops import Conv2d, ConvTranspose2d
from mobileseg.quantize.convert import has_few_values, stored_constant

CONVS = (Conv2d, ConvTranspose2d)


class Constants(nn.Module):
    """The constants of convolutions, trained, and those of element-wise operators, kept.

    A trained one is held in units of its own: a weight in that of its channel's largest, a bias
    in that of its output's range. Folded channels differ a thousandfold in size, and one learning
    rate has to suit all. A unit is a power of two, so that nothing is rounded by it.
    """

    def __init__(self, graph: Graph, reach: Mapping[str, float]) -> None:
        """reach: the largest magnitude of each activation."""
        super().__init__()
        self.trained: list[str] = []
        self.one_scale: set[str] = set()  # weights that have few values, and are to keep them
        self.kept: list[str] = []
        for node in graph.nodes:
            for value in graph.constants(node):
                if value.name not in {*self.trained, *self.kept}:
                    self._add(node, value, reach[node.output])

    def forward(self) -> dict[str, Tensor]:
        """Return the constants by name, as they are now."""
        now = {name: self.value(name) for name in self.trained}
        return now | {name: getattr(self, _key(name)) for name in self.kept}

    def rounded(self) -> dict[str, Tensor]:
        """Return the kept constants as int8 holds them, in reals."""
        return {name: getattr(self, _key(f"{name} rounded")) for name in self.kept}

    def value(self, name: str) -> Tensor:
        """Return a trained constant."""
        share: Tensor = getattr(self, _key(name))
        unit: Tensor = getattr(self, _key(f"{name} unit"))
        return share * unit

    @torch.no_grad()
    def set(self, name: str, value: Tensor) -> None:
        """Overwrite a trained constant."""
        unit: Tensor = getattr(self, _key(f"{name} unit"))
        getattr(self, _key(name)).copy_(value / unit)

    def _add(self, node: Node, value: Value, reach: float) -> None:
        name, data = value.name, torch.from_numpy(np.array(value.data))
        if not isinstance(node.op, CONVS):
            self.kept.append(name)
            self.register_buffer(_key(name), data)
            self.register_buffer(_key(f"{name} rounded"), _rounded(value))
            return
        largest = torch.tensor(reach)
        if data.ndim == 4:
            if has_few_values(data.numpy()):
                self.one_scale.add(name)
            largest = data.abs().amax(other_axes(node), keepdim=True)
        unit = _power_of_two(largest)
        self.trained.append(name)
        self.register_parameter(_key(name), nn.Parameter(data / unit))
        self.register_buffer(_key(f"{name} unit"), unit)


def other_axes(node: Node) -> list[int]:
    """Return the axes of a convolution's weight that are not its output channels."""
    own = 1 if isinstance(node.op, ConvTranspose2d) else 0
    return [axis for axis in range(4) if axis != own]


def _key(name: str) -> str:
    """Return a constant's name as torch allows it: dots would be submodules."""
    return name.replace(".", "/")


def _rounded(value: Value) -> Tensor:
    stored = stored_constant(value)
    assert stored.data is not None and stored.quant is not None
    steps = stored.data.astype(np.float64) - stored.quant.zero_point
    return torch.from_numpy((steps * stored.quant.scale[0]).astype(np.float32))


def _power_of_two(largest: Tensor) -> Tensor:
    """Return the power of two at or above; 1 for nothing."""
    exponent = torch.ceil(torch.log2(largest.double()))
    return torch.where(largest > 0, torch.exp2(exponent), 1.0).float()
