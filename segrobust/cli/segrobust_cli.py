"""Base of `train`, `evaluate` and `judge`: task, data and seed by LightningCLI, and the folder of the run."""

import sys
from argparse import ArgumentError
from collections.abc import Sequence
from typing import Any, Final

from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import segrobust
from segrobust.cli.commands import program
from segrobust.cli.console import without_traceback
from segrobust.cli.factories import declare_factory
from segrobust.shipped import shipped_path

DEMO_CONFIG: Final = str(shipped_path("demo.yaml"))
DEMO_WEIGHTS: Final = str(shipped_path("demo/scenes.safetensors"))
WEIGHTS: Final = "weights.safetensors"


class SegRobustCLI(LightningCLI):
    """Task, data, trainer and seed by LightningCLI, and the folder of the run.

    Args:
        arguments: of the command; None for those of the process, and those of the demo if there are none. `sys.argv` is
            not changed, because Lightning starts further processes with it.
    """

    demo: tuple[str, ...] = ()
    """Arguments of a command without arguments."""

    callbacks: tuple[type[Callback], ...] = ()
    """Settings of every trainer of the command, besides those of the configuration."""

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        given = sys.argv[1:] if arguments is None else arguments
        self._arguments = list(given or self.demo)
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            run=False,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            trainer_defaults={"callbacks": [make() for make in self.callbacks]},
            parser_kwargs={"prog": program(), "version": segrobust.__version__, "description": type(self).__doc__},
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the folder of the run."""
        help_text = "folder of this run: settings, checkpoints, logs, weights, evaluations"
        parser.add_argument("--run_dir", "--run-dir", type=str, default="runs/run", help=help_text)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments of the command instead of those of the process."""
        parser.exit_on_error = False
        try:
            self.config = parser.parse_args(self._arguments)
        except ArgumentError as error:
            parser.exit_on_error = True
            if not declare_factory(str(error)):
                parser.error(str(error), error)
            self.parse_arguments(parser, args)
        else:
            parser.exit_on_error = True

    def instantiate_classes(self) -> None:
        """Creates the objects of the configuration; errors in the settings are printed without a traceback."""
        with without_traceback(ValueError, OSError):
            super().instantiate_classes()
