"""Exported files at work in their real runtimes: LiteRT for .tflite, ONNX Runtime for .onnx."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Array

# LiteRT checks a file's offsets and little else: a damaged one ends the process that loads it, or
# keeps it busy for ever. So a process of its own tries first.
_LITERT_TRIAL = """
import sys
from ai_edge_litert.interpreter import Interpreter
try:
    interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
    interpreter.allocate_tensors()
    interpreter.invoke()
except Exception as error:
    sys.exit(f"{error}")
"""
# With zeros; sizes that are open are 1 there, which few networks take: those are only loaded.
_ONNX_TRIAL = """
import sys
import numpy as np
import onnxruntime
TYPES = {"float": "f4", "float16": "f2", "double": "f8", "bool": "?", "uint8": "u1", "int8": "i1",
         "int32": "i4", "int64": "i8"}
try:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(sys.argv[1], options, ["CPUExecutionProvider"])
    given = session.get_inputs()
    if all(isinstance(side, int) for each in given for side in each.shape):
        zeros = {each.name: np.zeros(each.shape, TYPES[each.type[7:-1]]) for each in given}
        session.run(None, zeros)
except Exception as error:
    sys.exit(f"{error}")
"""
_TRIALS = {".tflite": _LITERT_TRIAL, ".onnx": _ONNX_TRIAL}
RUNTIMES = {".tflite": "LiteRT", ".onnx": "ONNX Runtime"}
_TRIAL_SECONDS = 60


class Runner(Protocol):
    """A loaded file. Images and results are `(N, C, H, W)` in the file's own types.

    `partitions` are the pieces that an accelerator took, None where the runtime does not say.
    """

    input_dtype: np.dtype[Any]
    image_size: tuple[int, int]
    partitions: int | None

    def __call__(self, images: Array) -> Array:
        """Return the output for each image, run one by one."""
        ...

    def reals(self, result: Array) -> Array:
        """Return an integer result as the reals that its steps stand for, float32."""
        ...


def load(
    path: Path,
    threads: int = 1,
    trusted: bool = False,
    size: tuple[int, int] | None = None,
    channels_last: bool = False,
) -> Runner:
    """Return the file, loaded. Raises MobilesegError for a damaged file or an unknown ending.

    trusted: written and checked by this process, so that no other one tries it first. Of .onnx
    files: size, the (height, width) that it leaves open; channels_last, how its output is laid out.
    """
    if not path.is_file():
        raise MobilesegError(f"{path}: there is no such file; export one first")
    if path.suffix == ".tflite":
        if not trusted:
            require_runs(path)
        return LiteRT(path, threads)
    if path.suffix == ".onnx":
        return OnnxRuntime(path, threads, size, channels_last)
    raise MobilesegError(f"{path}: ends in neither .tflite nor .onnx")


def require_runs(path: Path) -> None:
    """Run the file once in another process. Raises MobilesegError where that does not end well."""
    # -P: nothing in the working directory is taken for a module.
    command = [sys.executable, "-P", "-c", _TRIALS[path.suffix], str(path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TRIAL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        reason = f"no end after {_TRIAL_SECONDS} s"
    else:
        if not done.returncode:
            return
        lines = done.stderr.strip().splitlines() or [""]
        reason = lines[-1] if done.returncode > 0 else f"it ended by signal {-done.returncode}"
    raise _damaged(path, RUNTIMES[path.suffix], reason)


def _damaged(path: Path, runtime: str, reason: object) -> MobilesegError:
    return MobilesegError(f"{path}: {runtime} cannot run it ({reason}); export it again")


def _size(
    path: Path, shape: Sequence[Any], wished: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Return the height and width of an input `(1, 3, height, width)`; `wished` where open."""
    sides = [n if isinstance(n, int) and n > 0 else 0 for n in shape]
    # A batch that is open takes one picture, too.
    batch, channels, *map_sides = sides if len(sides) == 4 else [0] * 4
    height, width = (n or m for n, m in zip(map_sides, wished or (0, 0), strict=True))
    if batch > 1 or channels != 3 or not height or not width:
        raise MobilesegError(
            f"{path}: takes {list(shape)}; a segmenter takes (1, 3, height, width), in TFLite "
            "(1, height, width, 3)"
        )
    return height, width


def _is_channels_last(shape: Sequence[Any]) -> bool:
    return len(shape) == 4 and shape[3] == 3 and shape[1] not in {1, 3}


def _require_fit(runner: Runner, images: Array) -> None:
    if images.shape[1:] != (3, *runner.image_size) or images.dtype != runner.input_dtype:
        raise MobilesegError(
            f"the file takes {runner.input_dtype} images (N, 3, {runner.image_size[0]}, "
            f"{runner.image_size[1]}), not {images.dtype} {images.shape}"
        )


class LiteRT:
    """A .tflite file in the LiteRT interpreter, XNNPACK included. Trust the file: see `load`."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  (slow to import)

        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _damaged(path, "LiteRT", error) from None
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self.input_dtype = np.dtype(self._input["dtype"])
        shape = [int(n) for n in self._input["shape"]]
        self.image_size = _size(path, [shape[0], *shape[3:], *shape[1:3]])
        details = self._interpreter._get_ops_details()
        self.partitions: int | None = sum(each["op_name"] == "DELEGATE" for each in details)

    def __call__(self, images: Array) -> Array:
        _require_fit(self, images)
        results: list[Array] = []
        for image in images.transpose(0, 2, 3, 1):
            given = np.ascontiguousarray(image[None])
            self._interpreter.set_tensor(self._input["index"], given)
            self._interpreter.invoke()
            results.append(self._interpreter.get_tensor(self._output["index"]))
        out = np.concatenate(results)
        return np.moveaxis(out, 3, 1) if out.ndim == 4 else out

    def reals(self, result: Array) -> Array:
        scale, zero_point = self._output["quantization"]
        if not scale:
            return result.astype(np.float32)
        return (result.astype(np.float32) - int(zero_point)) * np.float32(scale)


class OnnxRuntime:
    """An .onnx file in ONNX Runtime on the CPU."""

    partitions: int | None = None

    def __init__(
        self,
        path: Path,
        threads: int = 1,
        size: tuple[int, int] | None = None,
        channels_last: bool = False,
    ) -> None:
        self._path, self._output_last = path, channels_last
        self._session = _session(path, threads)
        given = self._session.get_inputs()[0]
        self._input = given.name
        types = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}
        if given.type not in types:
            raise MobilesegError(f"{path}: takes {given.type}, which is no image")
        self.input_dtype = np.dtype(types[given.type])
        self._last = _is_channels_last(given.shape)
        shape = [given.shape[axis] for axis in (0, 3, 1, 2)] if self._last else given.shape
        self.image_size = _size(path, shape, size)
        try:
            meta = self._session.get_modelmeta().custom_metadata_map
            self._scale = float(meta.get("output_scale", 0))
            self._zero_point = int(meta.get("output_zero_point", 0))
        except ValueError as error:
            raise _damaged(path, "ONNX Runtime", error) from None

    def __call__(self, images: Array) -> Array:
        _require_fit(self, images)
        parts: list[Array] = []
        for image in images:
            try:
                given = image.transpose(1, 2, 0) if self._last else image
                parts += self._session.run(None, {self._input: given[None]})
            except Exception as error:
                raise _damaged(self._path, "ONNX Runtime", error) from None
        out = np.concatenate(parts)
        return np.moveaxis(out, 3, 1) if self._output_last and out.ndim == 4 else out

    def reals(self, result: Array) -> Array:
        if not self._scale:
            return result.astype(np.float32)
        return (result.astype(np.float32) - self._zero_point) * np.float32(self._scale)


def _session(path: Path, threads: int, optimised: Path | None = None) -> Any:
    import onnxruntime  # noqa: PLC0415  (slow to import)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Errors come as exceptions; warnings speak of the runtime's own rewriting.
    options.log_severity_level = 4
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's errors share no base class below Exception.
    except Exception as error:
        raise _damaged(path, "ONNX Runtime", error) from None


def optimised(path: Path) -> Any:
    """Return the model that ONNX Runtime makes of the file before it runs it."""
    import onnx  # noqa: PLC0415  (slow to import)

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "optimised.onnx"
        _session(path, 1, target)
        return onnx.load(target)


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
