"""`segrobust bench`: the worst perturbations known of a network, verified and lowered."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from torch.distributed import DistError

from segrobust.cli.bench_subjects import arguments_of
from segrobust.cli.command_line import read_command_line
from segrobust.cli.console import say, without_traceback
from segrobust.cli.interfaces import INTERFACES
from segrobust.cli.network_command import NetworkCLI, default_device
from segrobust.cli.parsers import parse
from segrobust.evaluation.bench.bench_consistency import read_bench
from segrobust.evaluation.bench.bench_file import bench_files
from segrobust.evaluation.bench.bench_submission import submit_run
from segrobust.evaluation.bench.bench_verification import Verification, verify_bench
from segrobust.evaluation.bench.leaderboard import leaderboard
from segrobust.networks import weights_digest
from segrobust.untrusted.regular_files import replace_file

NOT_TRUE: Final = 1
"""Exit status if a number of a bench is not true."""


class VerifyCLI(NetworkCLI):
    """Reads the network and the data that a bench is verified on."""

    command = "bench verify"


class SubmitCLI(NetworkCLI):
    """Reads the network and the data of a run."""

    command = "bench submit"


def bench_command(arguments: Sequence[str]) -> None:
    """Entry point of `segrobust bench`.

    Args:
        arguments: what follows `bench` on the command line, a name of a command first.
    """
    _COMMANDS[arguments[0]](arguments[1:])


def verify_command(arguments: Sequence[str]) -> None:
    """Verifies the files of a bench: those of the given network, or those of the networks that are at hand."""
    line = read_command_line(arguments, INTERFACES["bench verify"])
    given = any(line.gives(name) for name in ("config", "model", "data", "checkpoint"))
    with without_traceback(ValueError, OSError, FloatingPointError, DistError):
        folder = Path((line.values("folder") or ["bench"])[-1])
        files = bench_files(folder)
        found = _verify_given(arguments, files) if given else _verify_known(arguments, files)
    if any(each.problems for each in found):
        sys.exit(NOT_TRUE)


def submit_command(arguments: Sequence[str]) -> None:
    """Lowers the cells of a bench by a run."""
    line = read_command_line(arguments, INTERFACES["bench submit"])
    names = line.values("name")
    given = any(line.gives(name) for name in ("config", "model", "data", "checkpoint"))
    with without_traceback(ValueError, OSError, FloatingPointError, DistError):
        if not names:
            raise ValueError("--name is missing: the name of the network in the bench, such as demo")
        known = None if given else arguments_of(names[-1])
        if known is None and not given:
            raise ValueError(f"{names[-1]!r} does not come with segrobust; give its --config and --checkpoint")
        cli = SubmitCLI([*(known or ()), *arguments])
        options = cli.config_init
        network = cli.load_network().to(options.device or default_device())
        found = submit_run(
            options.run,
            network,
            cli.load_data(),
            options.folder,
            name=options.name,
            store_images=options.store_images,
        )
        say("\n".join(map(str, found)))


def page_command(arguments: Sequence[str]) -> None:
    """Writes the leaderboard of a bench."""
    options = parse("bench page", arguments)
    with without_traceback(ValueError, OSError):
        replace_file(options.output, leaderboard(options.folder).encode())
        say(f"page     {options.output}")


def _verify_given(arguments: Sequence[str], files: Sequence[Path]) -> list[Verification]:
    """Verifies the files of the network of the command line, and names the others."""
    cli = VerifyCLI(arguments)
    network, dataset = cli.load_network().to(cli.config_init.device or default_device()), cli.load_data()
    found = []
    for file in files:
        if read_bench(file).weights != weights_digest(network):
            say(f"{file}: not verified, it is of another network")
            continue
        found.append(verify_bench(file, network, dataset, batch_size=cli.config_init.batch_size))
        say(str(found[-1]))
    if not found:
        raise ValueError("no file of the bench is of this network; give another --checkpoint or --folder")
    return found


def _verify_known(arguments: Sequence[str], files: Sequence[Path]) -> list[Verification]:
    """Verifies the files whose networks are at hand, and names the others."""
    found = []
    for file in files:
        known = arguments_of(file.stem.rpartition("_")[0])
        if known is None:
            say(f"{file}: not verified, its network or data are not at hand; give their --config and --checkpoint")
            continue
        cli = VerifyCLI([*known, *arguments])
        network = cli.load_network().to(cli.config_init.device or default_device())
        found.append(verify_bench(file, network, cli.load_data(), batch_size=cli.config_init.batch_size))
        say(str(found[-1]))
    return found


_COMMANDS: Final[dict[str, Callable[[Sequence[str]], None]]] = {
    "verify": verify_command,
    "submit": submit_command,
    "page": page_command,
}
