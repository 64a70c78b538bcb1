"""Base of `train`, `evaluate` and `judge`: task, data and seed by LightningCLI, and the folder of the run."""

import logging
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

import segrobust
from segrobust.cli.command_line import read_command_line
from segrobust.cli.commands import program
from segrobust.cli.console import stop, without_traceback
from segrobust.cli.demo import announce_demo, demo_words, is_demo
from segrobust.cli.factories import declare_factory
from segrobust.cli.help_screen import wanted_help
from segrobust.cli.interfaces import INTERFACES
from segrobust.cli.parser_messages import is_of_parser, one_line
from segrobust.cli.parsers import add_options, option_names, print_group

WEIGHTS: Final = "weights.safetensors"


class SegRobustCLI(LightningCLI):
    """Task, data, trainer and seed by LightningCLI, and the folder of the run.

    Args:
        arguments: of the command; None for those of the process, and those of the demo if there are none. `sys.argv` is
            not changed, because Lightning starts further processes with it.
    """

    command: str = ""
    """Its name."""

    types: Mapping[str, Any] = MappingProxyType({})
    """Types of the options that need torch."""

    callbacks: tuple[type[Callback], ...] = ()
    """Settings of every trainer of the command, besides those of the configuration."""

    def __init__(self, arguments: Sequence[str] | None = None) -> None:
        given = sys.argv[1:] if arguments is None else arguments
        self._help = wanted_help(given)
        self._is_demo = False
        self._arguments = [] if self._help is not None else self._read(given)
        with _without_seed_line():
            super().__init__(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                run=False,
                seed_everything_default=0,
                save_config_kwargs={"overwrite": True},
                trainer_defaults={"callbacks": [make() for make in self.callbacks]},
                parser_kwargs={
                    "prog": program(),
                    "version": segrobust.__version__,
                    "allow_abbrev": False,
                    "description": INTERFACES[self.command].description,
                },
            )
        if self._is_demo and given:
            announce_demo(self.command)

    def _read(self, given: Sequence[str]) -> list[str]:
        """The arguments in an order in which options win over files, behind those of the demo if it is meant."""
        with without_traceback(ValueError):
            line = read_command_line(given, INTERFACES[self.command])
            self._is_demo = is_demo(self.command, line)
        return [*(demo_words(self.command, line) if self._is_demo else ()), *line.words()]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the arguments and options of the command."""
        add_options(parser, self.command, self.types)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the arguments of the command instead of those of the process; one line reports what is wrong."""
        if self._help is not None:
            print_group(parser, self._help, self.hidden_groups)
        parser.exit_on_error = False
        try:
            self.config = parser.parse_args(self._arguments)
        except ArgumentError as error:
            if not declare_factory(str(error)):
                stop(one_line(str(error), option_names(parser)))
            self.parse_arguments(parser, args)
        with without_traceback(ValueError, OSError):
            self.check_settings()

    @property
    def hidden_groups(self) -> Sequence[str]:
        """Groups of options that the help leaves out."""
        return INTERFACES[self.command].hidden

    def check_settings(self) -> None:
        """Checks settings before anything is created: here the numbers of files, and that the run has a folder.

        Raises:
            ValueError: a setting is not allowed.
            OSError: a file is missing.
        """
        for option in INTERFACES[self.command]:
            value = None if option.foreign else self.config[option.name]
            if option.least is not None and value is not None:
                option.require(value)
        if Path(self.config.run_dir).is_file():
            raise ValueError(f"--run_dir {self.config.run_dir} is a file; name a folder")

    def instantiate_classes(self) -> None:
        """Creates the objects of the configuration; errors in the settings are printed without a traceback."""
        try:
            super().instantiate_classes()
        except (ValueError, OSError, MisconfigurationException) as error:
            stop(f"{one_line(str(error))}{_place(error)}" if is_of_parser(str(error)) else error)


def _place(error: BaseException) -> str:
    """Where an error was raised that does not look like one of a setting, such as a KeyError in code of the user."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, ValueError | OSError | MisconfigurationException):
        return ""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({type(error).__name__} in {last.filename}, line {last.lineno})"


@contextmanager
def _without_seed_line() -> Iterator[None]:
    """Within it, Lightning does not print `Seed set to 0`, which would stand before each error."""
    log = logging.getLogger("lightning.fabric.utilities.seed")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)
