"""`segrobust judge`: shows the adversarial images that runs kept to a network."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lightning.pytorch.cli import LightningArgumentParser

from segrobust.cli.console import say, without_traceback
from segrobust.cli.network_command import NetworkCLI, default_device
from segrobust.evaluation.transfer.judge import judge_run
from segrobust.evaluation.transfer.matrix import transfer_matrix
from segrobust.evaluation.transfer.matrix_plot import write_transfer

MISMATCH: Final = 1
"""Exit status where something speaks against a run."""


class JudgeCLI(NetworkCLI):
    """Show the adversarial images that runs kept to a network, and compare networks.

    Task and data come from the experiment file of the network that judges. Where that is the network that a run
    attacked, the run's numbers are verified; for any network it is checked that no image leaves [0, 1] or the radius of
    its attack. The exit status is 1 if something does not hold.

    Records go to `judged/` in each run, a table of all networks that have judged these runs to `transfer.json` and
    `transfer.png`. The same command continues a killed one.
    """

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the runs, and what the outcome is called."""
        super().add_arguments_to_parser(parser)
        add = parser.add_argument
        runs_help = "directories of runs, `evaluation-...`, made with --keep_adversarials true"
        add("runs", metavar="RUN", nargs="+", type=str, help=runs_help)
        name_help = "what the judge is called in tables; by default the folder that its weights are in"
        add("--name", type=str | None, default=None, help=name_help)
        add("--output", type=str | None, default=None, help="folder of the transfer table; by default the first run")


def judge_command(arguments: Sequence[str]) -> None:
    """Entry point of `segrobust judge`.

    Args:
        arguments: what follows `judge` on the command line.
    """
    cli = JudgeCLI(arguments)
    with without_traceback(ValueError, OSError, FloatingPointError):
        options, network, dataset = cli.config_init, cli.load_network(), cli.load_data()
        judgements = [
            judge_run(
                run,
                network,
                dataset,
                name=options.name or cli.checkpoint.resolve().parent.name,
                batch_size=options.batch_size,
                device=options.device or default_device(),
            )
            for run in options.runs
        ]
        matrix = transfer_matrix(options.runs)
        files = write_transfer(matrix, Path(options.output or options.runs[0]))
    for judgement in judgements:
        say(f"{judgement}\nrecords  {judgement.folder}\n")
    say(f"{matrix}\n")
    say("\n".join(f"transfer {path}" for path in files))
    if any(judgement.status == "fail" for judgement in judgements):
        sys.exit(MISMATCH)
