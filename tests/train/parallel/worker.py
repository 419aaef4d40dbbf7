"""What the tests have several processes do: one of them, run as a program.

`python -m tests.train.parallel.worker FOLDER`, started by `launch`, leaves in FOLDER what it got.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.files import shipped
from mobileseg.nets.module import build
from mobileseg.nets.zoo import zoo_net
from mobileseg.train.compress.config import Sparse
from mobileseg.train.compress.sparse import Masks
from mobileseg.train.config import AugmentConfig, DataConfig, LossConfig, TrainConfig
from mobileseg.train.data import Dataset, pairs, read_pair, resize_image, resize_mask
from mobileseg.train.evaluate import load_eval
from mobileseg.train.loop import fit
from mobileseg.train.memory.lean import lean_forward, make_lean
from mobileseg.train.optim import state_tensors
from mobileseg.train.parallel.norm import make_synced
from mobileseg.train.parallel.ranks import ALONE, Ranks
from mobileseg.train.parallel.team import join

SIZE = (32, 48)
DATA = DataConfig(root=shipped("assets", "data", "portrait_sample"), test=Path("test.txt"))
BASE = TrainConfig(
    epochs=2,
    batch_size=7,  # one process gets 3 of them, the other 4
    optimizer="sgd",
    lr=0.05,
    loss=LossConfig(cross_entropy=1.0),
    class_weights=(1.0, 2.5),
    label_smoothing=0.1,
    checkpoint_seconds=0.0,
)
TRAININGS: dict[str, TrainConfig] = {
    "cross_entropy": BASE,
    # Heads count in full: of the network that has some.
    "headed": replace(BASE, auxiliary=1.0),
    "headed_in_parts": replace(BASE, auxiliary=1.0, accumulate=3),
    "lovasz_lean_adamw": replace(
        BASE,
        loss=LossConfig(cross_entropy=1.0, lovasz=0.5, dice=0.5),
        epochs=1,
        memory="lean",
        optimizer="adamw",
        lr=1e-3,
    ),
    # Its norms meet again on the way back, between the gradients.
    "recomputed": replace(BASE, epochs=1, recompute=("*",)),
}


class StopError(Exception):
    """Raised in the middle of a training."""


def doubled(net: nn.Module) -> nn.Module:
    """Return it in float64: what is left between two trainings is no rounding that has grown."""
    net.double().register_forward_pre_hook(lambda _, given: given[0].double())
    return net


class Normed(nn.Module):
    """A norm with and without an activation behind it, named as the zoo's blocks name them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU6()
        self.last = nn.BatchNorm2d(6, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.act(self.norm(x)) + x)
        return out


def normed(ranks: Ranks, lean: bool, low: bool = False) -> dict[str, Tensor]:
    """Return what two batches leave of a norm: outputs, gradients of this share, statistics."""
    module, draws = Normed(), Generator().manual_seed(8)
    for parameter in module.parameters():
        parameter.data.uniform_(0.5, 1.5, generator=draws)
    if lean:
        make_lean(module)
    if ranks.count > 1:
        make_synced(module, ranks)
    made: dict[str, Tensor] = {}
    for number in range(2):
        # Far from 0: sums of squares would drown.
        whole = torch.randn(5, 6, 7, 9, generator=draws) * 0.1 + 3
        wanted = torch.randn(5, 6, 7, 9, generator=draws)
        own = ranks.share(5)
        x = whole[own].contiguous(memory_format=torch.channels_last).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=low), lean_forward():
            out = module(x.bfloat16() if low else x)
        (out * wanted[own]).sum().backward()
        assert x.grad is not None
        made |= {f"{number}.out": out.detach().float(), f"{number}.x": x.grad}
    made |= {f"grad.{k}": p.grad for k, p in module.named_parameters() if p.grad is not None}
    return made | {f"buffer.{k}": v for k, v in module.named_buffers()}


def trained(
    config: TrainConfig,
    folder: Path,
    ranks: Ranks = ALONE,
    after_step: Callable[[int], None] | None = None,
    resume: bool = False,
    heads: bool = True,
) -> dict[str, Tensor]:
    """Return the weights of a small network of the zoo, trained on shipped photographs."""
    # Other first weights in every process: the first one's count.
    net = doubled(network(config, 3 + ranks.rank))
    sided = isinstance(net, Sided)
    asked = ["side", "edges"] if config.accumulate == 1 else ["side"]
    masks = Masks(net, Sparse(share=0.5, every=1), 4) if sided else None
    val = load_eval(pairs(DATA, "val")[:4], DATA, SIZE)
    fit(
        net,
        photographs(),
        val,
        DATA,
        config,
        AugmentConfig(paste=0.5),
        SIZE,
        folder,
        seed=11,
        ranks=ranks,
        progress=False,
        after_step=masks.after_step if masks else after_step,
        heads=asked if sided and heads else (),
        resume=resume,
        teach=lambda inputs, logits: (logits.mean(1) - inputs.mean(1)).square().mean(),
    )
    return state_tensors(net)


class Sided(nn.Module):
    """A network with two heads that it does not return the logits of."""

    def __init__(self, edges: bool) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.last = nn.Conv2d(8, 2, 1)
        self.side = nn.Conv2d(8, 2, 3, stride=2, padding=1)
        self.edges = nn.Conv2d(8, 1, 1) if edges else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x).relu()
        if self.training:
            self.side(x)
            if self.edges is not None:
                self.edges(x)
        out: Tensor = self.last(x)
        return out


def network(config: TrainConfig, seed: int) -> nn.Module:
    """Return a small one, with heads where they count in full.

    It has no norms, nor where it trains in parts a head for edges: they would see other parts.
    """
    if config.auxiliary != 1:
        return build(zoo_net("portrait_squeeze", SIZE, 2, "test"), seed)
    torch.manual_seed(seed)
    return Sided(edges=config.accumulate == 1)


def photographs() -> Dataset:
    """Return the first of the sample: the whole would take longer to read than to learn."""
    chosen = pairs(DATA, "train")[:14]
    read = [read_pair(pair, DATA) for pair in chosen]
    images = np.stack([resize_image(image, SIZE) for image, _ in read])
    return Dataset(chosen, images, np.stack([resize_mask(mask, SIZE) for _, mask in read]))


def stop(done: int) -> None:
    if done == 3:
        raise StopError


def broken(config: TrainConfig, folder: Path, ranks: Ranks) -> None:
    try:
        trained(config, folder, ranks, after_step=stop)
    except StopError:
        return


def results(folder: Path, ranks: Ranks) -> Mapping[str, dict[str, Tensor]]:
    """Return what this process gets, by case."""
    made = {
        "norm": normed(ranks, lean=False),
        "lean": normed(ranks, lean=True),
        "low": normed(ranks, lean=False, low=True),
    }
    for name, config in TRAININGS.items():
        made[name] = trained(config, folder / name / str(ranks.rank), ranks)
    try:
        trained(TRAININGS["headed"], folder / "odd" / str(ranks.rank), ranks, heads=False)
    except MobilesegError as error:
        (folder / f"odd.{ranks.rank}.txt").write_text(str(error))
    own = folder / "broken" / str(ranks.rank)
    broken(BASE, own, ranks)
    if ranks.first:
        # For another number of processes to go on from.
        shutil.copytree(own, folder / "left")
    made["resumed"] = trained(BASE, own, ranks, resume=True)
    return made


def do(job: str, folder: Path, ranks: Ranks) -> None:
    """Do one job of the team."""
    if job == "die" and not ranks.first:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "die":
        ranks.gathered(torch.zeros(1))
    for name, tensors in results(folder, ranks).items():
        whole = {key: value.contiguous() for key, value in tensors.items()}
        save_file(whole, folder / f"{name}.{ranks.rank}.safetensors")


def main() -> None:
    """Train together; then the second one dies while the first one waits for it."""
    folder, team = Path(sys.argv[1]), join()
    jobs = ({"do": name} for name in ("train", "die")) if team.leads else team.jobs()
    for job in jobs:
        with team.work(job, "cpu") as ranks:
            torch.set_num_threads(1)  # As the tests do.
            do(job["do"], folder, ranks)


if __name__ == "__main__":
    main()
