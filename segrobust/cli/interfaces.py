"""The options of all commands, in the groups and the order of their help."""

from pathlib import Path
from typing import Final, Literal

from segrobust.cli.options import Interface, Option, Positional
from segrobust.cli.training_options import CHECKPOINTS, TRAINER

_CONFIG: Final = Option(
    name="config",
    metavar="FILE",
    help="YAML file; later ones and options win; segrobust:NAME is ours",
    foreign=True,
    also=("cfg", "yaml"),
)
_MODEL: Final = Option(
    name="model", metavar="CLASS", help="task with its network, and --model.network and the like",
    parts=True, foreign=True, also=("network", "task", "net"),
)  # fmt: skip
_DATA: Final = Option(
    name="data", metavar="CLASS", help="data module, and --data.val, --data.batch_size and the like",
    parts=True, foreign=True, also=("dataset", "datamodule"),
)  # fmt: skip
_SEED: Final = Option(
    name="seed_everything", metavar="N", help="seed of all random numbers (0)", foreign=True, also=("seed",)
)
_RUN_DIR: Final = Option(
    name="run_dir", default="runs/run", metavar="FOLDER", also=("output", "log_dir", "save_dir", "out"),
    help="settings, checkpoints, weights, evaluations (runs/run)",
)  # fmt: skip
_HELP: Final = (
    Option(name="help", metavar="[GROUP]", help="this page; --help all, --help data: every option", foreign=True),
    Option(name="print_config", help="print all settings as YAML, and stop", foreign=True),
    Option(name="version", help="print the version, and stop", foreign=True),
)
_CLASS_HELP: Final = (
    "`--data.help CLASS`, `--attacks.help CLASS`: the arguments of a class. --max-images is --max_images."
)

_WEIGHTS: Final = (
    _CONFIG,
    _MODEL,
    _DATA,
    Option(
        name="checkpoint", kind=str | None, metavar="FILE", also=("weights", "ckpt", "ckpt_path", "pretrained"),
        help="weights (weights.safetensors in run_dir, else the network's own)",
    ),
    Option(
        name="checkpoint_part", kind=str | None, metavar="NAME",
        help="copy to take if the file holds several, such as state_dict_ema",
    ),
    Option(
        name="accept_mismatch", kind=bool, default=False,
        help="continue if classes or normalisation differ from the weights' record",
    ),
    Option(name="split", kind=Literal["val", "test"], default="val", help="data set of the data module (val)"),
)  # fmt: skip
_DEVICE: Final = (
    Option(
        name="device", kind=str | None, metavar="DEVICE", help="cpu, cuda or cuda:1 (cuda if available)",
        also=("gpu", "cuda", "accelerator", "devices"),
    ),
    Option(
        name="batch_size", kind=int, default=1, least=1, metavar="N",
        help="images per batch, halved if memory runs out (1)",
    ),
    Option(
        name="stalled_after", kind=float | None, metavar="SECONDS",
        help="end a process without a pass for so long; others do its work",
    ),
)  # fmt: skip
_UNTRAINED: Final = ("trainer", "optimizer", "lr_scheduler")
"""Groups that Lightning adds, and that have no effect without a training."""

_EVALUATE: Final = Interface(
    description="""\
Attack a trained segmentation network and measure its robustness. Without a network and data, attack
the demo network. The same command resumes an evaluation that was killed, and with more attacks adds
them to a finished one. Under torchrun or srun, all processes work on one evaluation.""",
    groups={
        "network and data": _WEIGHTS,
        "attacks": (
            Option(
                name="preset", kind=Literal["validation", "quick", "standard", "thorough"] | None,
                help="plan (standard without attacks)", also=("plan",),
            ),
            Option(
                name="attacks", kind=None, parts=True, metavar="NAMES", also=("attack",),
                help="--attacks.pgd PGD --attacks.pgd.num_steps 20; `segrobust configs attack`",
            ),
            Option(
                name="eps", kind=None, metavar="RADII",
                help="radii in [0, 1] for these attacks: 8/255, or '[4/255, 8/255]'",
                also=("epsilon", "radius", "radii"),
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
            _SEED,
        ),
        "checks": (
            Option(
                name="checks", kind=Literal["basic", "thorough", "off"], default="basic",
                help="look for false robustness (basic: a few passes)",
            ),
            Option(name="strict", kind=bool, default=False, help="exit status 3 if a check fails"),
        ),
        "work": (
            *_DEVICE,
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
            _RUN_DIR,
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
        "help": _HELP,
    },
    hidden=_UNTRAINED,
    notes=(_CLASS_HELP, "Flags: --strict, --strict true, --no_strict."),
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
        "network and data": _WEIGHTS,
        "judgement": (
            Option(
                name="name", kind=str | None, metavar="NAME",
                help="of the network in tables (the folder of its weights)",
            ),
            Option(
                name="eps", kind=None, metavar="RADII", also=("epsilon", "radius", "radii"),
                help="radii of balls into which minimal-norm perturbations are projected",
            ),
            Option(
                name="output", default="judgements", metavar="FOLDER",
                help="records, transfer.json and transfer.png; never in a run (judgements)",
            ),
        ),
        "work": (_SEED, *_DEVICE, _RUN_DIR),
        "help": _HELP,
    },
    hidden=_UNTRAINED,
    notes=(_CLASS_HELP,),
)  # fmt: skip

_TRAIN: Final = Interface(
    description="""\
Train a segmentation network on clean or attacked images, and store its weights with their record.
Without a network and data, train the demo network for a few minutes.""",
    groups={
        "network and data": (
            _CONFIG,
            _MODEL,
            _DATA,
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
            _RUN_DIR,
            Option(name="resume", kind=bool, default=False, help="continue the run in run_dir where it stopped"),
            _SEED,
        ),
        "trainer (Lightning)": TRAINER,
        "checkpoints (Lightning)": CHECKPOINTS,
        "help": _HELP,
    },
    notes=(_CLASS_HELP,),
)  # fmt: skip

_RUN: Final = "folder of a run: `evaluation-...` in the run_dir of an evaluation"
_ONLY_HELP: Final = (Option(name="help", help="this page", foreign=True),)

_REPORT: Final = Interface(
    description="Compute summaries, curves, tables and the page of a run again from its records; print the tables.",
    positionals=(Positional(name="run", metavar="RUN", help=_RUN, kind=Path),),
    groups={"options": _ONLY_HELP},
)
_COMPARE: Final = Interface(
    description="Compare several runs on one page.",
    positionals=(Positional(name="runs", metavar="RUN", help=_RUN, count="+", kind=Path),),
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
            *_ONLY_HELP,
        )
    },
)  # fmt: skip
_BENCH_FOLDER: Final = Option(
    name="folder", kind=Path, default=Path("bench"), metavar="FOLDER", help="of the bench (bench)"
)
_BENCH_VERIFY: Final = Interface(
    description="""\
Judge every witness of a bench again by one forward pass, and compare all of its numbers. Without a
network and data, networks that come with segrobust are judged, and all others are listed. The exit
status is 1 if a number is not true.""",
    groups={
        "network and data": _WEIGHTS,
        "bench": (_BENCH_FOLDER,),
        "work": (_SEED, *_DEVICE, _RUN_DIR),
        "help": _HELP,
    },
    hidden=_UNTRAINED,
    notes=(_CLASS_HELP,),
)
_BENCH_SUBMIT: Final = Interface(
    description="""\
Lower the cells of a bench by the perturbations that a run stored, and say by how much. No cell can
rise. Each perturbation is judged again; the file of the network is verified before.""",
    positionals=(
        Positional(name="run", metavar="RUN", kind=Path, help="folder `evaluation-...`, made with --keep_adversarials"),
    ),
    groups={
        "network and data": _WEIGHTS,
        "bench": (
            Option(name="name", metavar="NAME", help="of the network in the bench, such as demo"),
            _BENCH_FOLDER,
            Option(
                name="store_images", kind=bool, default=False,
                help="store images and labels too: data that may be published",
            ),
        ),
        "work": (_SEED, *_DEVICE, _RUN_DIR),
        "help": _HELP,
    },
    hidden=_UNTRAINED,
    notes=(_CLASS_HELP,),
)  # fmt: skip
_BENCH_PAGE: Final = Interface(
    description="Write the leaderboard of a bench: what its files state, as a page of Markdown.",
    groups={
        "options": (
            _BENCH_FOLDER,
            Option(
                name="output", kind=Path, default=Path("docs/leaderboard.md"), metavar="FILE",
                help="the page (docs/leaderboard.md)",
            ),
            *_ONLY_HELP,
        )
    },
)  # fmt: skip
_ENSEMBLE: Final = Interface(
    description="""\
Choose attacks one after the other by what they gain per pass, from the records of runs on the same
network and images, and print what each step costs and leaves. A second column judges the choice on
images on which it was not made.""",
    positionals=(Positional(name="runs", metavar="RUN", help=_RUN, count="+", kind=Path),),
    groups={
        "options": (
            Option(
                name="eps", kind=str | None, metavar="RADIUS", also=("epsilon", "radius", "radii"),
                help="radius in [0, 1], such as 8/255 (the largest that all runs share)",
            ),
            Option(name="metric", kind=Literal["aacc", "miou"], default="aacc", help="what the ensemble lowers (aacc)"),
            Option(name="members", kind=int, default=8, least=1, metavar="N", help="most attacks in it (8)"),
            Option(name="json", kind=Path | None, metavar="FILE", help="write the table"),
            Option(name="yaml", kind=Path | None, metavar="FILE", help="write the attacks, for evaluate --config FILE"),
            *_ONLY_HELP,
        )
    },
)  # fmt: skip
_DATA_CHECK: Final = Interface(
    description="""\
Read data sets, and report their contents and faults. The exit status is 1 if a file cannot be read
or paired, contains undefined labels or has a different size, or if an image is in two splits; with
--strict also for empty masks, nearly black or duplicate images, and absent classes.""",
    groups={
        "data": (
            Option(
                name="config", metavar="FILE", help="experiment file, or one of `segrobust configs data`",
                also=("cfg", "yaml"),
            ),
            Option(
                name="data", kind=None, parts=True, metavar="CLASS", also=("dataset", "datamodule"),
                help="data set or data module, such as PascalVOC, with --data.root and the like",
            ),
            Option(
                name="split", kind=Literal["train", "val", "test", "all"], default="all", help="of a data module (all)"
            ),
            Option(
                name="max_images", kind=int | None, least=1, metavar="N", also=("num_images", "limit"),
                help="images to read from each split, spread evenly",
            ),
            Option(name="num_workers", kind=int, default=0, least=0, metavar="N", help="loading processes (0)"),
            Option(name="strict", kind=bool, default=False, help="exit status 1 on warnings too"),
        ),
        "output": (
            Option(name="picture", kind=Path | None, metavar="FILE", help="draw samples with their masks as PNG"),
            Option(name="samples", kind=int, default=3, least=1, metavar="N", help="per split in the picture (3)"),
            Option(name="json", kind=Path | None, metavar="FILE", help="write all findings"),
            *_ONLY_HELP,
        ),
    },
)  # fmt: skip
_DATA_INIT: Final = Interface(
    description="""\
Look at a folder of images and masks, and write its `classes.yaml`: values, void, range, and places
of files. What is guessed is printed, and stands in the file as comments. Name the classes.""",
    positionals=(Positional(name="root", metavar="FOLDER", kind=Path, help="folder that holds images and masks"),),
    groups={
        "options": (
            Option(name="masks", kind=int, default=64, least=1, metavar="N", help="masks to read, spread evenly (64)"),
            Option(name="overwrite", kind=bool, default=False, help="replace a classes.yaml that is there"),
            *_ONLY_HELP,
        )
    },
)
_DATA_DOWNLOAD: Final = Interface(
    description="""\
Download a published archive, check its digest, and unpack it. Cityscapes and CamVid are missing:
Cityscapes needs an account at cityscapes-dataset.com, and CamVid is published without a digest.""",
    positionals=(
        Positional(name="name", metavar="NAME", help="of the data set", choices=("ade20k", "sbd", "voc")),
    ),
    groups={
        "options": (
            Option(name="root", kind=Path, metavar="FOLDER", help="for the archive and its contents", also=("output",)),
            *_ONLY_HELP,
        )
    },
)  # fmt: skip
_CONFIGS: Final = Interface(
    description="List the configurations that come with segrobust, each with its first line.",
    positionals=(Positional(name="group", metavar="GROUP", count="?", help="such as attack; all without it"),),
    groups={"options": _ONLY_HELP},
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
    groups={"options": _ONLY_HELP},
)  # fmt: skip
_COMPLETION: Final = Interface(
    description="""Print a script that completes commands, options and values in a shell:
  bash: segrobust completion bash > ~/.local/share/bash-completion/completions/segrobust
  zsh:  segrobust completion zsh > ~/.segrobust_completion; source it in ~/.zshrc""",
    positionals=(Positional(name="shell", metavar="SHELL", help="bash or zsh", choices=("bash", "zsh")),),
    groups={"options": _ONLY_HELP},
)

INTERFACES: Final[dict[str, Interface]] = {
    "evaluate": _EVALUATE,
    "train": _TRAIN,
    "report": _REPORT,
    "compare": _COMPARE,
    "judge": _JUDGE,
    "ensemble": _ENSEMBLE,
    "bench verify": _BENCH_VERIFY,
    "bench submit": _BENCH_SUBMIT,
    "bench page": _BENCH_PAGE,
    "data init": _DATA_INIT,
    "data check": _DATA_CHECK,
    "data download": _DATA_DOWNLOAD,
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
