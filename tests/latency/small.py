"""A device small enough to price by hand, and graphs for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mobileseg.graph.ir import DType, Graph, Node, Tensor, assemble
from mobileseg.graph.ops import Op
from mobileseg.latency.profile import (
    KERNELS,
    Coefficients,
    DeviceProfile,
    FitError,
    Kernel,
)

KERNEL = Kernel(
    giga_per_s=2.0,
    reduction_half=3.0,
    pixels_half=5.0,
    channel_tile=8,
    pixel_tile=4,
    error_factor=1.5,
    basis="fitted",
    note="",
)
ERROR = FitError("family", 11, 3, 1.0, 2.0, 3.0, 99.0, 0.9, 1.2, 90.0)
TABLE = Coefficients(
    basis="fitted",
    note="",
    bandwidth_gb_per_s=10.0,
    dram_gb_per_s=4.0,
    cache_kb=1.0,
    weights_cache_kb=2.0,
    overlap=2.0,
    overhead_us=7.0,
    error=ERROR,
    kernels=dict.fromkeys(KERNELS, KERNEL),
)
DEVICE = DeviceProfile(
    name="small",
    title="A small device",
    soc="none",
    core="none",
    threads=1,
    runtime="none",
    year=2020,
    source=("by hand",),
    fuses=("pad",),
    float32=TABLE,
    int8=replace(TABLE, bandwidth_gb_per_s=20.0),
)


def graph_of(
    op: Op,
    inputs: tuple[tuple[int, ...], ...],
    constants: tuple[tuple[int, ...], ...] = (),
    dtype: DType = "float32",
) -> Graph:
    """One operator on inputs x0, x1, … and zero constants c0, c1, …"""
    given = [Tensor(f"x{i}", shape, dtype) for i, shape in enumerate(inputs)]
    known = {
        f"c{i}": Tensor(f"c{i}", shape, dtype, data=np.zeros(shape, dtype))
        for i, shape in enumerate(constants)
    }
    output = Tensor("y", (), dtype)
    names = (*(tensor.name for tensor in given), *known)
    return assemble(given, [Node(op, names, "y", "layer")], ["y"], known | {"y": output})
