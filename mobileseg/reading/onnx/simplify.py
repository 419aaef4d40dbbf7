"""An ONNX model through onnxsim, in a process of its own: native code, and a file of anybody's."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_SECONDS = 120
# Address space, not memory in use: the libraries themselves reserve a few.
_GIGABYTES = 16

_CHILD = """
import json, sys
try:
    import resource
    limit = int(sys.argv[4]) << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
except (ImportError, ValueError, OSError):
    pass
import onnx, onnxsim
shapes = json.loads(sys.argv[3])
with open(sys.argv[1], "rb") as file:
    model = onnx.ModelProto.FromString(file.read())
# onnxsim wants a shape for every output, which exporters may leave out.
model = onnx.shape_inference.infer_shapes(model)
simple, agrees = onnxsim.simplify(model, overwrite_input_shapes=shapes)
if not agrees:
    sys.exit(1)
with open(sys.argv[2], "wb") as file:
    file.write(simple.SerializeToString())
"""


def simplified(data: bytes, shapes: Mapping[str, Sequence[int]]) -> bytes | None:
    """Return the simpler model with inputs of these shapes, or None where onnxsim cannot."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.onnx", Path(folder) / "made.onnx"
        given.write_bytes(data)
        # -P: nothing in the working directory is taken for a module.
        command = [sys.executable, "-P", "-c", _CHILD, str(given), str(made)]
        words = [json.dumps({name: list(shape) for name, shape in shapes.items()})]
        try:
            done = subprocess.run(
                [*command, *words, str(_GIGABYTES)],
                capture_output=True,
                timeout=_SECONDS,
                check=False,
                cwd=folder,
            )
        except (subprocess.TimeoutExpired, OSError, ValueError):
            return None
        return made.read_bytes() if not done.returncode and made.is_file() else None
