"""A training's figures for TensorBoard, which is an extra."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mobileseg.errors import MobilesegError

_NAMES = {
    "loss": "loss/train",
    "lr": "rate/lr",
    "val_miou_percent": "accuracy/val mIoU, %",
    "val_foreground_iou_percent": "accuracy/val foreground IoU, %",
    "images_per_second": "speed/images per second",
}


def board(folder: Path) -> Callable[[dict[str, float | int | None]], None]:
    """Return what writes each line of a training's log into `folder`, its epoch as the step.

    A resumed training goes on where the log was: what a broken-off one wrote after that goes.
    Raises MobilesegError where tensorboard is missing.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415
    except ImportError:
        raise MobilesegError(
            "--tensorboard: it is not installed; pip install 'mobileseg[tensorboard]'"
        ) from None

    writers: list[SummaryWriter] = []

    def write(record: dict[str, float | int | None]) -> None:
        epoch = record["epoch"]
        assert isinstance(epoch, int)
        if not writers:
            writers.append(SummaryWriter(str(folder), purge_step=epoch))
        for key, name in _NAMES.items():
            if record[key] is not None:
                writers[0].add_scalar(name, record[key], epoch)
        # Whoever watches sees every epoch as it ends.
        writers[0].flush()

    return write
