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
from segrobust.cli.console import say, stop
from segrobust.cli.network_command import NetworkCLI, default_device
from segrobust.cli.segrobust_cli import DEMO_CONFIG, DEMO_WEIGHTS
from segrobust.evaluation import Distributed, Report
from segrobust.evaluation.checks import worst_status
from segrobust.evaluation.jobs.evaluation_steps import CheckLevel
from segrobust.evaluation.plan import PresetName
from segrobust.functional.lengths import Length
from segrobust.networks import weights_digest
from segrobust.shipped import shipped_path

INCOMPLETE: Final = 1
"""Exit status where records are missing: an attack raised, an image could not be read, another process was lost."""

UNRELIABLE: Final = 3
"""Exit status where a check failed, under --strict."""


class EvaluateCLI(NetworkCLI):
    """Attack a trained segmentation network and tell how robust it is. A bare command attacks the demo network.

    Reads the experiment file that trained the network. The same command continues a killed evaluation, and with more
    attacks adds them to a finished one; under torchrun or srun, all processes work on one evaluation.

    On what evaluations left: `segrobust report RUN` makes the report anew, `segrobust compare RUN RUN` sets runs side
    by side, `segrobust judge RUN` shows kept adversarial images to another network. Before all of it,
    `segrobust data check` looks at data.
    """

    demo = (
        *("--config", DEMO_CONFIG),
        *("--config", str(shipped_path("demo_evaluation.yaml"))),
        *("--checkpoint", DEMO_WEIGHTS),
    )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds what to attack, how, and how much of it."""
        super().add_arguments_to_parser(parser)
        add = parser.add_argument
        preset_help = "ready-made plan; standard if no attacks are given"
        add("--preset", type=PresetName | None, default=None, help=preset_help)
        attacks_help = "attacks by name, in place of a preset; `segrobust configs attack` lists examples"
        add("--attacks", type=dict[str, Attack] | None, default=None, help=attacks_help)
        targets_help = "what pixels are to become, of attacks whose criterion is targeted or localised"
        add("--targets", type=Targets | None, default=None, help=targets_help)
        eps_help = "radii in [0, 1] for the given attacks: 8/255, or [4/255, 8/255]"
        add("--eps", type=list[Length] | Length | None, default=None, help=eps_help)
        images_help = "attack a fixed random subset of this size"
        add("--max_images", "--max-images", type=int | None, default=None, help=images_help)
        asr_help = "want success rates only: fixed-budget attacks leave out images that are broken already"
        add("--asr_only", "--asr-only", type=bool, default=False, help=asr_help)
        checks_help = "look for false robustness: basic costs a few passes, thorough attacks two images more"
        add("--checks", type=CheckLevel, default="basic", help=checks_help)
        add("--strict", action="store_true", help=f"exit with status {UNRELIABLE} if a check fails")
        skip_help = "go on where an image cannot be read; it is listed, and the exit status tells"
        add("--skip_unreadable", "--skip-unreadable", type=bool, default=False, help=skip_help)
        redo_help = "measure samples anew whose image or mask changed since the run directory was made"
        add("--redo_changed", "--redo-changed", type=bool, default=False, help=redo_help)
        panels_help = "images of which pictures are drawn; the worst and the median image come to these"
        add("--panels", type=int, default=4, help=panels_help)
        keep_help = "keep adversarial images, float32 safetensors, for `segrobust judge`"
        add("--keep_adversarials", "--keep-adversarials", type=bool, default=False, help=keep_help)
        add("--wandb", type=WandbOptions | None, default=None, help="log the outcome to Weights & Biases")
        dry_help = "measure one pass, tell the time that the evaluation needs, and stop"
        add("--dry_run", "--dry-run", action="store_true", help=dry_help)


def evaluate_command(arguments: Sequence[str]) -> None:
    """Attacks the network of a task on the data of a data module.

    Args:
        arguments: what follows `evaluate` on the command line; none for the demo.
    """
    cli = EvaluateCLI(arguments)
    options = cli.config_init
    try:
        if options.wandb is not None:
            require_wandb(options.wandb)
        network, dataset = cli.load_network(), cli.load_data()
        distributed = Distributed.from_environment()
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
            accept_mismatch=True,  # what the weights record has been compared with the data already
            targets=options.targets,
        )
        if distributed.is_main:
            report.print()
            if options.wandb is not None and report.directory is not None and not report.missing:
                say(f"wandb    {log_evaluation(report.directory, options.wandb)}")
    except (ValueError, OSError, FloatingPointError, DistError) as error:
        stop(error)
    status = exit_status(report, strict=options.strict)
    if status:
        sys.exit(status)


def run_name(network: nn.Module, targets: Targets | None) -> str:
    """Folder of an evaluation: results towards other targets lie in another one."""
    name = f"evaluation-{weights_digest(network)[:8]}"
    if targets is None:
        return name
    return f"{name}-{type(targets).__name__}-{hashlib.sha256(targets.identity.encode()).hexdigest()[:8]}"


def exit_status(report: Report, *, strict: bool) -> int:
    """0 if all is well; 128 and the signal's number after a signal, as shells do."""
    if report.interrupted is not None:
        return 128 + report.interrupted
    if report.missing or report.faults:
        return INCOMPLETE
    return UNRELIABLE if strict and worst_status(report.checks) == "fail" else 0
