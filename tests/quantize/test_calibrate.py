"""Ranges are means over images, and what cannot be one is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mobileseg.errors import MobilesegError
from mobileseg.graph import ops
from mobileseg.graph.ir import Graph
from mobileseg.quantize.calibrate import calibrate
from tests.graph.build import graph


def made() -> Graph:
    return graph((1, 3, 2, 4), ("y", ops.Activation("relu"), "image"))


def test_range_is_the_mean_of_each_images_extremes() -> None:
    images = np.zeros((3, 3, 2, 4), np.float32)
    images[:, 0, 0, 0] = [1.0, 2.0, 6.0]
    images[:, 1, 0, 0] = [-1.0, -3.0, -5.0]
    # In two batches of unequal size: images count, not batches.
    ranges = calibrate(made(), [images[:2], images[2:]])
    assert ranges == {"image": (-3.0, 3.0), "y": (0.0, 3.0)}


def test_no_images() -> None:
    with pytest.raises(MobilesegError, match="calibration: no images"):
        calibrate(made(), [])


def test_a_tensor_that_is_not_finite_is_named() -> None:
    conv = graph((1, 3, 2, 4), ("y", ops.Conv2d(), "image", {"w": (5, 3, 1, 1)}))
    broken = replace(conv["w"], data=np.full((5, 3, 1, 1), np.nan, np.float32))
    with pytest.raises(MobilesegError, match=r"y: ranges over .* NaN"):
        calibrate(conv.with_tensors([broken]), [np.ones((1, 3, 2, 4), np.float32)])
