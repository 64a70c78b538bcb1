"""The options of the commands on data."""

from pathlib import Path
from typing import Final, Literal

from segrobust.cli.options import ONLY_HELP, Interface, Option, Positional

DATA_CHECK: Final = Interface(
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
            *ONLY_HELP,
        ),
    },
)  # fmt: skip
"""Of `data check`."""

DATA_INIT: Final = Interface(
    description="""\
Look at a folder of images and masks, and write its `classes.yaml`: values, void, range, and places
of files. What is guessed is printed, and stands in the file as comments. Name the classes.""",
    positionals=(Positional(name="root", metavar="FOLDER", kind=Path, help="folder that holds images and masks"),),
    groups={
        "options": (
            Option(name="masks", kind=int, default=64, least=1, metavar="N", help="masks to read, spread evenly (64)"),
            Option(name="overwrite", kind=bool, default=False, help="replace a classes.yaml that is there"),
            *ONLY_HELP,
        )
    },
)
"""Of `data init`."""

DATA_DOWNLOAD: Final = Interface(
    description="""\
Download a published archive, check its digest, and unpack it. Cityscapes and CamVid are missing:
Cityscapes needs an account at cityscapes-dataset.com, and CamVid is published without a digest.""",
    positionals=(
        Positional(name="name", metavar="NAME", help="of the data set", choices=("ade20k", "sbd", "voc")),
    ),
    groups={
        "options": (
            Option(name="root", kind=Path, metavar="FOLDER", help="for the archive and its contents", also=("output",)),
            *ONLY_HELP,
        )
    },
)  # fmt: skip
"""Of `data download`."""
