"""The shipped networks beside others' files for people: accuracy, time and size in one run.

MediaPipe's selfie_segmentation.tflite is in PyPI's mediapipe 0.10.9 wheel, under
mediapipe/modules/selfie_segmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mobileseg.files import shipped
from mobileseg.latency.calibrate import visits
from mobileseg.latency.place import HERE, Job, run_job
from mobileseg.train.config import DataConfig
from mobileseg.train.evaluate import evaluate, load_eval
from mobileseg.train.pairs import pairs
from mobileseg.workflow.foreign import AS_IT_SAYS, file_predictor
from mobileseg.workflow.network import Pictures, Predict

# Far enough from 0 and 1 that a logit is a number.
_LEAST = 1e-6


def others(path: Path) -> tuple[Predict, tuple[int, int]]:
    """Return a file that takes pixels from 0 to 1 and says the probability of a person."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images: Pictures) -> np.ndarray[Any, np.dtype[np.float32]]:
        found = []
        for image in images:
            interpreter.set_tensor(given["index"], image[None].astype(np.float32) / 255)
            interpreter.invoke()
            chance = interpreter.get_tensor(made["index"])[0, ..., 0].clip(_LEAST, 1 - _LEAST)
            found.append(np.stack([np.zeros_like(chance), np.log(chance / (1 - chance))]))
        return np.stack(found).astype(np.float32)

    height, width = map(int, given["shape"][1:3])
    return predict, (height, width)


def rows(
    peers: Sequence[Path], lists: Sequence[Path], rounds: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return a row per file: bytes, median ms of one thread, class-mean mIoU per list.

    lists: `image mask` a line, class 1 a person. The shipped pictures come last.
    """
    mine = sorted(shipped("assets", "weights").glob("*.tflite"))
    job = Job(threads=1, rounds=rounds, ms=150)
    files = {path.name: path.read_bytes() for path in (*mine, *peers)}
    answer = run_job(HERE, job, files, lambda _done: None)
    known = [*lists, shipped("assets", "data", "public_figures", "test.txt")]
    made = []
    for path in (*mine, *peers):
        predict, size = file_predictor(path, AS_IT_SAYS) if path in mine else others(path)
        scores = {}
        for each in known:
            config = DataConfig(root=each.parent, train=Path(each.name), test=Path(each.name))
            found = load_eval(pairs(config, "test"), config, size)
            scores[f"{each.parent.name}/{each.stem}"] = round(
                evaluate(predict, found, boundary=False).as_dict()["miou_percent"], 2
            )
            say(f"{path.name}: {each} {scores}")
        made.append(
            {
                "file": path.name,
                "bytes": len(files[path.name]),
                "size": list(size),
                "ms": visits(answer["files"][path.name]).ms,
                "miou_percent": scores,
            }
        )
    return made
