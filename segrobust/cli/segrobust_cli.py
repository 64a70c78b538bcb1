"""What `train`, `evaluate` and `judge` share: task, data and seed by LightningCLI, and the folder of the run."""

import sys
from collections.abc import Sequence
from typing import Any, Final

from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import segrobust
from segrobust.cli.commands import program
from segrobust.cli.console import without_traceback
from segrobust.shipped import shipped_path

DEMO_CONFIG: Final = str(shipped_path("demo.yaml"))
DEMO_WEIGHTS: Final = str(shipped_path("demo/scenes.safetensors"))
WEIGHTS: Final = "weights.safetensors"


class SegRobustCLI(LightningCLI):
    """Task, data, trainer and seed by LightningCLI, and the folder of the run.

    Args:
        arguments: of the command; those of the process if None, and those of the demo if there are none. They are
            handed over, because Lightning starts further processes by `sys.argv`, which therefore stays as it is.
    """

    demo: tuple[str, ...] = ()
    """Arguments of a bare command."""

    callbacks: tuple[type[Callback], ...] = ()
    """What every trainer of the command gets besides what the configuration names."""

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
        """Parses the arguments of the command, and not those of the process."""
        self.config = parser.parse_args(self._arguments)

    def instantiate_classes(self) -> None:
        """Makes what the settings name; what they name wrongly is told without a traceback."""
        with without_traceback(ValueError, OSError):
            super().instantiate_classes()
