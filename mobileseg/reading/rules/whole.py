"""Rules of the file as a whole: its parts, its metadata, the files packed behind it."""

from __future__ import annotations

from mobileseg.reading.rules.rule import Found, names
from mobileseg.reading.surface import Surface

_NEWEST_METADATA = (1, 5, 0)


def some_input(surface: Surface) -> Found:
    mend = "" if surface.inputs and surface.outputs else "export a network with both"
    return f"{len(surface.inputs)} in, {len(surface.outputs)} out", mend


def fixed_sizes(surface: Surface) -> Found:
    edges = (*surface.inputs, *surface.outputs)
    is_open = any(0 in edge.shape for edge in edges)
    return names(edges), "export it for one size, with a batch of 1" if is_open else ""


def one_subgraph(surface: Surface) -> Found:
    mend = "export the network without loops and branches" if surface.subgraphs != 1 else ""
    return f"{surface.subgraphs}", mend


def metadata_readable(surface: Surface) -> Found:
    if "metadata" in surface.faults:
        return surface.faults["metadata"], "write them anew: mobileseg export does"
    if surface.metadata is None:
        return "there are none", ""
    version = surface.metadata.min_parser_version
    numbers = [int(each) for each in version.split(".") if each.isdecimal()]
    kept = tuple(numbers) <= _NEWEST_METADATA
    newest = ".".join(map(str, _NEWEST_METADATA))
    return (
        f"need a parser of {version or 'any version'}",
        "" if kept else f"write them for {newest}",
    )


def metadata_present(surface: Surface) -> Found:
    mend = "older versions crash without; write them: mobileseg export does"
    if surface.metadata is None or not surface.metadata.outputs:
        return "none of the output", mend
    return "there", ""


def metadata_counts(surface: Surface) -> Found | None:
    if surface.metadata is None:
        return None
    given, made = len(surface.metadata.inputs), len(surface.metadata.outputs)
    kept = (given, made) == (len(surface.inputs), len(surface.outputs))
    said = f"{given} of {len(surface.inputs)} inputs, {made} of {len(surface.outputs)} outputs"
    return said, "" if kept else "describe every input and output, in their order"


def files_readable(surface: Surface) -> Found | None:
    if "packed files" in surface.faults:
        return surface.faults["packed files"], "pack them anew: zip -0, appended to the file"
    if not surface.packed:
        return None
    # Names are the file's: what a terminal would obey is not shown.
    said = ", ".join(name if name.isprintable() else "?" for name in surface.packed)
    squeezed = any(content is None for content in surface.packed.values())
    return said, "pack them stored, not compressed: zip -0" if squeezed else ""


def labels_packed(surface: Surface) -> Found | None:
    name, classes = surface.masks_note.labels_file, surface.classes
    if not name:
        return "none are named", ""
    shown = name if name.isprintable() else "?"
    if name not in surface.packed:
        return f"{shown} is not packed in the file", "pack it, or leave its name out"
    labels = surface.labels
    mend = "" if len(labels) == classes else f"give a line for each of the {classes} classes"
    said = ", ".join(each if each.isprintable() else "?" for each in labels[:20])
    return f"{len(labels)}: {said}", mend


def known_operators(surface: Surface) -> Found:
    foreign = ", ".join(surface.foreign_domains)
    mend = "export it with ONNX's own operators" if foreign else ""
    return f"operator set {surface.opset}{'; of ' + foreign if foreign else ''}", mend


def one_file(surface: Surface) -> Found:
    count = surface.outside_data
    if count:
        return f"{count} tensors in other files", "save it as one file"
    return "all in the file", ""
