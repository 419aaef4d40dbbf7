"""Each .tflite of a folder in MediaPipe's and in Task Library's ImageSegmenter, which run here.

    python consumers_runner.py FOLDER

FOLDER/photos.npz holds RGB photos, maybe of different sizes; for each file FOLDER/NAME.json gets
what each loader said, "ok" or its error, and FOLDER/NAME.CONSUMER.npz the category masks. A loader
may end the process, so each file has one of its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ImageSegmenter, ImageSegmenterOptions
from tflite_support.task import core, vision


def in_mediapipe(path, photos):
    options = ImageSegmenterOptions(
        base_options=BaseOptions(model_asset_path=str(path)),
        output_category_mask=True,
        output_confidence_masks=True,
    )
    found = {}
    with ImageSegmenter.create_from_options(options) as segmenter:
        found["labels"] = np.array(segmenter.labels, dtype=str)
        for name, photo in photos.items():
            image = mp.Image(image_format=mp.ImageFormat.SRGB, data=photo)
            result = segmenter.segment(image)
            found[name] = result.category_mask.numpy_view().squeeze(-1).copy()
            confidence = [mask.numpy_view().squeeze(-1).copy() for mask in result.confidence_masks]
            found[f"{name} confidence"] = np.stack(confidence)
    return found


def in_task(path, photos):
    options = vision.ImageSegmenterOptions(core.BaseOptions(file_name=str(path)))
    segmenter = vision.ImageSegmenter.create_from_options(options)
    found = {}
    for name, photo in photos.items():
        result = segmenter.segment(vision.TensorImage.create_from_array(photo)).segmentations[0]
        found[name] = np.array(result.category_mask)
        found["labels"] = np.array(
            [each.category_name for each in result.colored_labels], dtype=str
        )
    return found


CONSUMERS = {"mediapipe": in_mediapipe, "task": in_task}


def run(consumer, path, photos):
    """Write what the consumer made of the file, in a process of its own; return what it said."""
    said = path.with_suffix(f".{consumer}.txt")
    child = os.fork()
    if not child:
        try:
            np.savez(path.with_suffix(f".{consumer}.npz"), **CONSUMERS[consumer](path, photos))
            said.write_text("ok")
        except Exception as error:
            said.write_text(f"{error}")
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return said.read_text()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with np.load(folder / "photos.npz") as held:
        given = dict(held)
    answers = {
        path.stem: {consumer: run(consumer, path, given) for consumer in CONSUMERS}
        for path in sorted(folder.glob("*.tflite"))
    }
    (folder / "answers.json").write_text(json.dumps(answers, indent=2))
