"""Options that several commands have."""

from typing import Final, Literal

from segrobust.cli.options import Option

CONFIG: Final = Option(
    name="config",
    metavar="FILE",
    help="YAML file; later ones and options win; segrobust:NAME is ours",
    foreign=True,
    also=("cfg", "yaml"),
)
MODEL: Final = Option(
    name="model", metavar="CLASS", help="task with its network, and --model.network and the like",
    parts=True, foreign=True, also=("network", "task", "net"),
)  # fmt: skip
DATA: Final = Option(
    name="data", metavar="CLASS", help="data module, and --data.val, --data.batch_size and the like",
    parts=True, foreign=True, also=("dataset", "datamodule"),
)  # fmt: skip
SEED: Final = Option(
    name="seed_everything", metavar="N", help="seed of all random numbers (0)", foreign=True, also=("seed",)
)
RUN_DIR: Final = Option(
    name="run_dir", default="runs/run", metavar="FOLDER", also=("output", "log_dir", "save_dir", "out"),
    help="settings, checkpoints, weights, evaluations (runs/run)",
)  # fmt: skip
HELP: Final = (
    Option(name="help", metavar="[GROUP]", help="this page; --help all, --help data: every option", foreign=True),
    Option(name="print_config", help="print all settings as YAML, and stop", foreign=True),
    Option(name="version", help="print the version, and stop", foreign=True),
)
CLASS_HELP: Final = (
    "`--data.help CLASS`, `--attacks.help CLASS`: the arguments of a class. --max-images is --max_images."
)

WEIGHTS: Final = (
    CONFIG,
    MODEL,
    DATA,
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
DEVICE: Final = (
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
UNTRAINED: Final = ("trainer", "optimizer", "lr_scheduler")
"""Groups that Lightning adds, and that have no effect without a training."""
RUN: Final = "folder of a run: `evaluation-...` in the run_dir of an evaluation"
