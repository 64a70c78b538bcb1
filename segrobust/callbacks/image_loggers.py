"""Sends pictures to the loggers that accept images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, WandbLogger
from PIL import Image

from segrobust.callbacks.access import logged_step
from segrobust.evaluation.reporting.figures.picture_faults import warned
from segrobust.untrusted.pictures import opened_content
from segrobust.untrusted.regular_files import read_limited

_LARGEST_PANEL: Final = 2**28
"""Bytes."""


@dataclass(frozen=True)
class Panel:
    """A picture of one image under one attack: name of the job, name of the file, and the file's content."""

    job: str
    name: str
    png: bytes

    @classmethod
    def read(cls, file: Path, root: Path) -> Self:
        """The panel in a file `<sample id>-<job>.png` of a run directory.

        Raises:
            DataFault: the file is a link, or much larger than a panel.
        """
        content = read_limited(file, _LARGEST_PANEL, "a panel", root=root)
        return cls(file.stem.split("-", 1)[1], file.stem, content)


def send_panels(trainer: Trainer, panels: Sequence[Panel], prefix: str) -> None:
    """Sends panels as `<prefix>/<attack>/panels`, from process 0.

    Args:
        trainer: gives the loggers.
        panels: of all processes.
        prefix: first part of the keys.
    """
    for job in dict.fromkeys(panel.job for panel in panels):
        chosen = sorted((panel for panel in panels if panel.job == job), key=lambda panel: panel.name)
        send_images(
            trainer, f"{prefix}/{job}/panels", [panel.png for panel in chosen], names=[panel.name for panel in chosen]
        )


def send_images(trainer: Trainer, key: str, pngs: Sequence[bytes], *, names: Sequence[str] | None = None) -> None:
    """Sends pictures from process 0, at the step where the numbers of this evaluation are logged.

    The wandb logger gets them by `log_image`, MLflow as images of its run that have a step, others by
    `experiment.add_image` if they have it, such as TensorBoard. Other loggers get none: the files are in the folder of
    the logs. A logger's fault is a `PictureWarning`.

    Args:
        trainer: gives the loggers.
        key: log key; with names, wandb shows these as captions, and others get `<key>/<name>`.
        pngs: contents of PNG files.
        names: one per picture; None for a single one.
    """
    if not trainer.is_global_zero:
        return
    images = [_decoded(png) for png in pngs]
    for logger in trainer.loggers:
        with warned(f"pictures {key} in {type(logger).__name__}"):
            _send(logger, key, images, names, logged_step(trainer))


def _send(logger: Logger, key: str, images: Sequence[Image.Image], names: Sequence[str] | None, step: int) -> None:
    if isinstance(logger, WandbLogger):
        captions = {} if names is None else {"caption": [*names]}
        logger.log_image(key, [*images], step=step, **captions)
        return
    tags = [key] if names is None else [f"{key}/{name}" for name in names]
    add_image = getattr(getattr(logger, "experiment", None), "add_image", None)
    for tag, image in zip(tags, images, strict=True):
        if isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, image, key=tag, step=step)
        elif add_image is not None:
            add_image(tag, np.asarray(image), step, dataformats="HWC")


def _decoded(png: bytes) -> Image.Image:
    with opened_content(png, "panel.png") as picture:
        return picture.convert("RGB")
