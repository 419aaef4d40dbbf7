"""`mobileseg nets`: the zoo's networks, counted and priced; one of them as a tree and a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.export.tflite import write_tflite
from mobileseg.files import write_atomic
from mobileseg.latency.price import price
from mobileseg.nets.draw import draw
from mobileseg.nets.outline import Group, outline
from mobileseg.nets.spec import NetSpec, read_spec_file
from mobileseg.nets.zoo import ZOO, zoo_net
from mobileseg.recipe import Recipe, read_recipe, shipped_recipes
from mobileseg.workflow.device import device
from mobileseg.workflow.forms import Forms
from mobileseg.workflow.plan import find_net

_SIZE, _CLASSES = (256, 256), 2


def listing(name: str, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a row per network of the zoo at its recipe's size; name: the device to price for."""
    from mobileseg.workflow.structure import spec_graph  # noqa: PLC0415  (torch)

    profile, homes = device(name), _homes()
    rows = []
    for number, net in enumerate(ZOO, 1):
        say(f"{number}/{len(ZOO)} {net}")
        home = homes.get(net)
        spec = _at_home(net, home)
        int8 = spec_graph(spec, Forms(int8=True))
        priced = price(int8 if profile.int8 else spec_graph(spec, Forms(int8=False)), profile)
        rows.append(
            {
                "name": net,
                "recipe": home.name if home else None,
                "image_size": list(spec.image_size),
                "classes": spec.classes,
                "blocks": len(spec.blocks),
                "params": spec.params,
                "macs": spec.macs,
                "int8_bytes": len(write_tflite(int8)),
                "device": profile.name,
                "precision": "int8" if profile.int8 else "float32",
                "ms": priced.ms,
                "low_ms": priced.low_ms,
                "high_ms": priced.high_ms,
            }
        )
    return rows


def describe(
    given: str, image_size: tuple[int, int] | None, classes: int | None, svg: Path | None
) -> dict[str, Any]:
    """Return a network's blocks as a tree; write its picture where `svg` says.

    Size and classes are by default those of the network's recipe, or its file's own.
    """
    if given.endswith(".toml"):
        spec = read_spec_file(Path(given))
    else:
        spec = _at_home(given, _homes().get(given))
    wanted = (image_size or spec.image_size, classes or spec.classes)
    spec = find_net(given, *wanted, "nets show")
    if svg is not None:
        write_atomic(svg, draw(spec))
    sizes = spec.shapes()
    return {
        "name": spec.name,
        "image_size": list(spec.image_size),
        "classes": spec.classes,
        "params": spec.params,
        "macs": spec.macs,
        "heads": list(spec.heads()),
        "tree": [_entry(member, spec, sizes) for member in outline(spec)],
    }


def _entry(member: Any, spec: NetSpec, sizes: dict[str, Any]) -> dict[str, Any]:
    if isinstance(member, Group):
        inside = [_entry(each, spec, sizes) for each in member.members]
        params, macs = (sum(each[key] for each in inside) for key in ("params", "macs"))
        return {"group": member.name, "params": params, "macs": macs, "members": inside}
    block = member.resolve(spec.classes)
    inputs = [sizes[name] for name in block.inputs]
    return {
        "block": block.name,
        "kind": block.kind,
        "inputs": list(block.inputs),
        "size": list(sizes[block.name]),
        "params": block.params(inputs),
        "macs": block.macs(inputs),
    }


def _homes() -> dict[str, Recipe]:
    """Return the shipped recipe of each network: that of its own name, else the first of it."""
    found: dict[str, Recipe] = {}
    for name in shipped_recipes():
        recipe = read_recipe(name)
        if recipe.net not in found or recipe.net == name:
            found[recipe.net] = recipe
    return found


def _at_home(net: str, recipe: Recipe | None) -> NetSpec:
    if recipe is None:
        return zoo_net(net, _SIZE, _CLASSES, "nets")
    return zoo_net(net, recipe.image_size, len(recipe.data.classes), "nets")


def require_svg(path: Path) -> None:
    """Raise MobilesegError unless the path says that it is SVG."""
    if path.suffix != ".svg":
        raise MobilesegError(f"--svg {path}: is drawn as SVG; give a path that ends in .svg")
