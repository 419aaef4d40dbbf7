"""`mobileseg predict`: masks and overlays for pictures, from a run or from an exported file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobileseg.errors import MobilesegError
from mobileseg.files import write_atomic
from mobileseg.nets.module import Net
from mobileseg.reading.read import ENDINGS
from mobileseg.report.picture import palette, tinted
from mobileseg.runs import find_run
from mobileseg.train.evaluate import labels_at, module_predict
from mobileseg.train.pictures import picture_paths, read_image, resize_image
from mobileseg.workflow.foreign import AS_IT_SAYS, FileOptions, file_predictor
from mobileseg.workflow.network import (
    Pictures,
    Predict,
    graph_predict,
    load_net,
)
from mobileseg.workflow.trained import load_trained


@dataclass(frozen=True)
class Predicted:
    """The files written for one picture, and the share of its pixels per class number."""

    image: Path
    mask: Path
    overlay: Path
    shares: dict[int, float]

    def words(self) -> str:
        """The shares of the classes that were found, as a person reads them."""
        found = [f"class {i} {100 * share:.1f} %" for i, share in self.shares.items() if i]
        return ", ".join(found) or "nothing found"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        files = {"image": self.image, "mask": self.mask, "overlay": self.overlay}
        return {key: str(path) for key, path in files.items()} | {"shares": self.shares}


def predict(
    model: str,
    given: Path,
    out: Path | None,
    runs: Path,
    qat: bool = True,
    say: Callable[[str], None] = lambda _: None,
    taken: FileOptions = AS_IT_SAYS,
) -> Iterator[Predicted]:
    """Yield each picture's mask (class numbers, with a palette) and overlay, both PNG.

    model: a run, or a .tflite or .onnx file. given: a picture, or a folder of them. out: by
    default the run's folder `predict`; a file by itself needs one. qat: whether a run that was
    trained as int8 predicts as that int8 graph. taken: how a file is to be taken. Raises
    MobilesegError before anything is written where two results would have one name, and after the
    last picture where some could not be read.
    """
    run_predict, size, default = _executor(model, runs, qat, say, taken)
    folder = out or default
    if folder is None:
        raise MobilesegError(f"{model}: belongs to no run; say where to write with --out")
    pictures = picture_paths(given)
    _require_names(pictures, folder)
    unread: list[str] = []
    for path in pictures:
        try:
            image = read_image(path)
        except MobilesegError as error:
            unread.append(str(error))
            continue
        logits = run_predict(resize_image(image, size)[None])[0]
        yield _write(path, image, labels_at(logits, image.shape[:2]), folder)
    if unread:
        raise MobilesegError("\n".join(unread))


def _executor(
    model: str, runs: Path, qat: bool, say: Callable[[str], None], taken: FileOptions
) -> tuple[Predict, tuple[int, int], Path | None]:
    path = Path(model)
    if path.suffix in ENDINGS:
        predict, size = file_predictor(path, taken)
        return predict, size, None
    run = find_run(model, runs)
    folder = run.folder / "predict"
    trained = load_trained(run) if qat else None
    if trained is not None:
        say(f"{run.name}: int8 as trained (mobileseg qat); --no-qat takes the float net")
        return graph_predict(trained.int8().graph), run.spec().image_size, folder
    net: Net = load_net(run)
    return module_predict(net), net.spec.image_size, folder


def _require_names(pictures: list[Path], folder: Path) -> None:
    """Raise MobilesegError where a result would overwrite another one, or a picture."""
    given = {path.resolve(): path for path in pictures}
    made: dict[Path, Path] = {}
    problems: list[str] = []
    for path in pictures:
        mask = _results(path, folder)[0]
        if mask in made:
            problems.append(f"{made[mask]} and {path}: both become {mask.name}; rename one")
        made[mask] = path
        problems += [
            f"{given[result.resolve()]}: {path}'s result would overwrite it; give another --out"
            for result in _results(path, folder)
            if result.resolve() in given
        ]
    if problems:
        raise MobilesegError("\n".join(problems))


def _results(path: Path, folder: Path) -> tuple[Path, Path]:
    return folder / f"{path.stem}_mask.png", folder / f"{path.stem}_overlay.png"


def _write(path: Path, image: Pictures, labels: Pictures, folder: Path) -> Predicted:
    colours = palette(int(labels.max()) + 1)
    mask = Image.fromarray(labels, mode="P")
    mask.putpalette(colours.ravel().tolist())
    files = _results(path, folder)
    for file, picture in zip(files, (mask, Image.fromarray(tinted(image, labels))), strict=True):
        buffer = io.BytesIO()
        picture.save(buffer, "png")
        write_atomic(file, buffer.getvalue())
    counts = np.bincount(labels.ravel())
    shares = {i: round(float(n) / labels.size, 4) for i, n in enumerate(counts) if n}
    return Predicted(path, *files, shares)
