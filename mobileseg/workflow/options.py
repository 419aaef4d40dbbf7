"""What can be asked of an export and of a search: known before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from mobileseg.errors import MobilesegError
from mobileseg.export.contract import Target
from mobileseg.workflow.forms import Forms

if TYPE_CHECKING:
    from mobileseg.quantize.edges import Interface
    from mobileseg.workflow.network import Output

Precision: TypeAlias = Literal["float32", "float16", "int8"]
Format: TypeAlias = Literal["tflite", "onnx"]

FORMATS: tuple[Format, ...] = get_args(Format)

# Task Library looks for the largest value above 0: logits, all negative, are class 0 to it.
_OUTPUTS: Mapping[Target, Output] = {"raw": "logits", "mediapipe": "logits", "task": "softmax"}


def default_output(target: Target) -> Output:
    """Return the output that the target's loader reads best."""
    return _OUTPUTS[target]


@dataclass(frozen=True)
class ExportOptions:
    """What file is wished for.

    quantize: keys in the place of the recipe's [quantize]. qat: whether an int8 file is of the
    run's quantization-aware training, where there is one. memory_plan: whether a .tflite file says
    where its activations lie. explain: whether to say what every pass does and where the memory
    goes; plot: folder for a picture of the memory.
    rewrite, devices: which exact forms of operators, and who decides; see `forms.Forms`.
    """

    precision: Precision = "int8"
    formats: tuple[Format, ...] = ("tflite",)
    interface: Interface = "uint8"
    output: Output = "logits"
    rewrite: str = "auto"
    devices: tuple[str, ...] = ()
    folder: Path | None = None
    memory_plan: bool = False
    explain: bool = False
    plot: Path | None = None
    quantize: Mapping[str, Any] = field(default_factory=dict)
    target: Target = "raw"
    qat: bool = True

    @property
    def forms(self) -> Forms:
        """What is asked of the operators."""
        return Forms(self.precision == "int8", self.rewrite, self.devices)

    def require(self) -> None:
        """Raise MobilesegError where the target's loader or int16 activations bar what is wished
        for, or where a rewrite or a device is none."""
        problems = [] if self.target == "raw" else self._refused(f"--target {self.target}")
        if self.quantize.get("activations") == "int16":
            problems += self._barred("--activations int16")
        if problems:
            raise MobilesegError("\n".join(problems))
        self.forms.require()

    def _refused(self, where: str) -> list[str]:
        found = []
        if "onnx" in self.formats:
            found.append(f"{where}: loads TFLite files only; leave out --format")
        if self.output == "argmax":
            found.append(f"{where}: takes a value per class, not class numbers; leave out --output")
        if self.target == "task" and self.output == "logits":
            found.append(
                f"{where}: calls class 0 where all logits are negative; leave out --output"
            )
        if self.precision == "int8" and self.interface == "int8":
            found.append(f"{where}: takes uint8 or float32, not int8; leave out --interface")
        return found

    def _barred(self, where: str) -> list[str]:
        found = []
        if "onnx" in self.formats:
            found.append(f"{where}: is of TFLite files only; leave out --format")
        if self.interface == "int8":
            found.append(f"{where}: takes uint8 or float32, not int8; leave out --interface")
        if self.devices:
            found.append(f"{where}: no device's profile prices it; leave out --device")
        if self.explain or self.plot is not None:
            found.append(f"{where}: --explain tells of int8 and float32; leave one out")
        return found


@dataclass(frozen=True)
class SearchOptions:
    """What a search is for, and how much of it.

    origin: the step whose network is changed. epochs: of the last round of trainings; rounds:
    how many there are, each half as long as the next. trials: candidates of the whole study,
    other workers' among them. storage: an SQLAlchemy URL; by default a file beside the runs.
    """

    runs: Path
    device: str
    budget_ms: float
    origin: str | None = None
    trials: int = 40
    epochs: int = 8
    rounds: int = 3
    storage: str | None = None
    compute: str = "cpu"

    def schedule(self) -> list[int]:
        """Return the epochs of each round."""
        return [max(1, self.epochs >> (self.rounds - 1 - i)) for i in range(self.rounds)]
