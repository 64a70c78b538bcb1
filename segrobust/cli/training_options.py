"""The options of Lightning that trainings use most; `train --help all` lists the others."""

from typing import Final

from segrobust.cli.options import Option


def _lightning(name: str, metavar: str, help_line: str) -> Option:
    return Option(name=name, metavar=metavar, help=help_line, foreign=True, parts="." not in name)


TRAINER: Final = (
    _lightning("trainer", "FILE", "settings of the trainer from a file of their own"),
    _lightning("trainer.max_epochs", "N", "epochs of the training"),
    _lightning("trainer.accelerator", "NAME", "auto, cpu, gpu, mps (auto)"),
    _lightning("trainer.devices", "N", "number of devices, or a list of them (auto)"),
    _lightning("trainer.num_nodes", "N", "number of machines (1)"),
    _lightning("trainer.strategy", "NAME", "auto, ddp, fsdp, ... (auto)"),
    _lightning("trainer.precision", "NAME", "32-true, bf16-mixed, 16-mixed, ... (32-true)"),
    _lightning("trainer.logger", "CLASS", "loggers (CSV files in run_dir)"),
    _lightning("trainer.callbacks+", "CLASS", "one callback more, with --trainer.callbacks.<argument>"),
    _lightning("trainer.check_val_every_n_epoch", "N", "epochs between validations (1)"),
    _lightning("trainer.gradient_clip_val", "X", "largest norm of the gradient"),
    _lightning("trainer.accumulate_grad_batches", "N", "batches per optimiser step (1)"),
    _lightning("trainer.limit_train_batches", "N", "batches per epoch, or a share of them"),
    _lightning("trainer.fast_dev_run", "N", "run so many batches as a test"),
)
"""Of the trainer."""

CHECKPOINTS: Final = (
    _lightning("checkpoint", "FILE", "settings of `ModelCheckpoint` from a file of their own"),
    _lightning("checkpoint.monitor", "KEY", "logged value that selects checkpoints (none: the last)"),
    _lightning("checkpoint.mode", "NAME", "min or max (min)"),
    _lightning("checkpoint.save_top_k", "K", "number of best checkpoints to store (1)"),
    _lightning("checkpoint.every_n_train_steps", "N", "steps between checkpoints"),
)
"""Of `ModelCheckpoint`."""
