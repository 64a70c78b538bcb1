"""`segrobust evaluate`: attacks a trained network."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from torch import nn
from torch.distributed import DistError

import segrobust
from segrobust.attacks import Attack
from segrobust.attacks.targets import Targets
from segrobust.callbacks.wandb_evaluation import WandbOptions, log_evaluation, require_wandb
from segrobust.cli.console import say, without_traceback
from segrobust.cli.network_command import NetworkCLI, default_device
from segrobust.evaluation import Report
from segrobust.evaluation.checks import worst_status
from segrobust.functional.lengths import Length
from segrobust.networks import weights_digest

INCOMPLETE: Final = 1
"""Exit status if records are missing: an attack or an image raised an error, or another process was lost."""

UNRELIABLE: Final = 3
"""Exit status if a check failed, with --strict."""


class EvaluateCLI(NetworkCLI):
    """Reads the experiment file that trained a network, and attacks it."""

    command = "evaluate"
    types: Mapping[str, Any] = MappingProxyType(
        {
            "attacks": dict[str, Attack] | None,
            "targets": Targets | None,
            "eps": list[Length] | Length | None,
            "wandb": WandbOptions | None,
        }
    )


def evaluate_command(arguments: Sequence[str]) -> None:
    """Attacks the network of a task on the data of a data module.

    Args:
        arguments: what follows `evaluate` on the command line; none for the demo.
    """
    cli = EvaluateCLI(arguments)
    options = cli.config_init
    with without_traceback(ValueError, OSError, FloatingPointError, DistError):
        if options.wandb is not None:
            require_wandb(options.wandb)
        network, dataset = cli.load_network(), cli.load_data()
        distributed = cli.find_processes()
        report = segrobust.evaluate(
            network,
            dataset,
            preset=options.preset,
            attacks=options.attacks,
            eps=[options.eps] if isinstance(options.eps, float) else options.eps,
            max_images=options.max_images,
            run_dir=Path(options.run_dir) / run_name(network, options.targets),
            batch_size=options.batch_size,
            device=options.device or default_device(distributed.local_rank),
            seed=options.seed_everything,
            distributed=distributed,
            asr_only=options.asr_only,
            checks=options.checks,
            panels=options.panels,
            keep_adversarials=options.keep_adversarials,
            skip_unreadable=options.skip_unreadable,
            redo_changed=options.redo_changed,
            dry_run=options.dry_run,
            accept_mismatch=True,  # `load_network` has compared the record of the weights with the data
            targets=options.targets,
        )
        if distributed.is_main:
            report.print()
            if options.wandb is not None and report.directory is not None and not report.missing:
                say(f"wandb    {log_evaluation(report.directory, options.wandb)}")
    status = exit_status(report, strict=options.strict)
    if status:
        sys.exit(status)


def run_name(network: nn.Module, targets: Targets | None) -> str:
    """Folder name of an evaluation; other targets give another folder."""
    name = f"evaluation-{weights_digest(network)[:8]}"
    if targets is None:
        return name
    return f"{name}-{type(targets).__name__}-{hashlib.sha256(targets.identity.encode()).hexdigest()[:8]}"


def exit_status(report: Report, *, strict: bool) -> int:
    """0 without errors; 128 plus the signal's number after a signal, as in shells."""
    if report.interrupted is not None:
        return 128 + report.interrupted
    if report.missing or report.faults:
        return INCOMPLETE
    return UNRELIABLE if strict and worst_status(report.checks) == "fail" else 0
