"""What a file shows to whoever loads it: inputs, outputs, and what it says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mobileseg.graph.ops import Shape


@dataclass(frozen=True)
class Note:
    """What a file's metadata say of an input or output.

    `content` is "image", another kind, or "" where nothing is said; `means` and `deviations` are
    None where no normalization is given, and there may be more `normalizations` than one.
    """

    name: str
    content: str = ""
    colours: str = ""
    normalizations: int = 0
    means: tuple[float, ...] | None = None
    deviations: tuple[float, ...] | None = None
    labels_file: str = ""


@dataclass(frozen=True)
class Edge:
    """An input or output: shape in the file's layout, 0 for a size left open; type in lower case.

    `scale` and `zero_point` are None without quantization; `made_by` is the operator that computes
    an output, before its values are moved or get another type.
    """

    name: str
    shape: Shape
    type: str
    scale: float | None = None
    zero_point: int | None = None
    made_by: str = ""

    def words(self) -> str:
        """Return type and shape as people read them."""
        sides = ", ".join(str(side) if side else "?" for side in self.shape)
        return f"{self.type} ({sides})"


@dataclass(frozen=True)
class Metadata:
    """A TFLite file's metadata.

    `inputs` and `outputs` are None where nothing describes them; `activation` where no segmenter's
    options are there.
    """

    min_parser_version: str
    inputs: tuple[Note, ...] | None = None
    outputs: tuple[Note, ...] | None = None
    activation: str | None = None


@dataclass(frozen=True)
class Surface:
    """A file from outside. `faults` are what of it cannot be read, by part."""

    where: str
    subgraphs: int
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    metadata: Metadata | None = None
    # The files packed behind it, None for those that are compressed.
    packed: Mapping[str, bytes | None] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    # Of an ONNX file: operator set, domains of operators that are not ONNX's, data in other files.
    opset: int = 0
    foreign_domains: tuple[str, ...] = ()
    outside_data: int = 0
    # The tool that wrote an ONNX file, as the file says.
    producer: str = ""

    @property
    def image(self) -> Edge | None:
        """The input that takes the picture: the first one."""
        return self.inputs[0] if self.inputs else None

    @property
    def masks(self) -> Edge | None:
        """The output that holds the masks: the last one."""
        return self.outputs[-1] if self.outputs else None

    @property
    def image_note(self) -> Note:
        """What the metadata say of the first input; of nothing, nothing."""
        held = self.metadata.inputs if self.metadata else None
        return held[0] if held else Note("")

    @property
    def masks_note(self) -> Note:
        """What the metadata say of the last output; of nothing, nothing."""
        held = self.metadata.outputs if self.metadata else None
        return held[-1] if held else Note("")

    @property
    def classes(self) -> int | None:
        """The number of masks, None where the output is no map or leaves it open."""
        masks = self.masks
        return masks.shape[3] if masks and len(masks.shape) == 4 and masks.shape[3] else None

    @property
    def labels(self) -> list[str]:
        """The classes' names in the packed file that the output's metadata name."""
        content = self.packed.get(self.masks_note.labels_file)
        return content.decode(errors="replace").splitlines() if content else []
