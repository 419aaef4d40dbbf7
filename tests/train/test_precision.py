"""Training in less precision, and in parts: it learns the same, and resumes to the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.recipe import read_recipe
from mobileseg.train.config import LossConfig, TrainConfig
from mobileseg.train.data import load
from mobileseg.train.optim import state_tensors
from tests.train.pictures import write_list
from tests.train.test_loop import StopError, figures, same, stop_at
from tests.train.tiny import CONFIG, tiny, train

HALF = replace(CONFIG, precision="float16")


def scaled(weight: float) -> TrainConfig:
    """Return a training whose loss is so many times too large for float16."""
    return replace(HALF, loss=LossConfig(cross_entropy=weight), clip_norm=1.0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_learns_real_pictures_as_float32_does(tmp_path: Path, precision: str) -> None:
    sample = read_recipe("portrait").data
    pictures = load(sample, "train", (24, 18)).first(12)
    config = replace(CONFIG, lr=2e-2, loss=LossConfig(cross_entropy=1.0), ema=0.0)
    data = write_list(tmp_path)
    whole = train(tiny(), data, tmp_path / "whole", config, dataset=pictures)
    config = replace(config, precision=precision)
    module = tiny()
    found = train(module, data, tmp_path / "less", config, dataset=pictures)
    for less, full in zip(found.history, whole.history, strict=True):
        assert less["loss"] == pytest.approx(full["loss"], rel=0.03)
        assert less["loss"] != full["loss"]
    assert {tensor.dtype for tensor in module.parameters()} == {torch.float32}


def test_a_resumed_scale_is_the_scale(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    whole, resumed = tiny(), tiny(seed=4)
    config = scaled(20.0)
    result = train(whole, data, tmp_path / "whole", config)
    assert sum(record["skipped_steps"] or 0 for record in result.history) > 1
    assert result.history[-1]["skipped_steps"] == 0
    with pytest.raises(StopError):
        train(tiny(), data, tmp_path / "run", config, after_step=stop_at(2))
    again = train(resumed, data, tmp_path / "run", config, resume=True)
    assert same(whole, resumed)
    assert figures(again) == figures(result)


def test_a_step_that_does_not_fit_changes_no_weight(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    module = tiny()
    first = {name: p.detach().clone() for name, p in module.named_parameters()}
    moved = []

    def after_step(done: int) -> None:
        del done
        now = state_tensors(module)
        moved.append(any(not torch.equal(now[name], value) for name, value in first.items()))

    result = train(module, data, tmp_path / "run", scaled(20.0), after_step=after_step)
    skipped = sum(int(record["skipped_steps"] or 0) for record in result.history)
    assert moved == [number >= skipped for number in range(12)]


def test_what_never_fits_ends_with_an_error(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    with pytest.raises(MobilesegError, match=r"train\.precision: .* float16 .* scaled by 0\.5"):
        train(tiny(), data, tmp_path / "run", replace(scaled(1e12), epochs=10))


def frozen() -> nn.Sequential:
    """Return the tiny network without what a batch's other pictures or chance have a say in."""
    net = tiny()
    net[1], net[4] = nn.GroupNorm(2, 8), nn.Identity()
    return net


def energy(inputs: Tensor, logits: Tensor) -> Tensor:
    del inputs
    return logits.square().mean()


@pytest.mark.parametrize("parts", [2, 3, 5])
@pytest.mark.parametrize("weights", ["none", "median_frequency"])
def test_parts_of_a_batch_learn_what_the_batch_does(
    tmp_path: Path, parts: int, weights: str
) -> None:
    data = write_list(tmp_path, 12)
    config = replace(CONFIG, batch_size=5, epochs=1, optimizer="sgd", lr=0.1, ema=0.0)
    config = replace(config, loss=LossConfig(cross_entropy=1.0), class_weights=weights)
    whole, other = frozen(), frozen()
    expected = train(whole, data, tmp_path / "whole", config, teach=energy)
    config = replace(config, accumulate=parts)
    found = train(other, data, tmp_path / "parts", config, teach=energy)
    assert found.last["loss"] == pytest.approx(expected.last["loss"], rel=1e-5)
    for name, value in state_tensors(whole).items():
        torch.testing.assert_close(state_tensors(other)[name], value, rtol=0, atol=1e-5)
        assert not torch.equal(value, state_tensors(frozen())[name]), name


def test_parts_resume_to_the_same_bits(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    config = replace(CONFIG, batch_size=4, accumulate=2)
    whole, resumed = tiny(), tiny(seed=4)
    train(whole, data, tmp_path / "whole", config)
    with pytest.raises(StopError):
        train(tiny(), data, tmp_path / "run", config, after_step=stop_at(3))
    train(resumed, data, tmp_path / "run", config, resume=True)
    assert same(whole, resumed)


def test_more_parts_than_pictures() -> None:
    with pytest.raises(ValueError, match="batch_size = 3 pictures has not so many parts"):
        replace(CONFIG, accumulate=4)
