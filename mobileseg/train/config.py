"""What a recipe may say about data and training. Imports no torch: recipes load in no time."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Len, Lt

from mobileseg.validate import Table

IGNORE = 255
"""An ignored pixel in memory, whatever number the mask files use."""

Share: TypeAlias = Annotated[float, Ge(0), Le(1)]
Byte: TypeAlias = Annotated[int, Ge(0), Le(255)]
Zoom: TypeAlias = Annotated[float, Gt(0), Le(100)]
Colour: TypeAlias = tuple[Byte, Byte, Byte]
Positive: TypeAlias = Annotated[float, Gt(0)]
Source: TypeAlias = Path | Annotated[tuple[Path, ...], Len(1)]
# Upper bounds are where a typing mistake is likelier than a wish.
Epochs: TypeAlias = Annotated[int, Gt(0), Le(100_000)]
Seed: TypeAlias = Annotated[int, Ge(0), Lt(2**63)]  # what every random generator takes


@dataclass(frozen=True)
class DataConfig(Table):
    """Where images and masks are and how a mask file is read.

    `train`, `val`, `test` are paths relative to `root`, or lists of such, each one of
    - a list file with `image mask` per line (space or tab), relative to the list or to `root`;
    - a folder with `images/` and `masks/`, paired by file name;
    - CamVid's layout: a folder `train` of images beside a folder `trainannot` of masks.
    """

    root: Path = Path()  # relative to the recipe
    train: Source = Path("train.txt")
    val: Source | None = None  # absent: a seeded `val_share` of train is held out
    test: Source | None = None  # judged once, at the end
    # their names, in the order of their numbers
    classes: Annotated[tuple[str, ...], Len(2, 255)] = ("background", "person")
    # index: the grey value or palette index is the class number, `ignore` is ignored;
    # binary: grey >= threshold is class 1, all else class 0; nothing is ignored;
    # colour: RGB looked up in `colours`
    masks: Literal["index", "binary", "colour"] = "index"
    threshold: Annotated[int, Ge(1), Le(255)] = 128  # the middle: anti-aliased edges go either way
    ignore: Byte = 255  # the grey value that stands for no class
    colours: dict[str, tuple[Colour, ...]] = field(default_factory=dict)  # class or "ignore"
    val_share: Annotated[float, Gt(0), Lt(1)] = 0.1
    split_seed: Seed = 0  # of what is held out
    # megabytes; above it the decoded split is mapped from disk
    cache_mb: Annotated[int, Ge(0), Le(2**20)] = 2048

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes: a name occurs twice in {list(self.classes)}")
        if self.masks == "binary" and len(self.classes) != 2:
            raise ValueError(f"masks = 'binary' needs 2 classes, there are {len(self.classes)}")
        if self.masks == "index" and self.ignore < len(self.classes):
            name = self.classes[self.ignore]
            raise ValueError(f"ignore = {self.ignore} is the number of class {name!r}; use 255")
        if self.masks == "colour":
            self._check_colours()

    def _check_colours(self) -> None:
        known = {*self.classes, "ignore"}
        if wrong := sorted(set(self.colours) - known):
            raise ValueError(f"colours: {wrong} are no classes; there are: {sorted(known)}")
        if missing := sorted(set(self.classes) - set(self.colours)):
            raise ValueError(f"colours: none given for {missing}")
        every = [colour for group in self.colours.values() for colour in group]
        if len(set(every)) != len(every):
            raise ValueError("colours: one colour stands for two classes")


@dataclass(frozen=True)
class AugmentConfig(Table):
    """How far a training picture may be changed. 0 (or chance 0, range 1 to 1) switches off."""

    flip: Share = 0.5  # chance of a mirror image
    flip_vertical: Share = 0.0  # chance of one upside down: of what is seen from above
    quarter_turn: Share = 0.0  # chance of a turn by 90, 180 or 270 degrees
    scale: tuple[Zoom, Zoom] = (0.8, 1.4)  # zoom: people stand nearer and farther
    rotate_degrees: Annotated[float, Ge(0), Le(180)] = 10.0  # a hand-held phone's tilt
    shear_degrees: Annotated[float, Ge(0), Le(60)] = 0.0  # upright lines lean, either way
    translate: Share = 0.1  # of the side, either way
    crop: Annotated[float, Gt(0), Le(1)] = 1.0  # least share of each side that a window keeps
    brightness: Share = 0.15  # of the full range, either way
    contrast: Annotated[float, Ge(0), Lt(1)] = 0.2  # factor 1 - x to 1 + x about mid-grey
    saturation: Annotated[float, Ge(0), Le(1)] = 0.3  # factor 1 - x to 1 + x about grey
    hue_degrees: Annotated[float, Ge(0), Le(180)] = 0.0  # turn of the colours about grey
    grey: Share = 0.0  # chance of a picture without colour
    gamma: Annotated[float, Ge(0), Le(10)] = 0.3  # exponent 1/(1 + x) to 1 + x
    light: Share = 0.0  # one side is brighter by up to this factor, the other side darker
    blur: Share = 0.15  # chance; 5x5 binomial, random strength
    sharpen: Share = 0.0  # chance; what a blur would take is added
    coarse: Share = 0.0  # chance that every 2 to 4 pixels a side become one: poor cameras
    noise: Share = 0.03  # largest deviation, of the full range; a quarter of the pictures
    cutout: Share = 0.0  # chance that a box, up to half of each side, is mid-grey and ignored
    paste: Share = 0.0  # chance that what is not class 0 moves into another picture of the batch

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale = {list(self.scale)}: the first number is the smaller one")


@dataclass(frozen=True)
class LossConfig(Table):
    """The weight of each loss in the sum; a loss that is not named is not computed."""

    cross_entropy: Annotated[float, Ge(0)] = 0.0
    focal: Annotated[float, Ge(0)] = 0.0  # cross entropy of what is far off, gamma 2
    ohem: Annotated[float, Ge(0)] = 0.0  # cross entropy of the hard pixels alone
    bce: Annotated[float, Ge(0)] = 0.0  # each class against the rest
    dice: Annotated[float, Ge(0)] = 0.0
    lovasz: Annotated[float, Ge(0)] = 0.0
    lovasz_hinge: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        names = [f.name for f in fields(self)]
        if not any(getattr(self, name) for name in names):
            raise ValueError(f"loss: no weight above 0; name at least one of {names}")


@dataclass(frozen=True)
class TrainConfig(Table):
    """How a network is trained."""

    epochs: Epochs = 30  # passes over the training pictures
    # enough for batch norm, small enough for many steps
    batch_size: Annotated[int, Gt(0), Le(65536)] = 16
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 1e-3  # AdamW from scratch or ImageNet; SGD wants about 10x
    encoder_lr: Share = 1.0  # factor on `lr` for inherited layers
    weight_decay: Annotated[float, Ge(0)] = 1e-2  # AdamW's default; not on norms and biases
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9  # SGD only
    schedule: Literal["cosine", "poly"] = "cosine"  # poly: power 0.9, DeepLab's
    # fresh decoders send wild gradients at first
    warmup_epochs: Annotated[float, Ge(0), Le(100_000)] = 1.0
    loss: LossConfig = LossConfig(cross_entropy=1.0)  # cross_entropy alone, if there is no table
    # how much a class counts: the more, the rarer it is; or a number for each
    class_weights: Literal["none", "median_frequency"] | tuple[Positive, ...] = "none"
    # Of median_frequency: at 1 a rare class is seen where it is not, too, and mIoU falls.
    class_weights_power: Annotated[float, Gt(0), Le(1)] = 1.0
    auxiliary: Annotated[float, Ge(0), Le(10)] = 0.4  # of each head inside the network; PSPNet's
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0  # in cross entropy
    ema: Annotated[float, Ge(0), Lt(1)] = 0.99  # decay of the weights' average; 0 = off
    clip_norm: Annotated[float, Ge(0)] = 5.0  # 0 = off; stops the rare step that ruins a run
    # What layers compute in; weights and the loss stay float32. Half the memory, and on a GPU half
    # the time; a CPU without instructions for them is many times slower. float16 scales the loss.
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    # A batch is computed in so many parts, one after the other: less memory, and norms over less
    accumulate: Annotated[int, Gt(0), Le(65536)] = 1
    # lean: norms, activations, depthwise layers and resizes are computed again on the way back
    memory: Literal["plain", "lean"] = "plain"
    recompute: tuple[str, ...] = ()  # globs of blocks that keep what they read alone
    # the same bits again on a GPU too, slower there; on a CPU they are in any case
    deterministic: bool = False
    validate_every: Epochs = 1  # epochs; the last epoch always
    checkpoint_seconds: Annotated[float, Ge(0)] = 60.0  # at most so much work is lost by a kill

    def __post_init__(self) -> None:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate = {self.accumulate}: a batch of batch_size = {self.batch_size} "
                "pictures has not so many parts"
            )


@dataclass(frozen=True, kw_only=True)
class Distill(Table):
    """A trained network teaches this one, beside the masks.

    teacher: a step above, a run, or an exported .tflite or .onnx file beside the recipe. pixel:
    weight of the divergence from its probabilities at every pixel; channel: of that from where in
    the picture it sees each class; both at `temperature`. features: per block of this network the
    teacher's block whose map of attention it is to have; features_weight: of their sum. mimic: per
    block the teacher's block whose features a linear map of its own is to give; mimic_weight: of
    the sum of the shares of their variance that none gives yet. unlabelled: pictures, as folders or
    lists of files below data.root, that get the teacher's own mask where it is `sure`.
    """

    teacher: str
    pixel: Annotated[float, Ge(0)] = 1.0
    channel: Annotated[float, Ge(0)] = 0.0
    temperature: Annotated[float, Gt(0), Le(100)] = 1.0
    features: dict[str, str] = field(default_factory=dict)
    features_weight: Annotated[float, Gt(0)] = 100.0  # maps of unit length: their distance is small
    mimic: dict[str, str] = field(default_factory=dict)
    mimic_weight: Annotated[float, Gt(0)] = 1.0
    unlabelled: Source | None = None
    sure: Share = 0.8

    def __post_init__(self) -> None:
        if not (self.teaches or self.unlabelled):
            raise ValueError("teaches nothing; name pixel, channel, features, mimic or unlabelled")

    @property
    def watches(self) -> bool:
        """Whether layers of both networks are looked at."""
        return bool(self.features or self.mimic)

    @property
    def teaches(self) -> bool:
        """Whether something is added to the loss."""
        return bool(self.pixel or self.channel or self.watches)

    @property
    def of_file(self) -> bool:
        """Whether the teacher is an exported file."""
        return self.teacher.endswith((".tflite", ".onnx"))
