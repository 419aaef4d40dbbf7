"""Rules of what comes out: masks, their type, and what a pixel of them means."""

from __future__ import annotations

from mobileseg.reading.rules.rule import Found, Look, names
from mobileseg.reading.surface import Surface

_MOST_CLASSES = 256
_NEVER_NEGATIVE = {"SOFTMAX", "LOGISTIC", "RELU", "RELU6", "RELU_0_TO_1"}


def outputs(most: int) -> Look:
    def look(surface: Surface) -> Found:
        count = len(surface.outputs)
        mend = "" if 1 <= count <= most else "leave the masks as the only output"
        note = "; the first is read as the quality of the last" if count == 2 <= most else ""
        return f"{names(surface.outputs)}{note}", mend

    return look


def masks_shape(surface: Surface) -> Found | None:
    masks = surface.masks
    if masks is None:
        return None
    kept = len(masks.shape) == 4 and masks.shape[0] == 1 and all(masks.shape)
    mend = "" if kept else "export the scores of the classes, (1, height, width, classes)"
    return masks.words(), mend


def output_type(*allowed: str) -> Look:
    def look(surface: Surface) -> Found | None:
        masks = surface.masks
        if masks is None:
            return None
        if masks.type in allowed:
            return masks.type, ""
        if masks.made_by in {"ARG_MAX", "ArgMax"}:
            return f"{masks.type}, of an argmax", "leave the argmax out: the consumer does it"
        return masks.type, f"export with {' or '.join(allowed)} output"

    return look


def quantized_scale(surface: Surface) -> Found | None:
    masks = surface.masks
    if masks is None or masks.type not in {"uint8", "int8"}:
        return None
    if masks.scale is None:
        return "no scale", "write the scale and zero point of the output"
    return f"(step - {masks.zero_point}) * {masks.scale:.6g}", ""


def most_classes(surface: Surface) -> Found | None:
    classes = surface.classes
    if classes is None:
        return None
    kept = classes <= _MOST_CLASSES
    return str(classes), "" if kept else f"a mask holds a byte a pixel: {_MOST_CLASSES} at most"


def none_negative(surface: Surface) -> Found | None:
    """Task Library looks for the largest value above 0: where all are below, class 0 is called."""
    masks = surface.masks
    if masks is None or masks.type not in {"float32", "uint8"}:
        return None
    if masks.type == "uint8" and masks.scale is not None and not masks.zero_point:
        return "the zero point is 0", ""
    said = f"of {masks.made_by or 'the network'}"
    mend = "end it in a softmax: mobileseg export --output softmax"
    return said, "" if masks.made_by in _NEVER_NEGATIVE else mend


def pixel_mediapipe(surface: Surface) -> Found | None:
    classes = surface.classes
    if classes is None:
        return None
    if classes > 1:
        return "the number of the largest class", ""
    masks = surface.masks
    computed = surface.metadata.activation if surface.metadata else None
    said = "one class: 0 where its value is above 0.5, 255 elsewhere"
    probable = computed == "sigmoid" or (masks is not None and masks.made_by == "LOGISTIC")
    mend = "" if probable else "end it in a sigmoid, or name sigmoid as its activation"
    return said, mend


def pixel_task(surface: Surface) -> Found | None:
    classes = surface.classes
    if classes is None:
        return None
    if classes > 1:
        return "the number of the largest class", ""
    return "one class: 0 everywhere", "export two classes, or read the confidence mask"


def activation_named(surface: Surface) -> Found:
    activation = surface.metadata.activation if surface.metadata else None
    if activation is None:
        mend = "write SEGMENTER_METADATA, or read confidence masks as scores"
        return "none is named: values are taken as they are", mend
    return activation, ""


def activation_fits(surface: Surface) -> Found | None:
    masks, classes = surface.masks, surface.classes
    activation = surface.metadata.activation if surface.metadata else None
    if masks is None or activation in {None, "none"}:
        return None
    if activation not in {"sigmoid", "softmax"}:
        return f"{activation}", "name one of none, sigmoid, softmax"
    said = f"{activation} after {masks.made_by or 'the network'}"
    if masks.made_by in {"SOFTMAX", "LOGISTIC"}:
        return said, "it is computed twice: name none as the activation"
    if activation == "softmax" and classes == 1:
        return f"{said}, of one class", "name sigmoid as the activation"
    return said, ""
