"""The folder of the files of callbacks."""

from pathlib import Path

from lightning.pytorch import Trainer


def log_directory(trainer: Trainer) -> Path | None:
    """Folder of this training, also of Lightning's checkpoints: `<save_dir>/<name>/<version>`.

    `trainer.log_dir` would be shared by all runs of a wandb logger. All processes must call this.

    Returns:
        The folder that process 0 uses; None without a logger.
    """
    path = None
    if trainer.loggers and trainer.is_global_zero:
        logger = trainer.loggers[0]
        version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
        path = Path(logger.save_dir or trainer.default_root_dir) / str(logger.name) / version
    shared: Path | None = trainer.strategy.broadcast(path)
    return shared
