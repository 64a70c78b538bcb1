"""Checkpoint files that are complete or absent, and whose damage is found.

The SHA-256 of a checkpoint is the comment of the zip archive that `torch.save` writes. It moves with the file, and
readers that do not know it, such as `torch.load` and Lightning, ignore it.
"""

import errno
import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.cloud_io import get_filesystem
from lightning.pytorch import Trainer

from segrobust.networks.atomic_files import replacing
from segrobust.networks.weight_files import UNREADABLE
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.torch_files import require_modest_pickle

_PREFIX = b"segrobust sha256 "
_DIGITS = 64
_MARK = (len(_PREFIX) + _DIGITS).to_bytes(2, "little") + _PREFIX
_TAIL = len(_MARK) + _DIGITS
_NO_COMMENT = bytes(2)
_CHUNK = 1 << 20
_CHANGED_PICKLE = (TypeError, AttributeError, AssertionError, ArithmeticError, MemoryError)
"""What a pickle with changed bytes raises beside `UNREADABLE`."""


class DamagedCheckpointError(ValueError):
    """A checkpoint file is cut off, has changed since it was written, or is none."""


class CheckpointWriteError(OSError):
    """A checkpoint cannot be written, as on a full disk; the file that had its name before is unchanged."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints that are complete or absent, and refuses damaged ones.

    Lightning writes a checkpoint into the system's temporary folder and moves it. Between two file systems that is a
    copy over the old checkpoint, so that a kill or a full disk within it leaves neither of the two. Here the file is
    written beside its target, flushed to the disk, read back, and then renamed. It holds a digest of its content, which
    is compared before it is loaded; `torch.load` and Lightning's own plugin read it as any other checkpoint.

    Paths that are no local files, such as `s3://...`, are left to Lightning.

    Examples:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(plugins=[AtomicCheckpointIO()], logger=False, accelerator="cpu", barebones=True)
        >>> type(trainer.strategy.checkpoint_io).__name__
        'AtomicCheckpointIO'
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint; the file that it replaces exists until the new one was read back.

        Raises:
            CheckpointWriteError: the file cannot be written; the old one is unchanged.
            TypeError: storage options, which have no effect.
        """
        file = _local(path)
        if file is None or storage_options is not None:
            super().save_checkpoint(checkpoint, str(path), storage_options)
            return
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as target:
                _write(checkpoint, target)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CheckpointWriteError(
                f"checkpoint {file} cannot be written ({reason}); a file of this name is as before. Make room, or "
                "choose another folder, and resume from the last checkpoint"
            ) from error

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Loads a checkpoint after comparing its digest.

        Raises:
            FileNotFoundError: there is no such file.
            DamagedCheckpointError: the file is cut off or has changed since it was written.
        """
        file = _local(path)
        if file is not None and file.exists():
            require_complete(file)
        return super().load_checkpoint(str(path), map_location, weights_only)


def use_atomic_checkpoints(trainer: Trainer) -> None:
    """Lets a trainer write its checkpoints by `AtomicCheckpointIO`, unless it was given another plugin."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


def require_complete(path: Path) -> None:
    """Compares the digest of a checkpoint; without one, the checksums of its zip archive.

    Raises:
        OSError: the file cannot be opened.
        DamagedCheckpointError: the file is cut off or has changed since it was written.
    """
    if path.is_dir():
        return  # a checkpoint of a sharded training, in files of `torch.distributed`
    try:
        require_modest_pickle(path)
    except DataFault as error:
        cut = f"{path} is damaged: it is empty or cut off ({path.stat().st_size} bytes)"
        raise DamagedCheckpointError(str(error) if _is_refused(error) else cut) from error
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail = _read_tail(file, size)
        if tail.startswith(_MARK):
            found = _digest(file, size - _TAIL)
            if found.encode() != tail.removeprefix(_MARK):
                raise DamagedCheckpointError(f"{path} is damaged: its content has changed since it was written")
            return
        file.seek(0)
        if size and file.read(2) != b"PK":
            return  # a pickle of old versions of torch, or no checkpoint; reading it shows which
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip() if not archive.comment else "the digest at its end"
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise DamagedCheckpointError(f"{path} is damaged: it is empty or cut off ({size} bytes)") from error
    if broken is not None:
        raise DamagedCheckpointError(f"{path} is damaged: {broken} has changed since it was written")


def _is_refused(error: Exception) -> bool:
    """Whether a file is refused for what it is, and not for damage."""
    return isinstance(error, DataFault) and error.kind in ("too large", "link")


@dataclass(frozen=True)
class ResumeChoice:
    """The checkpoint to resume from.

    Attributes:
        path: the file.
        epoch: of the checkpoint, from 0.
        step: optimiser steps that were made.
        passed_over: why each newer or damaged file was not taken.
    """

    path: Path
    epoch: int
    step: int
    passed_over: tuple[str, ...]


def newest_complete(files: Iterable[Path]) -> ResumeChoice:
    """Chooses the checkpoint with the most steps, of equal ones the last written, that is complete.

    Args:
        files: checkpoints of one training.

    Raises:
        DamagedCheckpointError: none is complete; the message lists the reasons.
    """
    readable: list[tuple[int, float, Path, int]] = []
    faults: list[str] = []
    for path in files:
        try:
            step, epoch = _position(path)
            readable.append((step, path.stat().st_mtime, path, epoch))
        except (OSError, DamagedCheckpointError) as error:
            faults.append(str(error))
    for step, _, path, epoch in sorted(readable, reverse=True):
        try:
            require_complete(path)
        except (OSError, DamagedCheckpointError) as error:
            faults.append(str(error))
        else:
            return ResumeChoice(path, epoch, step, tuple(faults))
    raise DamagedCheckpointError("; ".join(faults))


def _position(path: Path) -> tuple[int, int]:
    """Steps and epoch of a checkpoint, without reading its tensors where the format allows that."""
    sharded = path.is_dir()
    file = path / "meta.pt" if sharded else path
    try:
        require_modest_pickle(file)
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file) or None)
    except (*UNREADABLE, *_CHANGED_PICKLE) as error:
        if _is_refused(error):
            raise DamagedCheckpointError(str(error)) from error
        code = isinstance(error, pickle.UnpicklingError) and "Unsupported" in str(error)
        reason = "it needs code to be read" if code else "it is cut off, changed, or no checkpoint"
        raise DamagedCheckpointError(f"{path} cannot be read: {reason}") from error
    if not isinstance(content, dict) or not {"global_step", "epoch", "loops"} <= content.keys():
        raise DamagedCheckpointError(f"{path} is no checkpoint of a training by Lightning")
    if "optimizer_states" not in content and not sharded:
        raise DamagedCheckpointError(f"{path} holds weights alone, without the state of the optimiser")
    return int(content["global_step"]), int(content["epoch"])


class _Recorder:
    """What `torch.save` writes to: errors are kept for later, because torch replaces them by its own."""

    def __init__(self, file: BinaryIO) -> None:
        self.error: OSError | None = None
        self.digest = hashlib.sha256()
        self._file = file
        self._held = b""  # the last two bytes may be those of the comment's length

    def write(self, data: bytes) -> int:
        data = bytes(data)
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        held = self._held + data
        self.digest.update(held[:-2])
        self._held = held[-2:]
        return len(data)

    def flush(self) -> None:
        """Nothing, as the file is flushed at the end."""


def _write(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    """Writes a checkpoint with its digest, and reads it back.

    Raises:
        OSError: it cannot be written, or reads as something else.
    """
    recorder = _Recorder(file)
    torch.save(checkpoint, cast(IO[bytes], recorder))
    if recorder.error is not None:
        raise recorder.error
    digest = recorder.digest.hexdigest()
    file.seek(-len(_NO_COMMENT), os.SEEK_END)
    file.write(_MARK + digest.encode())
    file.flush()
    os.fsync(file.fileno())
    size = file.seek(0, os.SEEK_END)
    if _digest(file, size - _TAIL) != digest or _read_tail(file, size) != _MARK + digest.encode():
        raise OSError(errno.EIO, "what was written reads as something else")


def _read_tail(file: BinaryIO, size: int) -> bytes:
    file.seek(max(size - _TAIL, 0))
    return file.read(_TAIL)


def _digest(file: BinaryIO, size: int) -> str:
    """SHA-256 of the first bytes."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (chunk := file.read(min(size, _CHUNK))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def _local(path: str | os.PathLike[str]) -> Path | None:
    """A local path, also one with a scheme; None for others."""
    system = get_filesystem(str(path))
    protocols = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    return Path(system._strip_protocol(str(path))) if "file" in protocols else None
