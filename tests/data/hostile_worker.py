"""Runs every reader over the hostile files in a process of its own, under a monitor; one line of JSON for each file.

Arguments: the folder to write to, and parts of names to be run alone. `hostile_files` and `dataset_trees` must be on
the path.
"""

import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import hostile_parts  # noqa: F401  it adds files
import torch
from hostile_files import REGISTRY, TREES
from reference_monitor import Growth, Monitor, interrupt_hangs, limit_memory, outcome, say

import segrobust
from segrobust.attacks import FGSM
from segrobust.attacks.targets import LabelMap
from segrobust.attacks.targets.target_maps import Scene
from segrobust.cli.console import REFUSED
from segrobust.cli.data_command import data_command
from segrobust.data import Cityscapes, Folder, PascalVOC, SegmentationDataModule
from segrobust.data.files.unpacking import unpack
from segrobust.label_space import LabelSpace
from segrobust.untrusted.documents import read_json

_NETWORK = torch.nn.Conv2d(3, 2, 1)
_SPACE = LabelSpace(names=("water", "quay"), palette=((1, 2, 3), (4, 5, 6)))


def check(name: str, root: Path, *more: str) -> None:
    """`data check`: its findings become the error, as a user reads them."""
    printed, complaints = io.StringIO(), io.StringIO()
    arguments = ["check", "--data", name, "--data.root", str(root), *more]
    status: object = 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complaints):
        try:
            data_command(arguments)
        except SystemExit as exit_:
            status = exit_.code
    text = f"{printed.getvalue()}{complaints.getvalue() if status == REFUSED else ''}"
    if "Traceback" in text + complaints.getvalue() or any(not (c.isprintable() or c == "\n") for c in text):
        raise AssertionError(f"printed {text!r}")
    if status != 0:
        raise ValueError(text.replace("\n", " "))


def read_all(dataset: object) -> None:
    for index in range(len(dataset)):  # type: ignore[arg-type]
        dataset[index]  # type: ignore[index]


def evaluate(root: Path) -> None:
    segrobust.evaluate(
        _NETWORK, Folder(root, "val"), attacks={"fgsm": FGSM()}, eps=(0.01,), checks="off", progress=False
    )


def train(root: Path) -> None:
    data = Folder(root, "val")
    list(SegmentationDataModule(train=data, val=data, batch_size=1, num_workers=0).train_dataloader())


def read_map(root: Path) -> None:
    labels, logits = torch.zeros(1, 4, 5, dtype=torch.long), torch.zeros(1, 2, 4, 5)
    scene = Scene(labels=labels, logits=logits, names=None, ignore_index=255, label_space=_SPACE)
    LabelMap(path=str(root / "map.png")).maps(scene)


def unpack_all(root: Path) -> None:
    for path in root.glob("evil*"):
        unpack(path, root / "data")


_FOLDER: tuple[Callable[[Path], None], ...] = (
    lambda root: check("Folder", root, "--data.split", "val"),
    lambda root: read_all(Folder(root, "val")),
    evaluate,
    train,
)
_VOC = (
    lambda root: check("PascalVOC", root, "--data.split", "train_aug", "--data.sbd", str(root)),
    lambda root: read_all(PascalVOC(root, "train_aug", sbd=root)),
)
READERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    **dict.fromkeys(("image", "mask", "measurement", "classes", "file name"), _FOLDER),
    **dict.fromkeys(("list", "matlab"), _VOC),
    "city": (
        lambda root: check("Cityscapes", root, "--data.split", "val"),
        lambda root: read_all(Cityscapes(root, "val")),
    ),
    "archive": (unpack_all,),
    "label map": (read_map, lambda root: LabelMap(path=str(root / "map.png")).identity and read_map(root)),
    "json": (lambda root: read_json(root / "a.json", "a file") and None,),
}


def main(folder: Path, parts: list[str]) -> None:
    folder.mkdir()
    interrupt_hangs()
    monitor = Monitor(folder)
    for group, tree in TREES.items():  # whole trees first: they are read, and everything is imported
        root = folder / f"whole {group}"
        tree(root)
        readers = READERS[group] if group not in ("label map", "json") else ()
        say(name=f"whole {group}", said=[outcome(partial(reader, root)) for reader in readers])
    limit_memory(4 * 2**30)
    for number, entry in enumerate(REGISTRY.values()):
        if parts and not any(part in entry.name for part in parts):
            continue
        root = folder / str(number)
        TREES[entry.group](root)
        entry.write(root)
        growth, started = Growth(), time.process_time()
        monitor.found, monitor.on = [], True
        said = [outcome(partial(reader, root)) for reader in READERS[entry.group]]
        monitor.on = False
        seconds = time.process_time() - started
        say(name=entry.name, said=said, mebibytes=growth.mebibytes, monitor=monitor.found, seconds=seconds)
    monitor.found, monitor.on = [], True
    subprocess.run(["true"], check=True)
    (folder.parent / "outside").write_text("")
    monitor.on = False
    say(name="what the monitor must see", monitor=monitor.found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
