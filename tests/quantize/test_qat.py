"""The graph in training: its float, its gradients, and that its int8 file is itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.export.runtime import LiteRT, pixels_as
from mobileseg.export.tflite import write_tflite
from mobileseg.graph import ops
from mobileseg.graph.execute import execute
from mobileseg.graph.execute_int8 import execute_int8
from mobileseg.graph.ir import Array, Graph
from mobileseg.graph.passes import FOR_TFLITE, normalise, run_passes
from mobileseg.graph.trace import trace
from mobileseg.quantize.calibrate import Ranges, calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.quantize.qat.fake import whole_steps
from mobileseg.quantize.qat.module import QatModule
from mobileseg.train.config import AugmentConfig
from mobileseg.train.data import load
from mobileseg.train.distill import divergence
from mobileseg.train.loop import fit
from mobileseg.train.optim import state_tensors
from tests.export import small
from tests.graph.build import graph
from tests.op_cases import CASES, Case
from tests.train.pictures import write_list
from tests.train.tiny import CONFIG, SIZE, tiny

IMAGE = (1, 3, 6, 8)


def steps_of(module: QatModule, pictures: Array) -> Array:
    """Return what the module gives, in the steps of its int8 graph, or as class numbers."""
    with torch.no_grad():
        out = module.eval()(torch.from_numpy(pixels_as(pictures, np.dtype(np.float32)))).numpy()
    quant = int8_of(module)[module.graph.outputs[0]].quant
    if quant is None:
        return np.asarray(out)
    return np.asarray(np.round(out / np.float32(quant.scale[0])) + quant.zero_point)


def int8_of(module: QatModule) -> Graph:
    return quantize(module.trained_graph(), module.ranges(), "int8")


def ranges_of(before: Graph, pictures: Array) -> Ranges:
    return calibrate(before, [pixels_as(pictures, np.dtype(np.float32))])


def moved(
    module: QatModule,
    pictures: Array,
    updates: int = 6,
    lr: float = 2e-2,
    learned: Iterable[nn.Parameter] | None = None,
) -> QatModule:
    """Return the module after some updates that move every constant and range, or `learned`."""
    x = torch.from_numpy(pixels_as(pictures, np.dtype(np.float32)))
    wanted = execute(module.graph, x)
    optimizer = torch.optim.Adam(learned or module.parameters(), lr=lr)
    module.train()
    for _ in range(updates):
        optimizer.zero_grad()
        (module(x) - wanted).square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return module


# Trained as the exact product: the kernels' multipliers have few bits.
STEPS_APART = {"leaky_relu": 1, "prelu": 1}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_operator_is_the_int8_execution_to_the_bit(case: Case) -> None:
    before = run_passes(case.graph(), FOR_TFLITE)
    module = QatModule(before, ranges_of(before, case.images()))
    given = pixels_as(case.images(), np.dtype(np.int8))
    apart = steps_of(module, case.images()) - execute_int8(int8_of(module), given)
    assert np.abs(apart).max() <= STEPS_APART.get(case.name, 0)


@pytest.mark.parametrize("watch", [None, 4], ids=["learned", "moving_average"])
def test_the_trained_file_is_the_trained_graph(watch: int | None, tmp_path: Path) -> None:
    before, pictures = small.float_graph(), small.pictures()
    ranges = ranges_of(before, pictures)
    module = moved(QatModule(before, ranges, watch), pictures)
    assert all(
        module.ranges()[node.output] != ranges[node.output]
        for node in before.nodes
        if isinstance(node.op, ops.Conv2d)
    )
    assert not np.array_equal(
        module.trained_graph()["stem.conv.weight"].data, before["stem.conv.weight"].data
    )
    path = tmp_path / "net.tflite"
    path.write_bytes(write_tflite(int8_of(module)))
    given = pixels_as(pictures, np.dtype(np.int8))
    apart = LiteRT(path)(given).astype(np.float32) - steps_of(module, pictures)
    assert np.abs(apart).max() <= 1


def test_a_dead_output_is_the_int8_execution_too() -> None:
    """A ReLU that is always zero gets the scale that the kernels can represent."""
    alive = ("y", ops.Conv2d(activation="relu"), "image", {"w": (5, 3, 1, 1), "b": (5,)})
    dead = ("z", ops.Conv2d(activation="relu"), "y", {"k": (4, 5, 1, 1), "l": (4,)})
    last = ("o", ops.Conv2d(), "z", {"m": (2, 4, 1, 1), "n": (2,)})
    before = graph(IMAGE, alive, dead, last)  # type: ignore[arg-type]
    before = before.with_tensors(
        replace(before[name], data=-np.abs(np.asarray(before[name].data))) for name in "kl"
    )
    module = QatModule(before, {"y": (0, 1), "z": (0, 0), "o": (-1, 1)})
    pictures = np.random.default_rng(1).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    given = pixels_as(pictures, np.dtype(np.int8))
    np.testing.assert_array_equal(steps_of(module, pictures), execute_int8(int8_of(module), given))


def test_without_rounding_it_is_the_float_module_and_its_gradients() -> None:
    net, size = tiny().eval(), (10, 14)
    nn.init.uniform_(net[1].weight, 0.5, 1.5)  # type: ignore[arg-type]
    nn.init.uniform_(net[1].running_var, 0.5, 2.0)  # type: ignore[arg-type]
    before = normalise(trace(net, size))
    module = QatModule(before, dict.fromkeys(before.tensors, (-1.0, 1.0)))
    module.quantized = False
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, found = net(one), module(other)
    torch.testing.assert_close(found, expected)
    for result in (expected, found):
        result.square().sum().backward()
    torch.testing.assert_close(other.grad, one.grad)
    # Batch norm is folded into the first convolution: what its weights are multiplied by.
    norm = net[1]
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # type: ignore[operator]
    torch.testing.assert_close(
        gradient(module, "0.weight") * factor.view(-1, 1, 1, 1), net[0].weight.grad
    )
    for name in ("3.weight", "3.bias", "6.weight", "6.bias"):
        torch.testing.assert_close(gradient(module, name), net.get_parameter(name).grad)


def gradient(module: QatModule, name: str) -> Tensor:
    """Return the gradient of a constant, which is held as a share of its unit."""
    key = name.replace(".", "/")
    held = module.constants.get_parameter(key).grad
    assert held is not None
    return held / module.constants.get_buffer(f"{key} unit")


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_of_rounding_are_those_of_its_definition(relu: bool) -> None:
    """Against the definition written out, every rounding passed straight through by hand."""
    x = torch.linspace(-1.55, 2.45, 41, dtype=torch.float64)
    weights = torch.rand(41, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def through(value: Tensor) -> Tensor:
        return value + (torch.round(value) - value).detach()

    def defined(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        step = (high - low) / 255
        zero = through(-128 - low / step)
        counted = torch.clamp(through(x / step) + zero, -128, 127) - zero
        return step * (torch.relu(counted) if relu else counted)

    def ours(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        step = (high - low) / 255
        zero = through(-128 - low / step)
        least = torch.zeros_like(zero) if relu else -128 - zero.detach()
        return step * whole_steps(x / step, zero, least, 127 - zero.detach())

    results = []
    for make in (defined, ours):
        given = [x.clone(), torch.tensor(-1.0).double(), torch.tensor(2.0).double()]
        given = [each.requires_grad_() for each in given]
        value = make(*given)
        (value * weights).sum().backward()  # type: ignore[no-untyped-call]
        results.append([value.detach(), *(each.grad for each in given)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_moving_average_follows_and_is_frozen() -> None:
    before, pictures = small.float_graph(), small.pictures()
    ranges = ranges_of(before, pictures)
    module = QatModule(before, {name: (2 * a, 2 * b) for name, (a, b) in ranges.items()}, 3)
    x = torch.from_numpy(pixels_as(pictures, np.dtype(np.float32)))
    module.eval()(x)
    assert module.seen == 0
    spans = []
    for _ in range(5):
        module.train()(x)
        spans.append(module.ranges()["stem.act"][1])
    assert 2 * ranges["stem.act"][1] > spans[0] > spans[1] > spans[2] == spans[3] == spans[4]


def test_a_tensor_without_a_range_is_named() -> None:
    line = ("y", ops.Conv2d(), "image", {"w": (5, 3, 1, 1)})
    with pytest.raises(MobilesegError, match="y: has no range"):
        QatModule(graph(IMAGE, line), {})  # type: ignore[arg-type]


def test_learning_the_ranges_mends_those_that_are_too_wide() -> None:
    before, pictures = small.float_graph(), small.pictures()
    ranges = ranges_of(before, pictures)
    x = torch.from_numpy(pixels_as(pictures, np.dtype(np.float32)))
    wanted = execute(before, x)

    def error(module: QatModule) -> float:
        with torch.no_grad():
            return float((module.eval()(x) - wanted).square().mean())

    module = QatModule(before, {name: (8 * low, 8 * high) for name, (low, high) in ranges.items()})
    first = error(module)
    learned = [module.grow_low, module.grow_high]
    assert error(moved(module, pictures, 40, 0.1, learned)) < first / 4


class StopError(Exception):
    """Raised in the middle of a training."""


def stop_at(last: int) -> Callable[[int], None]:
    def after_step(step: int) -> None:
        if step == last:
            raise StopError

    return after_step


@pytest.mark.parametrize("watch", [None, 5], ids=["learned", "moving_average"])
def test_broken_off_and_resumed_is_the_same_to_the_bit(watch: int | None, tmp_path: Path) -> None:
    data = write_list(tmp_path)
    teacher = tiny().eval().requires_grad_(False)
    before = run_passes(normalise(trace(teacher, SIZE)), FOR_TFLITE)
    train = load(data, "train", (24, 18))
    ranges = ranges_of(before, train.images[:4, :20, :16])

    def trained(folder: Path, resume: bool = False, stop: int = 0) -> dict[str, Tensor]:
        module = QatModule(before, ranges, watch)
        fit(
            module,
            train,
            None,
            data,
            CONFIG,
            AugmentConfig(),
            SIZE,
            folder,
            seed=5,
            resume=resume,
            progress=False,
            after_step=stop_at(stop),
            teach=lambda inputs, logits: divergence(logits, teacher(inputs)),
        )
        return state_tensors(module)

    whole = trained(tmp_path / "whole")
    for stop in (4, 7):
        with pytest.raises(StopError):
            trained(tmp_path / "broken", resume=True, stop=stop)
    resumed = trained(tmp_path / "broken", resume=True)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
