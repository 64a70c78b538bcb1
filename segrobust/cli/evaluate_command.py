"""`segrobust evaluate`: attacks a trained network."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lightning.pytorch.cli import LightningArgumentParser
from torch import nn
from torch.distributed import DistError

import segrobust
from segrobust.attacks import Attack
from segrobust.attacks.targets import Targets
from segrobust.callbacks.wandb_evaluation import WandbOptions, log_evaluation, require_wandb
from segrobust.cli.console import say, without_traceback
from segrobust.cli.network_command import NetworkCLI, default_device
from segrobust.cli.segrobust_cli import DEMO_CONFIG, DEMO_WEIGHTS
from segrobust.evaluation import Report
from segrobust.evaluation.checks import worst_status
from segrobust.evaluation.jobs.evaluation_steps import CheckLevel
from segrobust.evaluation.plan import PresetName
from segrobust.functional.lengths import Length
from segrobust.networks import weights_digest
from segrobust.shipped import shipped_path

INCOMPLETE: Final = 1
"""Exit status if records are missing: an attack or an image raised an error, or another process was lost."""

UNRELIABLE: Final = 3
"""Exit status if a check failed, with --strict."""


class EvaluateCLI(NetworkCLI):
    """Attack a trained segmentation network and measure its robustness. Without arguments, attack the demo network.

    Reads the experiment file that trained the network. The same command resumes an evaluation that was killed, and with
    more attacks adds them to a finished one. Under torchrun or srun, all processes work on one evaluation.

    On finished evaluations, `segrobust report RUN` writes the report again, `segrobust compare RUN RUN` compares runs,
    and `segrobust judge RUN` evaluates stored adversarial images on another network. `segrobust data check` checks the
    data before an evaluation.
    """

    demo = (
        *("--config", DEMO_CONFIG),
        *("--config", str(shipped_path("demo_evaluation.yaml"))),
        *("--checkpoint", DEMO_WEIGHTS),
    )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the attacks, the number of images, and the outputs."""
        super().add_arguments_to_parser(parser)
        add = parser.add_argument
        preset_help = "ready-made plan; standard if no attacks are given"
        add("--preset", type=PresetName | None, default=None, help=preset_help)
        attacks_help = "attacks by name, instead of a preset; `segrobust configs attack` lists examples"
        add("--attacks", type=dict[str, Attack] | None, default=None, help=attacks_help)
        targets_help = "target classes of the pixels, for attacks with a targeted or localised criterion"
        add("--targets", type=Targets | None, default=None, help=targets_help)
        eps_help = "radii in [0, 1] for the given attacks: 8/255, or [4/255, 8/255]"
        add("--eps", type=list[Length] | Length | None, default=None, help=eps_help)
        images_help = "attack a fixed random subset of this size"
        add("--max_images", "--max-images", type=int | None, default=None, help=images_help)
        asr_help = "compute success rates only: fixed-budget attacks skip images that are already broken"
        add("--asr_only", "--asr-only", type=bool, default=False, help=asr_help)
        checks_help = "check for false robustness: basic costs a few passes, thorough runs more attacks on two images"
        add("--checks", type=CheckLevel, default="basic", help=checks_help)
        add("--strict", action="store_true", help=f"exit with status {UNRELIABLE} if a check fails")
        skip_help = "skip images that cannot be read; they are listed, and the exit status is not 0"
        add("--skip_unreadable", "--skip-unreadable", type=bool, default=False, help=skip_help)
        redo_help = "measure samples again whose image or mask has changed since the run directory was made"
        add("--redo_changed", "--redo-changed", type=bool, default=False, help=redo_help)
        panels_help = "number of images to draw; the worst and the median image are added"
        add("--panels", type=int, default=4, help=panels_help)
        keep_help = "store adversarial images, float32 safetensors, for `segrobust judge`"
        add("--keep_adversarials", "--keep-adversarials", type=bool, default=False, help=keep_help)
        add("--wandb", type=WandbOptions | None, default=None, help="log the results to Weights & Biases")
        dry_help = "measure one pass, estimate the time of the evaluation, and stop"
        add("--dry_run", "--dry-run", action="store_true", help=dry_help)


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
