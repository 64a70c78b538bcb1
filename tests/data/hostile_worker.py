"""Runs every reader over the hostile files in a process of its own, under a monitor; one line of JSON for each file.

Arguments: the folder to write to. `hostile_files` and `dataset_trees` must be on the path.
"""

import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hostile_files import REGISTRY, TREES

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

LONGEST_WORK, LONGEST_WAIT = 5, 60
"""Seconds of the processor and of the clock that a reader may take; what waits for a FIFO waits for ever."""

_NETWORK = torch.nn.Conv2d(3, 2, 1)
_SPACE = LabelSpace(names=("water", "quay"), palette=((1, 2, 3), (4, 5, 6)))


class Monitor:
    """Records programs that are started, connections, and changes of files outside of a folder."""

    def __init__(self, inside: Path) -> None:
        self.inside = str(inside)
        self.found: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"):
            self.found.append(f"{event} {arguments!r}"[:300])
        elif event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if writes and not isinstance(path, int) and not self._is_inside(path):
                self.found.append(f"open {path!r} {mode!r}")
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate"):
            place = arguments[1] if event in ("os.rename", "os.link", "os.symlink") else arguments[0]
            if not self._is_inside(place):
                self.found.append(f"{event} {place!r}")

    def _is_inside(self, path: object) -> bool:
        text = os.path.realpath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
        return text.startswith(self.inside) or text == os.devnull


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
    **dict.fromkeys(("image", "mask", "classes", "file name"), _FOLDER),
    **dict.fromkeys(("list", "matlab"), _VOC),
    "city": (
        lambda root: check("Cityscapes", root, "--data.split", "val"),
        lambda root: read_all(Cityscapes(root, "val")),
    ),
    "archive": (unpack_all,),
    "label map": (read_map, lambda root: LabelMap(path=str(root / "map.png")).identity and read_map(root)),
    "json": (lambda root: read_json(root / "a.json", "a file") and None,),
}


def outcome(reader: Callable[[Path], None], root: Path) -> str:
    """What a reader said: `ok`, or the type of its error and its message."""
    signal.setitimer(signal.ITIMER_PROF, LONGEST_WORK)
    signal.alarm(LONGEST_WAIT)
    try:
        reader(root)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "ok"


def hang(number: int, frame: object) -> None:
    raise TimeoutError("a reader hangs")


def report(**line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    folder.mkdir()
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, hang)
    monitor = Monitor(folder)
    for group, tree in TREES.items():  # whole trees first: they are read, and everything is imported
        root = folder / f"whole {group}"
        tree(root)
        whole = [outcome(reader, root) for reader in READERS[group]] if group not in ("label map", "json") else []
        report(name=f"whole {group}", said=whole)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 4 * 2**30, size + 4 * 2**30))
    for number, entry in enumerate(REGISTRY.values()):
        root = folder / str(number)
        TREES[entry.group](root)
        entry.write(root)
        Path("/proc/self/clear_refs").write_text("5")  # the largest size so far begins anew
        base = _resident("VmRSS")
        started = time.process_time()
        monitor.found, monitor.on = [], True
        said = [outcome(reader, root) for reader in READERS[entry.group]]
        monitor.on = False
        grown = (_resident("VmHWM") - base) // 1024
        report(
            name=entry.name, said=said, mebibytes=grown, monitor=monitor.found, seconds=time.process_time() - started
        )
    monitor.found, monitor.on = [], True
    subprocess.run(["true"], check=True)
    (folder.parent / "outside").write_text("")
    monitor.on = False
    report(name="what the monitor must see", monitor=monitor.found)


def _resident(field: str) -> int:
    """KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
