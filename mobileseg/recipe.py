"""TOML recipes to frozen dataclasses: a base network and named steps; every mistake listed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Gt, Le, Len

from mobileseg.errors import MobilesegError, unknown
from mobileseg.files import shipped
from mobileseg.nets.blocks import Side
from mobileseg.quantize.config import QuantizeConfig
from mobileseg.quantize.qat.config import QatConfig
from mobileseg.slim.actions import Actions
from mobileseg.slim.prune.config import Prune
from mobileseg.train.compress.config import Cluster, Sparse
from mobileseg.train.config import AugmentConfig, DataConfig, Distill, Seed, TrainConfig
from mobileseg.validate import Table, parse

# A run's or step's name is a folder's: nothing that climbs, hides or needs quoting.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Step(Actions):
    """One rung of the ladder: the actions of `slim.actions.Actions`, and how it is trained.

    name: of its folder. parent (key `from`): the step that it starts from; by default the one
    above.
    train: false for a rung that is only counted and priced; its children inherit through it.
    epochs_share: of the epochs of [train]; at least one. lr: instead of that of [train]. augment:
    instead of [augment], whole: what is not said here has its default.
    prune: takes filters away by what the step before has learnt; no other action beside it. With
    `rounds` it is read as so many steps, name-1, name-2, ..., name, that share the epochs.
    sparse, cluster: train weights that compress well; the network stays as it is. distill: what
    another network teaches it meanwhile.
    """

    name: str
    parent: str | None = field(default=None, metadata={"key": "from"})
    train: bool = True
    epochs_share: Annotated[float, Gt(0), Le(100)] = 1.0
    lr: Annotated[float, Gt(0)] | None = None
    augment: AugmentConfig | None = None
    prune: Prune | None = None
    sparse: Sparse | None = None
    cluster: Cluster | None = None
    distill: Distill | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe(Table):
    """A ladder of networks, its data, and how it is trained and quantized.

    name: of the folder of its runs. net: a name of the zoo, or the path of a .toml file beside the
    recipe that describes a network. image_size: (height, width) of the base. weights: a name in
    assets/weights, or the path of a .safetensors file beside the recipe. seed: of fresh weights,
    order and augmentation. devices: the phones that every rung is priced for; the first one judges.
    qat: how every trained step is trained on as int8; absent, none is. step: the ladder, from the
    base.
    """

    name: str
    net: str
    image_size: tuple[Side, Side]
    weights: str | None = None
    seed: Seed = 0
    devices: Annotated[tuple[str, ...], Len(1)] = ("pixel4",)
    data: DataConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    qat: QatConfig | None = None
    step: Annotated[tuple[Step, ...], Len(1)]

    def __getitem__(self, name: str) -> Step:
        for step in self.step:
            if step.name == name:
                return step
        raise unknown(self.name, "step", name, (step.name for step in self.step))

    def parent(self, step: Step) -> Step | None:
        """The step that `step` starts from; None for the base."""
        if step.parent is not None:
            return self[step.parent]
        position = self.step.index(step)
        return self.step[position - 1] if position else None

    def training(self, step: Step) -> TrainConfig:
        """How this step is trained."""
        epochs = max(1, round(self.train.epochs * step.epochs_share))
        lr = self.train.lr if step.lr is None else step.lr
        return dataclasses.replace(self.train, epochs=epochs, lr=lr)

    def augmentation(self, step: Step) -> AugmentConfig:
        """How the pictures that this step is trained on are changed."""
        return self.augment if step.augment is None else step.augment

    def with_changes(self, overrides: Sequence[str]) -> Recipe:
        """Return the recipe with `key.key=value` over its own. Raises MobilesegError listing every
        mistake.
        """
        table = self.as_dict()
        for override in overrides:
            _override(table, override)
        return read_recipe_data(table, "--set")

    def with_data(self, root: Path | None) -> Recipe:
        """Return the recipe with another data.root, if one is given."""
        if root is None:
            return self
        return dataclasses.replace(self, data=dataclasses.replace(self.data, root=root.resolve()))

    def as_dict(self) -> dict[str, Any]:
        """Return plain data that `read_recipe_data` takes back."""
        plain = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        for step in plain["step"]:
            step["from"] = step.pop("parent")
        return _without_none(plain)  # type: ignore[no-any-return]

    def digest(self) -> str:
        """A short hash of all that the recipe says, but for where the data lies."""
        plain = self.as_dict()
        plain["data"].pop("root")
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with mobileseg, by name."""
    return {path.stem: path for path in sorted(shipped("recipes").glob("*.toml"))}


def recipe_path(given: str) -> Path:
    """Return the file of a path or of a shipped recipe's name."""
    path = Path(given)
    if path.is_file():
        return path
    known = shipped_recipes()
    if given not in known:
        raise unknown(f"{given}: there is no such file", "shipped recipe", given, known)
    return known[given]


def recipe_text(given: str) -> str:
    """Return a recipe as text that works in any folder: its data.root is made absolute."""
    path = recipe_path(given)

    def absolute(match: re.Match[str]) -> str:
        return f'root = "{(path.resolve().parent / match[1]).resolve().as_posix()}"'

    return re.sub(r'^root = "([^"]*)"', absolute, _text(path), flags=re.MULTILINE)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MobilesegError(f"{path}: is no TOML: {error}") from None
    except OSError as error:
        raise MobilesegError(f"{path}: cannot be read ({error.strerror})") from None


def read_recipe(given: str, overrides: Sequence[str] = (), data_root: Path | None = None) -> Recipe:
    """Return the recipe of a path or of a shipped one's name.

    overrides: `key.key=value`, the value as TOML or a bare word. `data_root` replaces data.root;
    a relative data.root in the file is relative to the file. Raises MobilesegError that lists
    every mistake.
    """
    path = recipe_path(given)
    try:
        table = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as error:
        raise MobilesegError(f"{path}: is no TOML: {error}") from None
    if "blocks" in table:
        raise MobilesegError(
            f'{path}: describes a network, and no recipe; write one with net = "{path.name}", or '
            f"look at the network with mobileseg nets show {path}"
        )
    for override in overrides:
        _override(table, override)
    recipe = read_recipe_data(table, str(path))
    weights, net, folder = recipe.weights, recipe.net, path.resolve().parent
    if weights is not None and weights.endswith(".safetensors"):
        weights = str((folder / weights).resolve())
    if net.endswith(".toml"):
        net = str((folder / net).resolve())
    steps = tuple(_beside(step, folder) for step in recipe.step)
    recipe = dataclasses.replace(recipe, weights=weights, net=net, step=steps)
    return recipe.with_data(data_root or path.resolve().parent / recipe.data.root)


def _beside(step: Step, folder: Path) -> Step:
    """Return the step with its teacher's file, if it is one, beside the recipe."""
    if step.distill is None or not step.distill.of_file:
        return step
    teacher = str((folder / step.distill.teacher).resolve())
    return dataclasses.replace(step, distill=dataclasses.replace(step.distill, teacher=teacher))


def read_recipe_data(table: object, where: str) -> Recipe:
    """Return the recipe of plain data. Raises MobilesegError that lists every mistake."""
    renamed = table
    if isinstance(table, Mapping) and isinstance(table.get("step"), list):
        renamed = {**table, "step": [_rename_from(entry) for entry in table["step"]]}
    recipe = parse(Recipe, renamed, where)
    above = [None, *(step.name for step in recipe.step)]
    parts = [_rounds(step, before) for step, before in zip(recipe.step, above, strict=False)]
    numbers = [number for number, steps in enumerate(parts, 1) for _ in steps]
    recipe = dataclasses.replace(recipe, step=tuple(step for steps in parts for step in steps))
    mistakes = _mistakes(recipe, numbers)
    if mistakes:
        raise MobilesegError("\n".join(f"{where}: {mistake}" for mistake in mistakes))
    return recipe


def _rounds(step: Step, above: str | None) -> list[Step]:
    """Return the steps that a pruning in rounds is: each goes its part of the way, geometrically.

    above: the name of the step before.
    """
    if step.prune is None or step.prune.rounds == 1:
        return [step]
    rounds, budget = step.prune.rounds, step.prune.to
    assert budget is not None
    start = budget.of or step.parent or above
    steps = []
    for number in range(1, rounds + 1):
        # All of one step: a round that takes somewhat more leaves less to the next.
        part = dataclasses.replace(budget, of=start, way=budget.way * number / rounds)
        steps.append(
            dataclasses.replace(
                step,
                name=step.name if number == rounds else f"{step.name}-{number}",
                parent=step.parent if number == 1 else f"{step.name}-{number - 1}",
                epochs_share=step.epochs_share / rounds,
                prune=dataclasses.replace(step.prune, to=part, rounds=1),
            )
        )
    return steps


def _rename_from(entry: object) -> object:
    if not isinstance(entry, Mapping):
        return entry
    # `parent` is only the field's name: as a key it stays unknown.
    swap = {"from": "parent", "parent": "parent (write from)"}
    return {swap.get(key, key): value for key, value in entry.items()}


def _override(table: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise MobilesegError(f"--set {override}: is not of the form key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    for part in parents:
        below = table.setdefault(part, {})
        if not isinstance(below, dict):
            raise MobilesegError(f"--set {override}: {part!r} is no table")
        table = below
    table[last] = value


def _mistakes(recipe: Recipe, numbers: Sequence[int]) -> list[str]:
    """Return what the types alone cannot say, each with its place.

    numbers: of each step in the file, where a pruning in rounds is one.
    """
    found = []
    names = [step.name for step in recipe.step]
    places = [
        ("name", recipe.name),
        *((f"step[{i}].name", n) for i, n in zip(numbers, names, strict=True)),
    ]
    for place, name in places:
        if not _NAME.fullmatch(name):
            found.append(
                f"{place}: {name!r} is no folder's name; letters, digits, '.', '_' and '-', "
                "64 at most, the first a letter or digit"
            )
    if "report.json" in names:
        found.append("step.name: 'report.json' is the name of the ladder's own file")
    for index, (number, step) in enumerate(zip(numbers, recipe.step, strict=True)):
        first = names.index(step.name)
        if first != index:
            found.append(f"step[{number}].name: {step.name!r} is taken by step[{numbers[first]}]")
        above = names[:index]
        found += _wrong_names(number, above, "from", step.parent)
        if step.prune is not None:
            found += (f"step[{number}].prune: {wrong}" for wrong in _beside_prune(number, step))
            found += _wrong_names(number, above, "prune.to.of", step.prune.of)
            start = step.parent or (above[-1] if above else "")
            if start in above and not recipe[start].train:
                found.append(
                    f"step[{number}].prune: {start!r} has learnt nothing; leave out its "
                    "`train = false`"
                )
        if step.distill is not None and step.distill.teacher in names:
            teacher = step.distill.teacher
            found += _wrong_names(number, above, "distill.teacher", teacher)
            if teacher in above and not recipe[teacher].train:
                found.append(
                    f"step[{number}].distill.teacher: {teacher!r} has learnt nothing; leave out "
                    "its `train = false`"
                )
        trainings = [key for key in ("sparse", "cluster", "distill") if getattr(step, key)]
        if trainings and not step.train:
            found.append(f"step[{number}].train: {trainings[0]} is a training; leave out false")
        if step.sparse and step.cluster:
            found.append(f"step[{number}].cluster: give it the step after: it keeps what is zero")
    return found


def _wrong_names(number: int, above: Sequence[str], key: str, name: str | None) -> list[str]:
    if name is None or name in above:
        return []
    known = ", ".join(above) or "none"
    return [f"step[{number}].{key}: {name!r} is no step above this one; there are: {known}"]


def _beside_prune(number: int, step: Step) -> list[str]:
    wrong = []
    if number == 1:
        wrong.append("the first step has learnt nothing yet; train the network in a step before")
    plain = Actions()
    others = [f.name for f in dataclasses.fields(Actions) if f.name != "multiple_of"]
    given = [name for name in others if getattr(step, name) != getattr(plain, name)]
    if given:
        wrong.append(f"give {', '.join(given)} a step of their own")
    return wrong
