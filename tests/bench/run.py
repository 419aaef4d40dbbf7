"""Train, write in both forms, check, time in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from mobileseg.export.arm.emulator import CORES
from mobileseg.export.arm.emulator import Job as ArmJob
from mobileseg.export.arm.setup import set_up
from mobileseg.export.check import Check, check_file
from mobileseg.export.onnx import write_onnx
from mobileseg.export.runtime import pixels_as
from mobileseg.export.tflite import write_tflite
from mobileseg.graph.ir import Array, Graph
from mobileseg.latency.calibrate import visits
from mobileseg.latency.place import HERE, Job, run_job
from mobileseg.nets.module import Net, build
from mobileseg.nets.spec import NetSpec
from mobileseg.quantize.calibrate import calibrate
from mobileseg.quantize.convert import quantize
from mobileseg.recipe import read_recipe
from mobileseg.train import data as train_data
from mobileseg.train.config import IGNORE
from mobileseg.train.data import Dataset
from mobileseg.workflow.forms import Forms, choose
from mobileseg.workflow.network import plain_graph

BATCH = 8
# Every net sees the same pictures: those of the shipped sample.
CALIBRATED, CHECKED = 64, 4
FORMS = {"plain": "none", "chosen": "auto"}


@dataclass(frozen=True)
class Written:
    """One file, and whether it computes what its graph does."""

    net: str
    precision: str
    form: str
    path: Path
    check: Check
    pixels: Array


def trained(spec: NetSpec, seconds: float) -> tuple[Net, Dataset]:
    """Return the network after so many seconds on the sample, and the sample at its size."""
    recipe = read_recipe("portrait_ladder")
    pictures = train_data.load(recipe.data, "train", spec.image_size)
    net = build(spec, seed=1)
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    random = np.random.default_rng(1)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        images, masks = pictures.batch(random.integers(0, len(pictures), BATCH))
        logits = net(torch.from_numpy(pixels_as(images, np.dtype(np.float32))))
        loss = F.cross_entropy(logits, torch.from_numpy(masks).long(), ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval(), pictures


def written(name: str, net: Net, pictures: Dataset, folder: Path) -> list[Written]:
    """Write the network's files: float32 and int8, plain and as chosen; check each.

    Beside them stands what other people's converters start from; see `peer_files`.
    """
    images = pixels_as(np.asarray(pictures.images[:CALIBRATED]), np.dtype(np.float32))
    plain = plain_graph(net)
    save_file(net.state_dict(), folder / f"{name}.safetensors")
    (folder / f"{name}.onnx").write_bytes(write_onnx(plain))
    np.save(folder / f"{name}.npy", np.ascontiguousarray(images.transpose(0, 2, 3, 1)))
    files = []
    for int8 in (False, True):
        for form, rewrite in FORMS.items():
            graph: Graph = choose(plain, Forms(int8, rewrite))(plain)
            if int8:
                graph = quantize(graph, calibrate(graph, np.split(images, 8)), "int8")
            precision = "int8" if int8 else "float32"
            path = folder / f"{name}-{precision}-{form}.tflite"
            path.write_bytes(write_tflite(graph))
            shown = np.asarray(pictures.images[:CHECKED])
            check = check_file(path, graph, shown)
            pixels = pixels_as(shown[:1], np.dtype(graph[graph.inputs[0]].dtype))
            files.append(Written(name, precision, form, path, check, pixels))
    return files


def timed(files: Sequence[Written], rounds: int, say: Callable[[int], None]) -> dict[Path, float]:
    """Return each file's median milliseconds on one thread, all files in turns."""
    job = Job(threads=1, rounds=rounds, ms=150)
    answer = run_job(HERE, job, {f.path.name: f.path.read_bytes() for f in files}, say)
    return {file.path: visits(answer["files"][file.path.name]).ms for file in files}


def counted(files: Sequence[Written], say: Callable[[str], None]) -> dict[Path, dict[str, int]]:
    """Return each file's instructions on emulated Arm cores, with and without dot product."""
    emulator = set_up(say)
    counts: dict[Path, dict[str, int]] = {file.path: {} for file in files}
    for core in CORES.values():
        say(f"running {len(files)} files on {core.name}")
        runs = emulator.run(core, [ArmJob(file.path, file.pixels) for file in files])
        for file, run in zip(files, runs, strict=True):
            counts[file.path][core.name] = run.instructions
    return counts


def rows(
    files: Sequence[Written],
    ms: Mapping[Path, float],
    counts: Mapping[Path, Mapping[str, int]],
) -> list[dict[str, Any]]:
    """Return one row per network and precision: the plain form beside the chosen one."""
    found = []
    for plain, chosen in zip(files[::2], files[1::2], strict=True):
        found.append(
            {
                "net": chosen.net,
                "precision": chosen.precision,
                "plain_ms": ms[plain.path],
                "chosen_ms": ms[chosen.path],
                "times_faster": ms[plain.path] / ms[chosen.path],
                "plain_pieces": plain.check.partitions,
                "chosen_pieces": chosen.check.partitions,
                "operators": chosen.check.operators,
                "problems": list(chosen.check.problems()),
                "share_equal": chosen.check.share_equal,
                "arm_million_instructions": {
                    core: [round(counts[f.path][core] / 1e6, 1) for f in (plain, chosen)]
                    for core in counts.get(chosen.path, {})
                },
            }
        )
    return found
