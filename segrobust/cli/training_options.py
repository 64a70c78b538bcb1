"""The options of Lightning that trainings use most; `train --help all` lists the others."""

from typing import Any, Final, Literal

from segrobust.cli.options import Option

_Precision = Literal[
    "32-true", "32", "16", "64", "bf16", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true",
    "transformer-engine", "transformer-engine-float16",
]  # fmt: skip
_ACCELERATORS: Final = ("auto", "cpu", "gpu", "cuda", "mps", "tpu", "hpu", "xpu", "npu")
_STRATEGIES: Final = ("auto", "ddp", "fsdp", "deepspeed", "ddp_spawn", "ddp_fork", "ddp_notebook", "single_device")

CLASSES: Final = {
    "trainer": ("pytorch/trainer/trainer.py", "Trainer"),
    "checkpoint": ("pytorch/callbacks/model_checkpoint.py", "ModelCheckpoint"),
}
"""Groups of options that are arguments of a class of Lightning, with its file and its name."""


def _lightning(name: str, metavar: str, help_line: str, kind: Any = str, usual: tuple[str, ...] = ()) -> Option:
    return Option(
        name=name, metavar=metavar, help=help_line, kind=kind, usual=usual, foreign=True, parts="." not in name
    )


TRAINER: Final = (
    _lightning("trainer", "FILE", "settings of the trainer from a file of their own"),
    _lightning("trainer.max_epochs", "N", "epochs of the training", int | None),
    _lightning("trainer.accelerator", "NAME", "auto, cpu, gpu, mps (auto)", usual=_ACCELERATORS),
    _lightning("trainer.devices", "N", "number of devices, or a list of them (auto)"),
    _lightning("trainer.num_nodes", "N", "number of machines (1)", int | None),
    _lightning("trainer.strategy", "NAME", "auto, ddp, fsdp, ... (auto)", usual=_STRATEGIES),
    _lightning("trainer.precision", "NAME", "32-true, bf16-mixed, 16-mixed, ... (32-true)", _Precision | None),
    _lightning("trainer.logger", "CLASS", "loggers (CSV files in run_dir)"),
    _lightning("trainer.callbacks+", "CLASS", "one callback more, with --trainer.callbacks.<argument>"),
    _lightning("trainer.check_val_every_n_epoch", "N", "epochs between validations (1)", int | None),
    _lightning("trainer.gradient_clip_val", "X", "largest norm of the gradient", float | None),
    _lightning("trainer.accumulate_grad_batches", "N", "batches per optimiser step (1)", int | None),
    _lightning("trainer.limit_train_batches", "N", "batches per epoch, or a share of them", float | None),
    _lightning("trainer.fast_dev_run", "N", "run so many batches as a test"),
)
"""Of the trainer."""

CHECKPOINTS: Final = (
    _lightning("checkpoint", "FILE", "settings of `ModelCheckpoint` from a file of their own"),
    _lightning("checkpoint.monitor", "KEY", "logged value that selects checkpoints (none: the last)"),
    _lightning("checkpoint.mode", "NAME", "min or max (min)", Literal["min", "max"]),
    _lightning("checkpoint.save_top_k", "K", "number of best checkpoints to store (1)", int | None),
    _lightning("checkpoint.every_n_train_steps", "N", "steps between checkpoints", int | None),
)
"""Of `ModelCheckpoint`."""
