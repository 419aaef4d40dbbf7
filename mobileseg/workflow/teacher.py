"""Who teaches: a run's module or anybody's file, asked for batches and for whole pictures."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mobileseg.errors import MobilesegError
from mobileseg.files import write_atomic
from mobileseg.recipe import Recipe
from mobileseg.runs import Run, find_run
from mobileseg.train.config import IGNORE, Distill
from mobileseg.train.console import Display
from mobileseg.train.data import Dataset
from mobileseg.train.pairs import Pair, pictures_of
from mobileseg.train.pictures import read_image, resize_image
from mobileseg.workflow.foreign import AS_IT_SAYS, open_file
from mobileseg.workflow.network import Predict, load_net

# Probabilities of 0 and 1 have no logit; these are float32's steps beside them.
_LEAST = 1e-7


@dataclass(frozen=True)
class Teacher:
    """A trained network that is asked, and never trained itself.

    key: what its answers depend on. module: of a run, whose layers can be watched.
    """

    key: str
    size: tuple[int, int]
    module: nn.Module | None
    predict: Predict | None = None

    def ask(self, inputs: Tensor) -> Tensor:
        """Return logits of inputs [N, 3, H, W], (x - 128) / 128, resized to what it takes."""
        wide = F.interpolate(inputs, size=self.size, mode="bilinear", antialias=True)
        with torch.no_grad():
            if self.module is not None:
                found: Tensor = self.module(wide)
                return found
            assert self.predict is not None
            pixels = (wide * 128 + 128).round().clamp(0, 255).to(torch.uint8)
            images = pixels.permute(0, 2, 3, 1).cpu().numpy()
            answers = [self.predict(image[None]) for image in images]
            return _as_logits(torch.from_numpy(np.concatenate(answers))).to(inputs.device)

    def to(self, device: str) -> Teacher:
        """Move the module."""
        if self.module is not None:
            self.module.to(device)
        return self


def find_teacher(wish: Distill, recipe: Recipe, runs: Path, device: str) -> Teacher:
    """Return the step, run or file that the recipe names.

    Raises MobilesegError where there is none, or it knows other classes.
    """
    if wish.of_file:
        teacher = _of_file(Path(wish.teacher), recipe)
        if wish.watches:
            key = "features" if wish.features else "mimic"
            raise MobilesegError(
                f"distill.{key}: {wish.teacher} is a file, whose layers cannot be watched; "
                f"name a step or a run, or leave {key} out"
            )
    else:
        teacher = _of_run(wish.teacher, recipe, runs)
    teacher.to(device)
    probe = teacher.ask(torch.zeros(1, 3, *teacher.size, device=device))
    if probe.shape[1] != len(recipe.data.classes):
        raise MobilesegError(
            f"distill.teacher: {wish.teacher} tells {probe.shape[1]} classes apart, "
            f"the data has {len(recipe.data.classes)}"
        )
    return teacher


def _of_run(name: str, recipe: Recipe, runs: Path) -> Teacher:
    steps = {step.name for step in recipe.step}
    run = Run(runs / recipe.name / name) if name in steps else find_run(name, runs)
    if not run.trained:
        raise MobilesegError(f"distill.teacher: step {name!r} is not trained; climb to it first")
    net = load_net(run).requires_grad_(False)
    return Teacher(run.weights_digest, net.spec.image_size, net)


def _of_file(path: Path, recipe: Recipe) -> Teacher:
    found = open_file(path, AS_IT_SAYS, recipe.data.root)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Teacher(digest, found.size, None, found.predict)


def _as_logits(found: Tensor) -> Tensor:
    """Return logits of what a file says: those, probabilities, or one class's probability."""
    chances = float(found.min()) >= 0 and float(found.max()) <= 1
    if found.shape[1] == 1:
        one = found.clamp(_LEAST, 1 - _LEAST).logit() if chances else found
        return torch.cat([torch.zeros_like(one), one], dim=1)
    if chances and bool(((found.sum(1) - 1).abs() < 0.02).all()):
        return found.clamp(min=_LEAST).log()
    return found


def taught(
    wish: Distill, teacher: Teacher, recipe: Recipe, size: tuple[int, int], folder: Path, bar: bool
) -> Dataset:
    """Return the unlabelled pictures at `size` with the teacher's masks, `IGNORE` where unsure.

    The masks are kept in `folder`: they are asked for once.
    """
    assert wish.unlabelled is not None
    paths = pictures_of(recipe.data.root, wish.unlabelled)
    images = np.stack([resize_image(read_image(path), size) for path in paths])
    key = hashlib.sha256(
        json.dumps([teacher.key, wish.sure, size, *map(str, paths)]).encode()
    ).hexdigest()[:16]
    path = folder / f"taught-{key}.npy"
    if not path.is_file():
        masks = _masks(wish.sure, teacher, paths, size, bar)
        file = io.BytesIO()
        np.save(file, masks, allow_pickle=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, file.getvalue())
    try:
        masks = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise MobilesegError(f"{path}: is no array ({error}); delete it") from None
    if masks.shape != (len(paths), *size) or masks.dtype != np.uint8:
        raise MobilesegError(f"{path}: holds other masks; delete it")
    return Dataset(tuple(Pair(each, each) for each in paths), images, masks)


def _masks(
    sure: float, teacher: Teacher, paths: Sequence[Path], size: tuple[int, int], bar: bool
) -> NDArray[np.uint8]:
    masks = np.empty((len(paths), *size), np.uint8)
    with Display(len(paths), 0, bar) as display:
        for number, path in enumerate(paths):
            image = resize_image(read_image(path), teacher.size)
            inputs = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() - 128) / 128
            device = next(teacher.module.parameters()).device if teacher.module else "cpu"
            said = teacher.ask(inputs.to(device)).float().cpu()
            chance = F.interpolate(said, size=size, mode="bilinear").softmax(1)[0]
            best, label = chance.max(0)
            masks[number] = torch.where(best >= sure, label, IGNORE).to(torch.uint8).numpy()
            display.step(number + 1, "the teacher's masks")
    return masks
