"""Write a peer's files of the benchmark's networks: run by that peer's own Python, not by ours.

    python -m tests.bench nets --out DIR
    python3 -m venv P && P/bin/pip install . litert-torch
    P/bin/python -m tests.bench.peer_files litert_torch DIR
    python3 -m venv Q && Q/bin/pip install onnx2tf
    PATH=Q/bin:$PATH Q/bin/python -m tests.bench.peer_files onnx2tf DIR
    python -m tests.bench peers DIR

DIR holds the weights `A.safetensors`, the plain float network `A.onnx` and 64 pictures `A.npy`,
`(64, H, W, 3)`, as the network takes them. Each peer gets its defaults, and int8 the pictures.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# ruff: noqa: PLC0415  (each peer is in an environment of its own, with nothing of the other's)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    for path in sorted(asked.folder.glob("?.onnx")):
        print(path.stem, file=sys.stderr, flush=True)
        PEERS[asked.peer](path.stem, asked.folder)


def litert_torch(name: str, folder: Path) -> None:
    """litert-torch, and ai-edge-quantizer for int8."""
    import litert_torch as converter  # type: ignore[import-not-found]
    import torch
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe  # type: ignore[import-not-found]
    from safetensors.torch import load_file

    from mobileseg.nets.module import build
    from tests.bench.nets import NETS

    spec = NETS[name]()
    net = build(spec)
    net.load_state_dict(load_file(folder / f"{name}.safetensors"))

    class ChannelsLast(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> Any:
            return self.net(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    path = folder / f"{name}-float32-litert_torch.tflite"
    converter.convert(ChannelsLast().eval(), (torch.zeros(1, *spec.image_size, 3),)).export(
        str(path)
    )
    signature, sides = next(iter(Interpreter(str(path)).get_signature_list().items()))
    pictures = np.load(folder / f"{name}.npy")
    maker = quantizer.Quantizer(str(path))
    maker.load_quantization_recipe(recipe.static_wi8_ai8())
    shown = {signature: [{sides["inputs"][0]: picture[None]} for picture in pictures]}
    made = maker.quantize(maker.calibrate(shown))
    made.export_model(str(folder / f"{name}-int8-litert_torch.tflite"), overwrite=True)


def onnx2tf(name: str, folder: Path) -> None:
    """onnx2tf, and TensorFlow's converter for int8."""
    pictures = folder / f"{name}.npy"
    with tempfile.TemporaryDirectory() as scratch:
        # Without a sample of this name it fetches one, to compare what nobody asks for.
        sample = np.load(pictures)[:20, :128, :128] / 2 + 0.5
        np.save(Path(scratch) / "calibration_image_sample_data_20x128x128x3_float32.npy", sample)
        command = [str(Path(sys.executable).with_name("onnx2tf")), "-n", "-oiqt", "-o", "made"]
        # It simplifies the file that it is given, in place.
        command += ["-i", str(shutil.copy(folder / f"{name}.onnx", scratch))]
        command += ["-cind", "image", str(pictures.resolve()), "[[[[0,0,0]]]]", "[[[[1,1,1]]]]"]
        subprocess.run(command, cwd=scratch, check=True)
        for kind, written in (("float32", "float32"), ("int8", "full_integer_quant")):
            source = Path(scratch) / "made" / f"{name}_{written}.tflite"
            shutil.copy(source, folder / f"{name}-{kind}-onnx2tf.tflite")


PEERS: Mapping[str, Callable[[str, Path], None]] = {
    "litert_torch": litert_torch,
    "onnx2tf": onnx2tf,
}

if __name__ == "__main__":
    main()
