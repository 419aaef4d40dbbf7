"""Rules of the file as a whole: its parts, its metadata, the files packed behind it."""

from __future__ import annotations

from mobileseg.reading.rules.rule import Found, Look, names
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
    return "there are none" if surface.metadata is None else "they can", ""


def metadata_version(surface: Surface) -> Found | None:
    if surface.metadata is None:
        return None
    version = surface.metadata.min_parser_version
    numbers = tuple(int(each) for each in version.split(".") if each.isdecimal())
    newest = ".".join(map(str, _NEWEST_METADATA))
    mend = "" if numbers <= _NEWEST_METADATA else f"write them for {newest}"
    return f"need {version or 'any version'}", mend


def metadata_describe(inputs: bool) -> Look:
    """The rule that inputs, or outputs, are described one by one."""

    def look(surface: Surface) -> Found | None:
        metadata = surface.metadata
        if metadata is None:
            return None
        notes = metadata.inputs if inputs else metadata.outputs
        edges = surface.inputs if inputs else surface.outputs
        if notes is None:
            return None
        mend = "" if len(notes) == len(edges) else "describe each one, in their order"
        return f"{len(notes)} of {len(edges)}", mend

    return look


def input_described(surface: Surface) -> Found | None:
    """MediaPipe reads the first description, and refuses metadata without any."""
    notes = surface.metadata.inputs if surface.metadata else None
    if surface.metadata is None or (notes is None and surface.metadata.outputs is None):
        return None
    return f"{len(notes or ())}", "" if notes else "describe the input"


def output_described(surface: Surface) -> Found:
    """MediaPipe up to 0.10 reads the last output's description without looking for it first."""
    mend = "older versions crash without; write it: mobileseg export does"
    there = surface.metadata is not None and surface.metadata.outputs
    return ("it is", "") if there else ("it is not", mend)


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
    name = surface.masks_note.labels_file
    if not name:
        return None
    shown = name if name.isprintable() else "?"
    return shown, "" if name in surface.packed else "pack it in the file, or leave its name out"


def label_each(surface: Surface) -> Found | None:
    labels, classes = surface.labels, surface.classes
    if classes is None:
        return None
    if not labels:
        return "none: classes are numbers", ""
    said = ", ".join(each if each.isprintable() else "?" for each in labels[:20])
    mend = "" if len(labels) == classes else f"give a line for each of the {classes} classes"
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
