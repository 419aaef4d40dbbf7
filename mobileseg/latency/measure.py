"""An exported file -> its times on this machine, in the runtime that phones use.

.tflite runs in LiteRT, .onnx in ONNX Runtime. Whole times come from the ordinary Python interface;
times per operator from the runtime's own profiler. Where LiteRT's cannot be used, `how` says why
and the operators are missing, never guessed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Graph
from mobileseg.latency.kernels import kernel_of


@dataclass(frozen=True)
class Operator:
    """One event of the runtime's profiler: its own name for the operator, median over the runs."""

    name: str
    us: float


@dataclass(frozen=True)
class Measurement:
    """Times of one file. `how` names the runtime and the way operators were timed.

    threads, runs: None where somebody else measured and does not say.
    """

    path: Path
    runtime: str
    threads: int | None
    runs: int | None
    median_ms: float
    p90_ms: float
    operators: tuple[Operator, ...]
    how: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "file": self.path.name,
            "runtime": self.runtime,
            "threads": self.threads,
            "runs": self.runs,
            "median_ms": self.median_ms,
            "p90_ms": self.p90_ms,
            "operators": [{"name": one.name, "us": one.us} for one in self.operators],
            "how": self.how,
        }


def measure(path: Path, threads: int = 1, runs: int = 50, warmup: int = 10) -> Measurement:
    """Run a file on zeros and return its times. Raises MobilesegError if it cannot run."""
    for name, value, least in (("threads", threads, 1), ("runs", runs, 1), ("warmup", warmup, 0)):
        if value < least:
            raise MobilesegError(f"measure: {name} = {value}; at least {least}")
    if not path.is_file():
        raise MobilesegError(f"{path}: there is no such file; export one first")
    way = RUNTIMES.get(path.suffix)
    if way is None:
        raise MobilesegError(f"{path}: ends in none of {', '.join(RUNTIMES)}")
    return way(path, threads, runs, warmup)


Matched: TypeAlias = float | Literal["fused"] | None


def match(graph: Graph, measurement: Measurement) -> list[Matched]:
    """Return microseconds per node of the graph that the file was written from.

    ONNX Runtime keeps the nodes' names. LiteRT keeps their order: there events and nodes are walked
    together and paired where the event's name fits the node's kernel. A node that the runtime
    folded into its neighbour is "fused"; one that cannot be told is None.
    """
    kernels = [kernel_of(graph, node) for node in graph.nodes]
    constant = [bool(node.inputs) and not graph.activations(node) for node in graph.nodes]
    words = [
        () if still else EVENTS[kernel] for kernel, still in zip(kernels, constant, strict=True)
    ]
    named = _by_name(graph, words, measurement)
    if named is not None:
        return named
    # The runtime's own operators (a transpose, a copy) fit no node and stand for none.
    merged = _merged([_kind_alone(one, measurement) for one in measurement.operators])
    events = [event for event in merged if any(_fits(some, event) for some in words)]
    found: list[Matched] = ["fused"] * len(kernels)
    # LiteRT lists all operators of the delegate first, then the plain kernels, in capitals.
    for plain in (False, True):
        listed = [event for event in events if event.name.isupper() == plain]
        free = [some if us == "fused" else () for some, us in zip(words, found, strict=True)]
        pairs = _align(free, listed)
        if sum(i is not None for i in pairs) < len(listed):
            return [None] * len(kernels)
        found = [us if i is None else listed[i].us for us, i in zip(found, pairs, strict=True)]
    return found if events else [None] * len(kernels)


def _by_name(
    graph: Graph, words: Sequence[Sequence[str]], measurement: Measurement
) -> list[Matched] | None:
    """Return the times of an .onnx file's nodes; None where an event's name is no node's.

    ONNX Runtime runs nodes in an order of its own and gives names of its own to what it merges.
    """
    if measurement.path.suffix != ".onnx":
        return None
    names = [(node.layer, node.output) for node in graph.nodes]
    known = {name for both in names for name in both}
    spent: dict[str, float] = {}
    for one in measurement.operators:
        name = _ENDING.sub("", one.name.partition(" ")[2])
        if name in known:
            spent[name] = one.us
        elif any(_fits(some, _kind_alone(one, measurement)) for some in words):
            return None
    keys = (next((name for name in both if name in spent), "") for both in names)
    return [spent.pop(key, "fused") for key in keys] if spent else None


# What ONNX Runtime appends to the name of a node that it moved to another layout, or quantized.
_ENDING = re.compile(r"(_nchwc|_token_\d+)+$")


def _kind_alone(one: Operator, measurement: Measurement) -> Operator:
    """ONNX Runtime appends the node's name, in which a word may stand for anything."""
    if measurement.path.suffix != ".onnx":
        return one
    return Operator(one.name.partition(" ")[0], one.us)


def _merged(operators: Sequence[Operator]) -> list[Operator]:
    """XNNPACK runs a concatenation as copies, one after the other: count them as one."""
    merged: list[Operator] = []
    for one in operators:
        if merged and one.name.startswith("Copy") and merged[-1].name == one.name:
            merged[-1] = Operator(one.name, merged[-1].us + one.us)
        else:
            merged.append(one)
    return merged


def _fits(words: Sequence[str], event: Operator) -> bool:
    name = event.name.lower().replace("_", "").replace(" ", "")
    for mark, parts in MARKS.items():
        if any(part in name for part in parts):
            return mark in words
    return any(word in name for word in words)


def _align(words: Sequence[Sequence[str]], events: Sequence[Operator]) -> list[int | None]:
    """Longest common subsequence of nodes and events, earliest first."""
    rows, columns = len(words), len(events)
    fits = [[_fits(some, event) for event in events] for some in words]
    length = np.zeros((rows + 1, columns + 1), np.int64)
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            both = length[i + 1, j + 1] + 1 if fits[i][j] else 0
            length[i, j] = max(both, length[i + 1, j], length[i, j + 1])
    pairs: list[int | None] = [None] * rows
    i = j = 0
    while i < rows and j < columns:
        if fits[i][j] and length[i, j] == length[i + 1, j + 1] + 1:
            pairs[i], i, j = j, i + 1, j + 1
        elif length[i + 1, j] >= length[i, j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _litert(path: Path, threads: int, runs: int, warmup: int) -> Measurement:
    """Whole times without the profiler, which costs a few percent; then operators with it."""
    whole, version = _litert_whole(path, threads, runs, warmup)
    answer = _in_a_process(path, threads, runs, warmup)
    operators: tuple[Operator, ...] = ()
    how = f"whole network only: {answer.get('unsupported')}"
    if "operators" in answer:
        operators = medians(answer["operators"])
        how = "LiteRT's profiler"
    return Measurement(
        path,
        f"LiteRT {version}",
        threads,
        runs,
        float(np.median(whole)) / 1e6,
        float(np.percentile(whole, 90)) / 1e6,
        operators,
        how,
    )


def _litert_whole(path: Path, threads: int, runs: int, warmup: int) -> tuple[list[int], str]:
    import ai_edge_litert  # noqa: PLC0415
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise MobilesegError(f"{path}: LiteRT cannot load it ({error}); export it again") from None
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    return _clock(interpreter.invoke, runs, warmup), str(ai_edge_litert.__version__)


def _clock(run: Callable[[], object], runs: int, warmup: int) -> list[int]:
    """Nanoseconds of every run after the warm-up."""
    for _ in range(warmup):
        run()
    spent = []
    for _ in range(runs):
        begin = time.perf_counter_ns()
        run()
        spent.append(time.perf_counter_ns() - begin)
    return spent


# A network that needs a minute per run is no phone's; more means that the child hangs.
_PATIENCE_S = 60.0


def _in_a_process(path: Path, threads: int, runs: int, warmup: int) -> dict[str, Any]:
    numbers = [str(number) for number in (threads, runs, warmup)]
    command = [sys.executable, "-m", "mobileseg.latency.litert_profile", str(path), *numbers]
    patience = _PATIENCE_S * (1 + (runs + warmup) / 10)
    try:
        done = subprocess.run(command, capture_output=True, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return {"unsupported": f"the profiler gave no answer in {patience:.0f} s"}
    lines = done.stdout.decode(errors="replace").splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"unsupported": f"the profiler's process ended with status {done.returncode}"}
    return answer if isinstance(answer, dict) else {"unsupported": "the profiler's answer is odd"}


def medians(runs: Sequence[Sequence[tuple[str, float]]]) -> tuple[Operator, ...]:
    """Median per position over the runs that list the same operators as the first."""
    names = [name for name, _ in runs[0]]
    same = [[us for _, us in run] for run in runs if [name for name, _ in run] == names]
    return tuple(
        Operator(name, float(us)) for name, us in zip(names, np.median(same, axis=0), strict=True)
    )


def _onnx(path: Path, threads: int, runs: int, warmup: int) -> Measurement:
    """Whole times of one session; operators of a second one that writes a profile."""
    import onnxruntime as ort  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        session = _session(path, threads, None)
        feed = _zeros(session)
        whole = _clock(lambda: session.run(None, feed), runs, warmup)
        profiled = _session(path, threads, Path(folder) / "profile")
        for _ in range(warmup + runs):
            profiled.run(None, feed)
        trace = json.loads(Path(profiled.end_profiling()).read_text(encoding="utf-8"))
    return Measurement(
        path,
        f"ONNX Runtime {ort.__version__}",
        threads,
        runs,
        float(np.median(whole)) / 1e6,
        float(np.percentile(whole, 90)) / 1e6,
        _onnx_operators(trace, warmup),
        "ONNX Runtime's profiler",
    )


def _session(path: Path, threads: int, profile: Path | None) -> Any:
    import onnxruntime as ort  # noqa: PLC0415

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types, which it does not export
        reason = str(error).splitlines()[0]
        raise MobilesegError(
            f"{path}: ONNX Runtime cannot load it ({reason}); export it again"
        ) from None


def _zeros(session: Any) -> dict[str, Any]:
    types: Mapping[str, type[np.generic]] = {
        "tensor(float)": np.float32,
        "tensor(uint8)": np.uint8,
        "tensor(int8)": np.int8,
    }
    return {
        one.name: np.zeros([n if isinstance(n, int) else 1 for n in one.shape], types[one.type])
        for one in session.get_inputs()
    }


def _onnx_operators(trace: Sequence[Mapping[str, Any]], warmup: int) -> tuple[Operator, ...]:
    """Median per node over the runs after the warm-up, in running order."""
    spent: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for event in trace:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            name = str(event["name"]).removesuffix("_kernel_time")
            spent.setdefault(name, []).append(float(event["dur"]))
            kinds[name] = str(event["args"]["op_name"])
    return tuple(
        Operator(f"{kinds[name]} {name}", float(np.median(times[warmup:])))
        for name, times in spent.items()
    )


# Names that say more than the words within them: they fit kernels that list the mark, no others.
MARKS: dict[str, tuple[str, ...]] = {
    "@depthwise": ("dwconv", "depthwise"),
    "@transposed": ("deconv", "transposeconv", "convtranspose"),
    "dequantize": ("dequantize",),
}

# Words of XNNPACK's, TFLite's and ONNX's names for our kernels, in lower case, without blanks and
# underscores.
_PRODUCT = ("conv", "fullyconnected")
EVENTS: dict[str, tuple[str, ...]] = {
    "pointwise": _PRODUCT,
    "dense": _PRODUCT,
    "dilated": _PRODUCT,
    "grouped": _PRODUCT,
    "depthwise": ("@depthwise", "conv"),
    "depthwise_dilated": ("@depthwise", "conv"),
    "transposed": ("@transposed",),
    "relu": ("relu", "clamp"),
    "sigmoid": ("sigmoid", "logistic"),
    "hard_swish": ("hardswish", "hswish"),
    "hard_sigmoid": ("hardsigmoid",),
    "neg": ("neg",),
    # A chain that became a table has no name of its own there.
    "add": ("add", "unaryop"),
    "mul": ("mul", "unaryop"),
    "concat": ("concat", "copy("),
    "pad": ("pad",),
    "crop": ("slice",),
    "depth_to_space": ("depthtospace",),
    "max_pool": ("maxpool",),
    "mean_pool": ("averagepool", "batchmat"),
    "global_mean": ("mean", "averagepool", "reduce"),
    "resize_bilinear": ("resize",),
    "resize_nearest": ("resize",),
    "softmax": ("softmax",),
    "argmax": ("argmax",),
    "quantize": ("quantize", "convert"),
    "dequantize": ("dequantize", "convert"),
}

RUNTIMES: dict[str, Callable[[Path, int, int, int], Measurement]] = {
    ".tflite": _litert,
    ".onnx": _onnx,
}
