"""The options of `bench` and `ensemble`."""

from pathlib import Path
from typing import Final, Literal

from segrobust.cli.options import ONLY_HELP, Interface, Option, Positional
from segrobust.cli.shared_options import CLASS_HELP, DEVICE, HELP, RUN, RUN_DIR, SEED, UNTRAINED, WEIGHTS

BENCH_FOLDER: Final = Option(
    name="folder", kind=Path, default=Path("bench"), metavar="FOLDER", help="of the bench (bench)"
)
BENCH_VERIFY: Final = Interface(
    description="""\
Judge every witness of a bench again by one forward pass, and compare all of its numbers. Without a
network and data, networks that come with segrobust are judged, and all others are listed. The exit
status is 1 if a number is not true.""",
    groups={
        "network and data": WEIGHTS,
        "bench": (BENCH_FOLDER,),
        "work": (SEED, *DEVICE, RUN_DIR),
        "help": HELP,
    },
    hidden=UNTRAINED,
    notes=(CLASS_HELP,),
)
BENCH_SUBMIT: Final = Interface(
    description="""\
Lower the cells of a bench by the perturbations that a run stored, and say by how much. No cell can
rise. Each perturbation is judged again; the file of the network is verified before.""",
    positionals=(
        Positional(name="run", metavar="RUN", kind=Path, help="folder `evaluation-...`, made with --keep_adversarials"),
    ),
    groups={
        "network and data": WEIGHTS,
        "bench": (
            Option(name="name", metavar="NAME", help="of the network in the bench, such as demo"),
            BENCH_FOLDER,
            Option(
                name="store_images", kind=bool, default=False,
                help="store images and labels too: data that may be published",
            ),
        ),
        "work": (SEED, *DEVICE, RUN_DIR),
        "help": HELP,
    },
    hidden=UNTRAINED,
    notes=(CLASS_HELP,),
)  # fmt: skip
BENCH_PAGE: Final = Interface(
    description="Write the leaderboard of a bench: what its files state, as a page of Markdown.",
    groups={
        "options": (
            BENCH_FOLDER,
            Option(
                name="output", kind=Path, default=Path("docs/leaderboard.md"), metavar="FILE",
                help="the page (docs/leaderboard.md)",
            ),
            *ONLY_HELP,
        )
    },
)  # fmt: skip
ENSEMBLE: Final = Interface(
    description="""\
Choose attacks one after the other by what they gain per pass, from the records of runs on the same
network and images, and print what each step costs and leaves. A second column judges the choice on
images on which it was not made.""",
    positionals=(Positional(name="runs", metavar="RUN", help=RUN, count="+", kind=Path),),
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
            *ONLY_HELP,
        )
    },
)  # fmt: skip
