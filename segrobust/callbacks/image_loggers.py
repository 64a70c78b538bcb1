"""Panels sent to the loggers that take images."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from segrobust.callbacks.session import Panel


def send_panels(trainer: Trainer, panels: Sequence[Panel], prefix: str) -> None:
    """Sends panels as `<prefix>/<attack>/panels`, from process 0.

    To wandb by its logger, to others by `experiment.add_image` where they have it, as TensorBoard's do. Others get
    none: the files are in the records' folder.

    Args:
        trainer: whose loggers are served.
        panels: of all processes.
        prefix: first part of the keys.
    """
    if not trainer.is_global_zero:
        return
    step = trainer.fit_loop.epoch_loop._batches_that_stepped  # where Lightning logs the numbers of this validation
    for job in dict.fromkeys(panel.job for panel in panels):
        chosen = sorted((panel for panel in panels if panel.job == job), key=lambda panel: panel.name)
        key = f"{prefix}/{job}/panels"
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                captions = [panel.name for panel in chosen]
                logger.log_image(key, [*_opened(chosen)], step=step, caption=captions)
                continue
            add_image = getattr(getattr(logger, "experiment", None), "add_image", None)
            if add_image is not None:
                for panel, image in zip(chosen, _opened(chosen), strict=True):
                    add_image(f"{key}/{panel.name}", np.asarray(image), step, dataformats="HWC")


def _opened(panels: Sequence[Panel]) -> Iterable[Image.Image]:
    return (Image.open(io.BytesIO(panel.png)) for panel in panels)
