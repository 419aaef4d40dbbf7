"""Files in the loaders of other people: MediaPipe's and Task Library's own ImageSegmenter."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mobileseg.graph.ir import Array

RUNNER = Path(__file__).parent / "consumers_runner.py"


def consumers_python() -> str:
    """Return the Python that has them; skip the test where none is named."""
    path = os.environ.get("MOBILESEG_CONSUMERS")
    if not path:
        pytest.skip(
            "MOBILESEG_CONSUMERS is not set; `sh tests/consumers.sh DIR` makes the environment and "
            "says it"
        )
    return path


@dataclass(frozen=True)
class Answers:
    """What each consumer said of each file of a folder, by the file's stem."""

    folder: Path
    said: Mapping[str, Mapping[str, str]]

    def held(self, stem: str, consumer: str) -> Mapping[str, Array]:
        """Return the masks by photo, and the labels."""
        with np.load(self.folder / f"{stem}.{consumer}.npz") as found:
            return dict(found)


def ask(folder: Path, photos: Mapping[str, Array]) -> Answers:
    """Let the consumers segment the photos (uint8, H x W x 3) with every .tflite of the folder."""
    np.savez(folder / "photos.npz", **photos)
    command = [consumers_python(), str(RUNNER), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return Answers(folder, json.loads((folder / "answers.json").read_text()))
