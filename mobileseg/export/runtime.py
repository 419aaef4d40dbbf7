"""Exported files at work in their real runtimes: LiteRT for .tflite, ONNX Runtime for .onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Array


class Runner(Protocol):
    """A loaded file. Images and results are `(N, C, H, W)` in the file's own types."""

    input_dtype: np.dtype[Any]
    image_size: tuple[int, int]

    def __call__(self, images: Array) -> Array:
        """Return the output for each image, run one by one."""
        ...

    def reals(self, result: Array) -> Array:
        """Return an integer result as the reals that its steps stand for, float32."""
        ...


def load(path: Path, threads: int = 1) -> Runner:
    """Return the file, loaded. Raises MobilesegError for a damaged file or an unknown ending."""
    if not path.is_file():
        raise MobilesegError(f"{path}: there is no such file; export one first")
    if path.suffix == ".tflite":
        return LiteRT(path, threads)
    if path.suffix == ".onnx":
        return OnnxRuntime(path, threads)
    raise MobilesegError(f"{path}: ends in neither .tflite nor .onnx")


class LiteRT:
    """A .tflite file in the LiteRT interpreter, XNNPACK included."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  (slow to import)

        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise MobilesegError(
                f"{path}: LiteRT cannot load it ({error}); export it again"
            ) from None
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self.input_dtype = np.dtype(self._input["dtype"])
        shape = [int(n) for n in self._input["shape"]]
        if len(shape) != 4 or shape[3] != 3:
            raise MobilesegError(f"{path}: takes {shape}; a segmenter takes (1, height, width, 3)")
        self.image_size = (shape[1], shape[2])

    def __call__(self, images: Array) -> Array:
        results = []
        for image in images.transpose(0, 2, 3, 1):
            given = np.ascontiguousarray(image[None])
            self._interpreter.set_tensor(self._input["index"], given)
            self._interpreter.invoke()
            results.append(self._interpreter.get_tensor(self._output["index"]))
        out: Array = np.concatenate(results)
        return out.transpose(0, 3, 1, 2) if out.ndim == 4 else out

    def reals(self, result: Array) -> Array:
        scale, zero_point = self._output["quantization"]
        if not scale:
            return result.astype(np.float32)
        return (result.astype(np.float32) - zero_point) * np.float32(scale)


class OnnxRuntime:
    """An .onnx file in ONNX Runtime on the CPU."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime  # noqa: PLC0415  (slow to import)

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        # ONNX Runtime's errors share no base class below Exception.
        except Exception as error:
            raise MobilesegError(
                f"{path}: ONNX Runtime cannot load it ({error}); export it again"
            ) from None
        given = self._session.get_inputs()[0]
        self._input = given.name
        types = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}
        if given.type not in types or len(given.shape) != 4:
            raise MobilesegError(f"{path}: takes {given.type} {given.shape}, which is no image")
        self.input_dtype = np.dtype(types[given.type])
        self.image_size = (int(given.shape[2]), int(given.shape[3]))
        meta = self._session.get_modelmeta().custom_metadata_map
        self._scale = float(meta.get("output_scale", 0))
        self._zero_point = int(meta.get("output_zero_point", 0))

    def __call__(self, images: Array) -> Array:
        parts = [self._session.run(None, {self._input: image[None]})[0] for image in images]
        return np.concatenate(parts)

    def reals(self, result: Array) -> Array:
        if not self._scale:
            return result.astype(np.float32)
        return (result.astype(np.float32) - self._zero_point) * np.float32(self._scale)


def pixels_as(images: Array, dtype: np.dtype[Any]) -> Array:
    """Return uint8 pictures `(N, H, W, 3)` as a file takes them: `(N, 3, H, W)` of its type.

    uint8: the pixel; int8: the pixel minus 128; float32: (pixel - 128) / 128.
    """
    moved = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    if dtype == np.uint8:
        return moved
    if dtype == np.int8:
        return (moved.astype(np.int16) - 128).astype(np.int8)
    return (moved.astype(np.float32) - 128) / 128
