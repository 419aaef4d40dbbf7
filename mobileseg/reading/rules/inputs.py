"""Rules of what goes in: one picture, RGB, in values that the consumer can make of its pixels."""

from __future__ import annotations

from mobileseg.reading.rules.rule import Found, Look, names
from mobileseg.reading.surface import Surface


def one_input(surface: Surface) -> Found:
    mend = "leave the picture as the only input" if len(surface.inputs) != 1 else ""
    return names(surface.inputs), mend


def picture(surface: Surface) -> Found | None:
    image = surface.image
    if image is None:
        return None
    n, *sides = image.shape or (0,)
    if n == 1 and len(sides) == 3 and all(sides) and sides[2] == 3:
        return image.words(), ""
    if len(sides) == 3 and sides[0] == 3:
        return image.words(), "channels stand first: export with the channels last"
    return image.words(), "export it for one RGB picture of fixed size"


def picture_first(surface: Surface) -> Found | None:
    """ONNX keeps channels first."""
    image = surface.image
    if image is None:
        return None
    n, *rest = image.shape or (0,)
    kept = n == 1 and len(rest) == 3 and rest[0] == 3 and all(rest)
    return image.words(), "" if kept else "export it for (1, 3, height, width)"


def hair(surface: Surface) -> Found | None:
    """Of a file with two labels, the second of them `hair`, MediaPipe takes a fourth channel for an
    earlier frame's mask and sets it to 0. With three channels the name does nothing.

    Source: mediapipe/tasks/cc/vision/image_segmenter/image_segmenter_graph.cc,
    `is_hair_segmentation` in BuildSegmentationTask and ConvertImageToTensors.
    """
    labels, shape = surface.labels, surface.image.shape if surface.image else ()
    if len(labels) != 2 or labels[1] != "hair" or len(shape) != 4:
        return None
    mend = "" if shape[3] != 4 else "name it otherwise, or feed no fourth channel"
    return f"{shape[3]} channels{', the fourth is set to 0' if mend else ''}", mend


def input_type(*allowed: str) -> Look:
    def look(surface: Surface) -> Found | None:
        image = surface.image
        if image is None:
            return None
        kept = image.type in allowed
        return image.type, "" if kept else f"export with {' or '.join(allowed)} input"

    return look


def rgb(surface: Surface) -> Found:
    note = surface.image_note
    said = note.colours or note.content or "nothing is said: RGB is fed"
    kept = not note.content or (note.content == "image" and note.colours == "RGB")
    return said, "" if kept else "write ImageProperties with the colour space RGB"


def normalization(surface: Surface) -> Found | None:
    """A float input must say how pixels become its values; a byte needs no such word."""
    image, note = surface.image, surface.image_note
    if image is None:
        return None
    if not note.normalizations:
        needed = image.type == "float32"
        mend = "write NormalizationOptions with the mean and std of training" if needed else ""
        return "none", mend
    means, deviations = note.means or (), note.deviations or ()
    said = f"mean {_list(means)}, std {_list(deviations)}"
    if note.normalizations > 1:
        return f"{note.normalizations} of them", "write NormalizationOptions once"
    kept = len(means) == len(deviations) and len(means) in {1, 3}
    return said, "" if kept else "give one mean and one std, or three of both"


def no_zero_deviation(surface: Surface) -> Found | None:
    image, deviations = surface.image, surface.image_note.deviations
    if image is None or image.type != "float32" or not deviations:
        return None
    kept = all(abs(each) > 1e-7 for each in deviations)
    return _list(deviations), "" if kept else "write the std of training"


def same_over_channels(surface: Surface) -> Found | None:
    image, note = surface.image, surface.image_note
    if image is None or image.type != "float32" or not note.means or not note.deviations:
        return None
    pairs = set(zip(note.means, note.deviations, strict=False))
    said = f"mean {_list(note.means)}, std {_list(note.deviations)}"
    mend = "fold the difference into the first convolution, or make it a part of the network"
    return said, "" if len(pairs) == 1 else mend


def byte_is_pixel(surface: Surface) -> Found | None:
    """A uint8 input gets bytes as they are: its scale and zero point must do the normalization."""
    image, note = surface.image, surface.image_note
    if image is None or image.type != "uint8" or image.scale is None:
        return None
    zero, scale = image.zero_point or 0, image.scale
    said = f"(byte - {zero}) * {scale:.6g}"
    if not note.means or not note.deviations or 0 in note.deviations:
        return f"{said}; no normalization says otherwise", ""
    wanted = [(end - note.means[0]) / note.deviations[0] for end in (0, 255)]
    given = [(end - zero) * scale for end in (0, 255)]
    off = max(abs(a - b) for a, b in zip(wanted, given, strict=True)) / scale if scale else 1e9
    mend = "quantize the input with scale 1 / std and zero point mean, or mend the metadata"
    return f"{said}; {off:.2g} steps from the normalization", mend if off > 1.5 else ""


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "nothing"
