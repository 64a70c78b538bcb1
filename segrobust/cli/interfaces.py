"""The options of all commands, in the groups and the order of their help."""

from pathlib import Path
from typing import Final, Literal

from segrobust.cli.bench_options import BENCH_PAGE, BENCH_SUBMIT, BENCH_VERIFY, ENSEMBLE
from segrobust.cli.data_options import DATA_CHECK, DATA_DOWNLOAD, DATA_INIT
from segrobust.cli.options import ONLY_HELP, Interface, Option, Positional
from segrobust.cli.shared_options import (
    CLASS_HELP,
    CONFIG,
    DATA,
    DEVICE,
    HELP,
    MODEL,
    RUN,
    RUN_DIR,
    SEED,
    UNTRAINED,
    WEIGHTS,
)
from segrobust.cli.training_options import CHECKPOINTS, TRAINER

_Preset = Literal[
    "validation", "quick", "standard", "thorough", "validation-v1", "quick-v1", "standard-v1", "thorough-v1"
]

_EVALUATE: Final = Interface(
    description="""\
Attack a trained segmentation network and measure its robustness. Without a network and data, attack
the demo network. The same command resumes an evaluation that was killed, and with more attacks adds
them to a finished one. Under torchrun or srun, all processes work on one evaluation.""",
    groups={
        "network and data": WEIGHTS,
        "attacks": (
            Option(
                name="preset", kind=_Preset | None, metavar="PRESET",
                help="validation, quick, standard (the default), thorough, or as standard-v1",
                also=("plan",),
            ),
            Option(
                name="attacks", kind=None, parts=True, metavar="NAMES", also=("attack",),
                help="--attacks.pgd PGD --attacks.pgd.num_steps 20; `segrobust configs attack`",
            ),
            Option(
                name="eps", kind=None, metavar="RADII",
                help="radii in [0, 1] for these attacks: 8/255, or '[4/255, 8/255]'",
                also=("epsilon", "radius", "radii"), several="'[4/255, 8/255]'",
            ),
            Option(
                name="targets", kind=None, parts=True, metavar="CLASS",
                help="target classes of the pixels, for targeted and localised criteria",
            ),
            Option(
                name="max_images", kind=int | None, least=1, metavar="N",
                also=("num_images", "images", "limit", "subset"),
                help="attack a fixed random subset of this size",
            ),
            Option(
                name="asr_only", kind=bool, default=False,
                help="success rates only: skip images that are already broken",
            ),
            SEED,
        ),
        "checks": (
            Option(
                name="checks", kind=Literal["basic", "thorough", "off"], default="basic",
                help="look for false robustness (basic: a few passes)",
            ),
            Option(name="strict", kind=bool, default=False, help="exit status 3 if a check fails"),
        ),
        "work": (
            *DEVICE,
            Option(
                name="skip_unreadable", kind=bool, default=False,
                help="skip images that cannot be read; they are listed (exit status 1)",
            ),
            Option(
                name="redo_changed", kind=bool, default=False,
                help="measure samples again whose image or mask has changed since",
            ),
            Option(name="dry_run", kind=bool, default=False, help="time one pass, estimate the whole, and stop"),
        ),
        "output": (
            RUN_DIR,
            Option(
                name="panels", kind=int, default=4, least=0, metavar="N",
                help="images to draw; the worst and the median are added (4)",
            ),
            Option(
                name="keep_adversarials", kind=bool, default=False,
                help="store adversarial images, for `segrobust judge`", also=("save_adversarials", "save_images"),
            ),
            Option(
                name="wandb", kind=None, parts=True, metavar="OPTIONS",
                help="log to Weights & Biases: --wandb.project NAME",
            ),
        ),
        "help": HELP,
    },
    hidden=UNTRAINED,
    notes=(CLASS_HELP, "Flags: --strict, --strict true, --no_strict."),
)  # fmt: skip

_JUDGE: Final = Interface(
    description="""\
Evaluate the adversarial images that runs stored on a network, and compare networks. For the network
that a run attacked, the numbers of the run are verified. Images must lie in [0, 1] and within the
radius of their attack; the exit status is 1 if there are discrepancies. Nothing in a run is
changed, and the same command resumes one that was killed.""",
    positionals=(
        Positional(
            name="runs", metavar="RUN", count="+", help="folder `evaluation-...`, made with --keep_adversarials",
        ),
    ),
    groups={
        "network and data": WEIGHTS,
        "judgement": (
            Option(
                name="name", kind=str | None, metavar="NAME",
                help="of the network in tables (the folder of its weights)",
            ),
            Option(
                name="eps", kind=None, metavar="RADII", also=("epsilon", "radius", "radii"), several="'[4/255, 8/255]'",
                help="radii of balls into which minimal-norm perturbations are projected",
            ),
            Option(
                name="output", default="judgements", metavar="FOLDER",
                help="records, transfer.json and transfer.png; never in a run (judgements)",
            ),
        ),
        "work": (SEED, *DEVICE, RUN_DIR),
        "help": HELP,
    },
    hidden=UNTRAINED,
    notes=(CLASS_HELP,),
)  # fmt: skip

_TRAIN: Final = Interface(
    description="""\
Train a segmentation network on clean or attacked images, and store its weights with their record.
Without a network and data, train the demo network for a few minutes.""",
    groups={
        "network and data": (
            CONFIG,
            MODEL,
            DATA,
            Option(
                name="optimizer", metavar="CLASS", parts=True, foreign=True, also=("optim",),
                help="of a task without its own; `--model.optimizer` for ours",
            ),
            Option(
                name="lr_scheduler", metavar="CLASS", parts=True, foreign=True, also=("scheduler",),
                help="of a task without its own; `--model.scheduler` for ours",
            ),
        ),
        "run": (
            RUN_DIR,
            Option(name="resume", kind=bool, default=False, help="continue the run in run_dir where it stopped"),
            SEED,
        ),
        "trainer (Lightning)": TRAINER,
        "checkpoints (Lightning)": CHECKPOINTS,
        "help": HELP,
    },
    notes=(CLASS_HELP,),
)  # fmt: skip


_REPORT: Final = Interface(
    description="Compute summaries, curves, tables and the page of a run again from its records; print the tables.",
    positionals=(Positional(name="run", metavar="RUN", help=RUN, kind=Path),),
    groups={"options": ONLY_HELP},
)
_COMPARE: Final = Interface(
    description="Compare several runs on one page.",
    positionals=(Positional(name="runs", metavar="RUN", help=RUN, count="+", kind=Path),),
    groups={
        "options": (
            Option(
                name="output", kind=Path, default=Path("compare.html"), metavar="FILE", help="the page (compare.html)"
            ),
            Option(
                name="force", kind=bool, default=False,
                help="compare even if images, data, thresholds or precision differ; the page warns",
            ),
            Option(
                name="bench", kind=Path | None, metavar="FOLDER",
                help="norms of this bench are part of the envelope that optimality is measured against",
            ),
            *ONLY_HELP,
        )
    },
)  # fmt: skip
_CONFIGS: Final = Interface(
    description="List the configurations that come with segrobust, each with its first line.",
    positionals=(Positional(name="group", metavar="GROUP", count="?", help="such as attack; all without it"),),
    groups={"options": ONLY_HELP},
)
_CONFIGS_COPY: Final = Interface(
    description="Copy a shipped configuration in order to edit it.",
    positionals=(
        Positional(name="name", metavar="NAME", help="as it is listed, such as attack/pgd.yaml"),
        Positional(
            name="target", metavar="TARGET", count="?", kind=Path, default=Path(),
            help="file or folder to write (the same file name in this folder)",
        ),
    ),
    groups={"options": ONLY_HELP},
)  # fmt: skip
_COMPLETION: Final = Interface(
    description="""Print a script that completes commands, options and values in a shell:
  bash: segrobust completion bash > ~/.local/share/bash-completion/completions/segrobust
  zsh:  segrobust completion zsh > ~/.segrobust_completion; source it in ~/.zshrc""",
    positionals=(Positional(name="shell", metavar="SHELL", help="bash or zsh", choices=("bash", "zsh")),),
    groups={"options": ONLY_HELP},
)

INTERFACES: Final[dict[str, Interface]] = {
    "evaluate": _EVALUATE,
    "train": _TRAIN,
    "report": _REPORT,
    "compare": _COMPARE,
    "judge": _JUDGE,
    "ensemble": ENSEMBLE,
    "bench verify": BENCH_VERIFY,
    "bench submit": BENCH_SUBMIT,
    "bench page": BENCH_PAGE,
    "data init": DATA_INIT,
    "data check": DATA_CHECK,
    "data download": DATA_DOWNLOAD,
    "configs": _CONFIGS,
    "configs copy": _CONFIGS_COPY,
    "completion": _COMPLETION,
}
"""What each command takes; the second word of a name is that of a command of `data`, `bench` or `configs`."""


def setting_names(command: str) -> dict[str, str]:
    """The names at the top of files, each with the other command that knows it; empty for those of the command.

    Args:
        command: which reads the file, such as `train`.
    """
    known: dict[str, str] = {}
    for name, interface in INTERFACES.items():
        if interface.find("model"):
            known |= {option.name.split(".")[0]: name for option in interface}
    own = INTERFACES[command]
    return known | dict.fromkeys((*(option.name.split(".")[0] for option in own), *own.hidden), "")
