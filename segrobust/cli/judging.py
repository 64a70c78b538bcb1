"""`evaluate.py judge`: shows the adversarial images that runs kept to a network."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import torch
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from segrobust.cli.base import WEIGHTS, SegRobustCLI, say, stop
from segrobust.data import SegmentationDataModule
from segrobust.evaluation.judge import judge_run
from segrobust.evaluation.judgement import Judgement
from segrobust.evaluation.transfer import TransferMatrix, transfer_matrix
from segrobust.evaluation.transfer_picture import write_transfer
from segrobust.networks import load_weights
from segrobust.tasks import SegmentationTask

MISMATCH: Final = 1
"""Exit status where something speaks against a run."""


class JudgeCLI(SegRobustCLI):
    """Show the adversarial images that runs kept to a network, and compare networks.

    Task and data come from the experiment file of the network that judges. Where that is the network that a run
    attacked, the run's numbers are verified; for any network it is checked that no image leaves [0, 1] or the radius of
    its attack. The exit status is 1 if something does not hold.

    Records go to `judged/` in each run, a table of all networks that have judged these runs to `transfer.json` and
    `transfer.png`. The same command continues a killed one.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the runs, the weights, and how to judge."""
        super().add_arguments_to_parser(parser)
        add = parser.add_argument
        runs_help = "directories of runs, `evaluation-...`, made with --keep_adversarials true"
        add("runs", metavar="RUN", nargs="+", type=str, help=runs_help)
        weights_help = f"weights of the judge, .safetensors or .ckpt; by default {WEIGHTS} in run_dir"
        add("--checkpoint", type=str | None, default=None, help=weights_help)
        add("--split", type=Literal["val", "test"], default="val", help="data set of the data module")
        name_help = "what the judge is called in tables; by default the folder that its weights are in"
        add("--name", type=str | None, default=None, help=name_help)
        add("--batch_size", "--batch-size", type=int, default=1, help="images judged together")
        add("--device", type=str | None, default=None, help="by default cuda where there is one, else cpu")
        add("--output", type=str | None, default=None, help="folder of the transfer table; by default the first run")

    def before_instantiate_classes(self) -> None:
        """Leaves the trainer and what hangs on it alone: judging needs task and data only."""
        self.config.trainer = Namespace()  # type: ignore[no-untyped-call]

    def instantiate_trainer(self, **kwargs: object) -> None:  # type: ignore[override]
        """None: nothing is trained."""


def judge_command(arguments: Sequence[str]) -> None:
    """Entry point of `evaluate.py judge`.

    Args:
        arguments: what follows `judge` on the command line.
    """
    with _command_line(arguments):
        cli = JudgeCLI()
        try:
            judgements, matrix = _judge(cli)
            files = write_transfer(matrix, Path(cli.config_init.output or cli.config_init.runs[0]))
        except (ValueError, OSError, FloatingPointError) as error:
            stop(error)
    for judgement in judgements:
        say(f"{judgement}\nrecords  {judgement.folder}\n")
    say(f"{matrix}\n")
    say("\n".join(f"transfer {path}" for path in files))
    if any(judgement.status == "fail" for judgement in judgements):
        sys.exit(MISMATCH)


def _judge(cli: JudgeCLI) -> tuple[list[Judgement], TransferMatrix]:
    """Judges all runs by the network of the task."""
    options = cli.config_init
    if not isinstance(cli.model, SegmentationTask) or not isinstance(cli.datamodule, SegmentationDataModule):
        cli.parser.error("judging needs a segrobust.tasks.SegmentationTask and a segrobust.data.SegmentationDataModule")
    dataset = getattr(cli.datamodule, options.split)
    if dataset is None:
        raise ValueError(f"the data module has no {options.split} data; choose another --split, or give it some")
    checkpoint = Path(options.checkpoint or Path(options.run_dir) / WEIGHTS)
    load_weights(cli.model.network, checkpoint)
    judgements = [
        judge_run(
            run,
            cli.model.network,
            dataset,
            name=options.name or checkpoint.resolve().parent.name,
            batch_size=options.batch_size,
            device=options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
        )
        for run in options.runs
    ]
    return judgements, transfer_matrix(options.runs)


@contextmanager
def _command_line(arguments: Sequence[str]) -> Iterator[None]:
    """The command line as LightningCLI and its messages see it."""
    found = sys.argv
    sys.argv = [f"{Path(found[0]).name} judge", *arguments]
    try:
        yield
    finally:
        sys.argv = found
