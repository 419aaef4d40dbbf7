"""The loop learns, can be killed at any moment, and says what went wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from mobileseg.errors import MobilesegError
from mobileseg.train.board import board
from mobileseg.train.config import TrainConfig
from mobileseg.train.data import Dataset, load
from mobileseg.train.optim import Average, lr_factor, make_optimizer, state_tensors
from tests.train.pictures import write_list
from tests.train.tiny import CONFIG, tiny, train


class StopError(Exception):
    """Raised in the middle of a training."""


def stop_at(last: int) -> Callable[[int], None]:
    def after_step(step: int) -> None:
        if step == last:
            raise StopError

    return after_step


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = state_tensors(one), state_tensors(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def figures(result: object) -> list[dict[str, object]]:
    """Return the history without what a clock says."""
    timed = {"seconds", "train_seconds", "images_per_second"}
    history = result.history  # type: ignore[attr-defined]
    return [{k: v for k, v in record.items() if k not in timed} for record in history]


def test_learns_and_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_list(tmp_path, 12)
    module = tiny()
    state = torch.get_rng_state()
    result = train(module, data, tmp_path / "run", replace(CONFIG, epochs=12, lr=2e-2))
    assert torch.equal(torch.get_rng_state(), state)  # the global generator is left alone
    assert result.best is not None
    assert result.last["val_miou_percent"] is not None
    assert result.last["val_miou_percent"] > 85
    lines = (tmp_path / "run/train.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 13))
    assert json.loads(lines[-1]) == result.last
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 12
    assert captured.err.startswith("epoch 1/12  lr 0.02 ")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "checkpoint.safetensors",
        "train.jsonl",
    ]


def test_sigkill_and_resume_give_the_same_bits(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    whole = tiny()
    result = train(whole, data, tmp_path / "whole")

    broken = tmp_path / "broken"
    with pytest.raises(StopError):
        train(tiny(), data, broken, after_step=stop_at(1))
    command = [sys.executable, "-m", "tests.train.tiny", str(tmp_path), str(broken)]
    for steps in (3, 4):  # two real kills, mid-epoch and around an epoch's end
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            for _ in range(steps):
                assert child.stdout.readline(), child.stderr.read() if child.stderr else ""
            child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL

    resumed = tiny(seed=5)
    again = train(resumed, data, broken, resume=True)
    assert same(whole, resumed)
    assert figures(again) == figures(result)
    lines = (broken / "train.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]

    finished = tiny(seed=6)  # resuming what is finished only loads it
    assert figures(train(finished, data, broken, resume=True)) == figures(result)
    assert same(whole, finished)


@pytest.mark.parametrize("last", [1, 3, 5, 12])
def test_stop_after_any_step(tmp_path: Path, last: int) -> None:
    data = write_list(tmp_path)
    whole, resumed = tiny(), tiny(seed=4)
    config = replace(CONFIG, optimizer="sgd", class_weights=(1.0, 2.0), ema=0.0)
    train(whole, data, tmp_path / "whole", config)
    with pytest.raises(StopError):
        train(tiny(), data, tmp_path / "run", config, after_step=stop_at(last))
    train(resumed, data, tmp_path / "run", config, resume=True)
    assert same(whole, resumed)


def test_stop_while_the_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_list(tmp_path)
    whole, resumed = tiny(), tiny(seed=4)
    train(whole, data, tmp_path / "whole")
    calls = 0
    rename = os.replace

    def torn(part: Path, path: Path) -> None:
        nonlocal calls
        calls += Path(path).name == "checkpoint.safetensors"
        if calls == 7:
            Path(part).write_bytes(Path(part).read_bytes()[:1000])
            raise StopError
        rename(part, path)

    monkeypatch.setattr(os, "replace", torn)
    with pytest.raises(StopError):
        train(tiny(), data, tmp_path / "run")
    monkeypatch.undo()
    train(resumed, data, tmp_path / "run", resume=True)
    assert same(whole, resumed)


def test_without_resume_it_starts_anew(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    first, second = tiny(), tiny()
    train(first, data, tmp_path / "run")
    train(second, data, tmp_path / "run")
    assert same(first, second)
    other = tiny()
    train(other, data, tmp_path / "other", replace(CONFIG, label_smoothing=0.1))
    assert not same(first, other)


def test_resume_refuses_what_does_not_belong(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    folder = tmp_path / "run"
    train(tiny(), data, folder)
    with pytest.raises(MobilesegError, match=r"train\.lr was 0\.003, is 0\.1"):
        train(tiny(), data, folder, replace(CONFIG, lr=0.1), resume=True)
    with pytest.raises(MobilesegError, match="belongs to another network"):
        train(tiny().append(nn.Conv2d(2, 2, 1)), data, folder, resume=True)
    (folder / "checkpoint.safetensors").write_bytes(b"rubbish")
    with pytest.raises(MobilesegError, match="not a checkpoint of mobileseg"):
        train(tiny(), data, folder, resume=True)


def poisoned(data: Dataset, module: nn.Module) -> nn.Module:
    """Make the loss NaN once, in the second epoch."""
    del data
    calls = 0

    def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += module.training
        return output * float("nan") if module.training and calls == 5 else output

    module[-1].register_forward_hook(hook)  # type: ignore[index]
    return module


def test_nan_names_the_pictures_and_loses_nothing(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    dataset = load(data, "train", (24, 18))
    config = replace(CONFIG, ema=0.0)
    folder = tmp_path / "run"
    with pytest.raises(MobilesegError) as caught:
        train(poisoned(dataset, tiny()), data, folder, config, dataset=dataset)
    text = str(caught.value)
    assert "loss or gradient is nan in epoch 2, step 2 of 3, lr 0.00" in text
    names = text.partition("pictures ")[2].partition(";")[0].split(", ")
    assert len(names) == 3
    assert set(names) <= {pair.image.name for pair in dataset.pairs}
    with safe_open(folder / "checkpoint.safetensors", framework="np") as file:
        assert all(np.isfinite(file.get_tensor(name)).all() for name in file.keys())  # noqa: SIM118
    whole, mended = tiny(), tiny()
    train(whole, data, tmp_path / "whole", config)
    train(mended, data, folder, config, resume=True)
    assert same(whole, mended)


def test_ruined_weight_is_not_saved(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    module = tiny()

    def ruin(step: int) -> None:
        if step == 3:
            with torch.no_grad():
                module[0].weight.fill_(torch.inf)  # type: ignore[operator]

    with pytest.raises(MobilesegError, match=r"0\.weight became NaN or infinite in epoch 1"):
        train(module, data, tmp_path / "run", after_step=ruin)


def test_wrong_output_and_settings(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    with pytest.raises(MobilesegError, match=r"net gives \[3, 2, 10, 8\] for masks \[3, 20, 16\]"):
        train(tiny().append(nn.AvgPool2d(2)), data, tmp_path / "a")
    with pytest.raises(MobilesegError, match=r"train\.class_weights: 3 numbers for 2 classes"):
        train(tiny(), data, tmp_path / "b", replace(CONFIG, class_weights=(1.0, 2.0, 3.0)))
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Upsample((20, 16)))
    pooled.append(nn.Conv2d(3, 2, 1))
    with pytest.raises(MobilesegError, match=r"train\.batch_size: batch norm over 1x1"):
        train(pooled, data, tmp_path / "c", replace(CONFIG, batch_size=1))
    with pytest.raises(MobilesegError, match="no parameter to train"):
        train(tiny().requires_grad_(False), data, tmp_path / "d")


@pytest.mark.parametrize("device", ["foo", "cuda:99", "meta", ""])
def test_a_device_that_is_not_here(tmp_path: Path, device: str) -> None:
    data = write_list(tmp_path)
    with pytest.raises(MobilesegError, match=r"device '.*': is not here; there are: cpu"):
        train(tiny(), data, tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_list(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(MobilesegError, match="cannot be written"):
        train(tiny(), data, tmp_path / "run")


def test_bfloat16_and_a_batch_above_the_data(tmp_path: Path) -> None:
    data = write_list(tmp_path)
    config = replace(CONFIG, precision="bfloat16", batch_size=64, epochs=2, validate_every=2)
    result = train(tiny(), data, tmp_path / "run", config)
    assert result.history[0]["val_miou_percent"] is None
    assert result.history[1]["val_miou_percent"] is not None


def test_schedule() -> None:
    config = TrainConfig(epochs=10, warmup_epochs=2.0)
    factors = [lr_factor(config, step, 5) for step in range(50)]
    np.testing.assert_allclose(factors[:11], [*np.arange(1, 11) / 10, 1.0])
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors[30] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.01
    poly = replace(config, schedule="poly")
    assert lr_factor(poly, 30, 5) == pytest.approx(0.5**0.9)
    assert lr_factor(replace(config, epochs=1), 0, 1) == 1.0  # a single step has no warm-up


def test_groups() -> None:
    module = tiny()
    scale = {"0": 0.1}
    optimizer = make_optimizer(module, CONFIG, lambda name: scale.get(name.split(".")[0], 1.0))
    found = {(g["scale"], g["weight_decay"]): len(g["params"]) for g in optimizer.param_groups}
    assert found == {(0.1, 0.01): 1, (1.0, 0.0): 4, (1.0, 0.01): 2}


def test_average() -> None:
    module = tiny()
    average = Average(module, 0.9)
    before = {name: tensor.clone() for name, tensor in state_tensors(module).items()}
    with torch.no_grad():
        for tensor in state_tensors(module).values():
            tensor.add_(1)
    average.update(module, 1000)
    for name, tensor in state_tensors(average.module).items():
        rise = 0.1 if tensor.is_floating_point() else 1  # counters are copied
        torch.testing.assert_close(tensor, before[name] + rise, msg=name)
    average.update(module, 0)  # early on the decay is 1/10
    torch.testing.assert_close(average.module[0].weight, before["0.weight"] + 0.91)  # type: ignore[index]


def test_deterministic_is_for_the_training_alone(tmp_path: Path) -> None:
    data, seen = write_list(tmp_path, 6), list[bool]()

    def look(_: int) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())

    once = replace(CONFIG, epochs=1, deterministic=True)
    plain, exact = tiny(), tiny()
    train(exact, data, tmp_path / "exact", once, after_step=look)
    assert seen
    assert all(seen)
    assert not torch.are_deterministic_algorithms_enabled()
    train(plain, data, tmp_path / "plain", replace(once, deterministic=False))
    assert same(plain, exact)


def test_tensorboard_has_every_epoch_once(tmp_path: Path) -> None:
    data, run, events = write_list(tmp_path, 12), tmp_path / "run", tmp_path / "events"
    with pytest.raises(StopError):
        train(tiny(), data, run, after_step=stop_at(7), on_epoch=board(events))
    result = train(tiny(), data, run, resume=True, on_epoch=board(events))
    seen = EventAccumulator(str(events)).Reload()  # type: ignore[no-untyped-call]
    for key, name in (("loss", "loss/train"), ("val_miou_percent", "accuracy/val mIoU, %")):
        found = [(each.step, each.value) for each in seen.Scalars(name)]
        assert [step for step, _ in found] == [1, 2, 3, 4]
        want = [float(record[key] or 0) for record in result.history]
        assert [value for _, value in found] == pytest.approx(want)
