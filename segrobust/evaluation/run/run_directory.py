"""The files of a run: their places, and their provenance."""

import hashlib
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final, Self

import torch

from segrobust.evaluation.run.locks import LOCKS
from segrobust.evaluation.run.manifest import AttackEntry, Manifest
from segrobust.evaluation.run.strict_json import append_line, read_lines
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import list_of, read_fields, text, whole
from segrobust.untrusted.regular_files import require_plain

_FOLDERS: Final = ("adversarials", "checks", "faults", LOCKS, "panels", "pictures", "records", "tables")
_FILES: Final = (
    *("manifest.json", "network.json", "provenance.jsonl", "progress.json"),
    *("report.html", "summary.json", "summary.md", "judgement.json", "images.json"),
)
_PACKAGES = ("segrobust", "torch", "torchvision", "numpy", "timm", "segmentation-models-pytorch", "lightning")


@dataclass(frozen=True)
class RunDirectory:
    """The places of the files of a run.

    Args:
        path: the directory; created at the first write.
    """

    path: Path

    @property
    def records(self) -> Path:
        """Folder of the records, one file per process."""
        return self.path / "records"

    @property
    def manifest(self) -> Path:
        """File that identifies what the records are results of."""
        return self.path / "manifest.json"

    @property
    def network(self) -> Path:
        """What the network is beside its weights."""
        return self.path / "network.json"

    @property
    def provenance(self) -> Path:
        """File with one line per command on this directory."""
        return self.path / "provenance.jsonl"

    @property
    def summary(self) -> Path:
        """All numbers."""
        return self.path / "summary.json"

    @property
    def network_checks(self) -> Path:
        """File with the checks of the network for false robustness."""
        return self.path / "checks" / "network.json"

    def attack_checks(self, planned: Iterable[AttackEntry]) -> Path:
        """File with the checks of these attacks on a few images."""
        names = " ".join(sorted(f"{entry.digest} {entry.eps}" for entry in planned))
        return self.path / "checks" / f"attacks-{hashlib.sha256(names.encode()).hexdigest()[:8]}.json"

    @property
    def page(self) -> Path:
        """The report for a browser."""
        return self.path / "report.html"

    @property
    def pictures(self) -> Path:
        """Folder of curves."""
        return self.path / "pictures"

    @property
    def panels(self) -> Path:
        """Folder of pictures of single images."""
        return self.path / "panels"

    def examine(self, manifest: Manifest) -> None:
        """Refuses results of something else; the data are compared sample by sample, see `Session.compare_samples`.

        Raises:
            ValueError: the directory cannot be written, or holds results of something else.
        """
        self.require_writable()
        if self.manifest.exists():
            Manifest.read(self.manifest).extended(manifest, self.path)

    def claim(self, manifest: Manifest) -> Manifest:
        """Checks that the directory is writable and holds results of the same evaluation, and writes the manifest.

        Every process calls this with the same manifest, within a `Claim`; the file is replaced in one step.

        Args:
            manifest: of the command that is starting.

        Returns:
            The manifest with the attacks of earlier commands.

        Raises:
            ValueError: the directory cannot be written, or holds results of something else.
        """
        self.require_writable()
        if self.manifest.exists():
            manifest = Manifest.read(self.manifest).extended(manifest, self.path)
        manifest.write(self.manifest)
        return manifest

    def require_writable(self) -> None:
        """Makes the directory, and refuses one that cannot be written or leads elsewhere.

        Raises:
            ValueError: it cannot be written.
            DataFault: as `require_plain`.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise ValueError(f"run directory {self.path} cannot be written ({error}); choose another one") from error
        self.require_plain()

    def require_plain(self) -> None:
        """Refuses links and special files among the files of a run: nothing here is read or written elsewhere.

        Raises:
            DataFault: a link, FIFO, socket or device; the message names it.
        """
        require_plain(self.path, _FOLDERS, _FILES)

    def own_files(self, pattern: str) -> Iterator[Path]:
        """Files in this directory and in the folders of a run, by a pattern of their names."""
        yield from self.path.glob(pattern)
        for folder in _FOLDERS:
            yield from (self.path / folder).rglob(pattern)

    def append_provenance(self, provenance: "Provenance") -> None:
        """Appends one line about the command that is starting."""
        append_line(self.provenance, asdict(provenance), root=self.path)

    def read_provenance(self) -> "tuple[Provenance, ...]":
        """One entry per command; a last line that is incomplete is left out.

        Raises:
            ValueError: a damaged line, with file and number.
        """
        if not self.provenance.exists():
            return ()
        return tuple(
            Provenance.of(value, where) for where, value in read_lines(self.provenance, "a line", root=self.path)
        )


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Provenance of one command; environment variables are not recorded.

    Attributes:
        time: start, UTC, ISO 8601.
        command: the command line.
        device: where the network is, with the GPU's name.
        threads: of torch on CPU.
        batch_size: images per batch.
        world_size: processes.
        commit: of the working directory's git repository, followed by "dirty" if files were changed; empty if none.
        versions: of Python and of packages.
    """

    time: str
    command: tuple[str, ...]
    device: str
    threads: int
    batch_size: int
    world_size: int
    commit: str
    versions: tuple[str, ...]

    @classmethod
    def of(cls, value: object, where: str) -> Self:
        """The provenance in a line.

        Args:
            value: the parsed line.
            where: file and line, for messages.

        Raises:
            DataFault: other fields, or a field of another type.
        """
        try:
            return cls(**read_fields(value, _READERS))
        except ValueError as error:
            raise DataFault(f"{where}: {error}; delete this line") from error

    @classmethod
    def now(cls, *, device: torch.device, batch_size: int, world_size: int) -> Self:
        """The provenance of this process."""
        return cls(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(sys.argv),
            device=device_name(device),
            threads=torch.get_num_threads(),
            batch_size=batch_size,
            world_size=world_size,
            commit=_commit(),
            versions=(f"python {platform.python_version()}", *map(_version, _PACKAGES)),
        )


_READERS: Final = {
    **dict.fromkeys(("time", "device", "commit"), text()),
    **dict.fromkeys(("command", "versions"), list_of(text())),
    **dict.fromkeys(("threads", "batch_size", "world_size"), whole(0)),
}


def device_name(device: torch.device) -> str:
    """The device, with the name of a GPU."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _commit() -> str:
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty= dirty"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} not installed"
