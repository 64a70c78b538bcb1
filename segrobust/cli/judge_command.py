"""`segrobust judge`: evaluates the adversarial images that runs stored on a network."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from torch.distributed import DistError

from segrobust.cli.console import say, without_traceback
from segrobust.cli.network_command import NetworkCLI, default_device
from segrobust.evaluation import Distributed, TransferResult, evaluate_stored, transfer_matrix
from segrobust.evaluation.transfer.matrix_plot import write_transfer
from segrobust.functional.lengths import Length

NOT_OK: Final = 1
"""Exit status if there are discrepancies with a run, or images could not be evaluated."""


class JudgeCLI(NetworkCLI):
    """Evaluates the adversarial images that runs stored on a network; its experiment file names task and data.

    Records go to `--output`, a folder of the user that holds judgements of any runs, with a table of all networks on
    which these runs were evaluated. Nothing in a run is changed.
    """

    command = "judge"
    types: Mapping[str, Any] = MappingProxyType({"eps": list[Length] | None})


def judge_command(arguments: Sequence[str]) -> None:
    """Entry point of `segrobust judge`.

    Args:
        arguments: what follows `judge` on the command line.
    """
    cli = JudgeCLI(arguments)
    with without_traceback(ValueError, OSError, FloatingPointError, DistError):
        distributed = cli.find_processes()
        results = _evaluate(cli, distributed)
        if distributed.is_main or distributed.store is None:
            _show(cli, results)
    status = exit_status(results)
    if status:
        sys.exit(status)


def exit_status(results: Sequence[TransferResult]) -> int:
    """0 if all images were evaluated without discrepancies; 128 plus the signal's number after a signal."""
    signals = [result.interrupted for result in results if result.interrupted is not None]
    if signals:
        return 128 + signals[0]
    return 0 if all(result.status == "ok" for result in results) else NOT_OK


def _evaluate(cli: JudgeCLI, distributed: Distributed) -> list[TransferResult]:
    """Evaluates the stored images of all runs on the network of the task, until a signal."""
    options, network, dataset = cli.config_init, cli.load_network(), cli.load_data()
    results = []
    for run in options.runs:
        results.append(
            evaluate_stored(
                run,
                network,
                dataset,
                name=options.name or cli.checkpoint.resolve().parent.name,
                output=options.output,
                eps=options.eps or (),
                batch_size=options.batch_size,
                device=options.device or default_device(distributed.local_rank),
                distributed=distributed,
            )
        )
        if results[-1].interrupted is not None:
            break
    return results


def _show(cli: JudgeCLI, results: Sequence[TransferResult]) -> None:
    """Prints the results; if all runs are done, writes and prints the table of all networks too."""
    for result in results:
        say(f"{result}\nrecords  {result.folder}\n")
    if any(result.interrupted is not None for result in results):
        return
    options = cli.config_init
    matrix = transfer_matrix(options.runs, options.output)
    files = write_transfer(matrix, Path(options.output))
    say(f"{matrix}\n")
    say("\n".join(f"transfer {path}" for path in files))
