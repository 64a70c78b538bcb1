"""Unpacking of archives below one folder: files and folders alone, and no more bytes than the archive can mean."""

import gzip
import io
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final, cast

from segrobust.data.files.paths import check_links
from segrobust.untrusted.data_fault import DataFault, FaultKind
from segrobust.untrusted.file_names import file_key
from segrobust.untrusted.printable import is_printable, shortened
from segrobust.untrusted.regular_files import open_regular

_CHUNK: Final = 2**20
_MOST_MEMBERS: Final = 10**6
_LARGEST_RATIO: Final = 20
"""Bytes that come out of a byte; archives of images have 1 to 2."""

_FREE: Final = 2**26
"""Bytes that may come out of any archive."""

_LARGEST_HEADER: Final = 2**20
"""Bytes of a header of tar; those of published archives have 512."""

_DAMAGED: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    OverflowError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # another method of compression
    UnicodeError,
    ValueError,
    zlib.error,
    gzip.BadGzipFile,
)


def unpack(path: Path, folder: Path) -> None:
    """Unpacks an archive (.zip, .tar, .tgz or .tar.gz) below a folder.

    Raises:
        DataFault: the archive is damaged or of another kind; a member would be written outside of the folder, is a
            link, a device or a FIFO, has a name that cannot be printed, or one that the disk takes for that of another
            member; or more than 20 times its bytes and 64 MiB
            would be written, or more than a million members. Nothing is unpacked from a zip archive with such a member;
            a tar archive is unpacked up to it.
        OSError: the folder cannot be written.
    """
    with _faults_of(path), open_regular(path) as file:
        room = max(_FREE, _LARGEST_RATIO * path.stat().st_size)
        if path.suffix == ".zip":
            _unpack_zip(file, path, folder, room)
        elif path.suffix in (".tar", ".tgz") or path.suffixes[-2:] == [".tar", ".gz"]:
            _unpack_tar(file, path, folder, room)
        else:
            raise _refused(path, "it ends in none of .zip, .tar, .tgz and .tar.gz")


@contextmanager
def _faults_of(path: Path) -> Iterator[None]:
    try:
        yield
    except DataFault:
        raise
    except _DAMAGED as error:
        raise _refused(path, str(error)) from error


def _unpack_zip(file: IO[bytes], path: Path, folder: Path, room: int) -> None:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > room:
            raise _too_large(path, room)
        targets = [_target(member.filename, path, folder) for member in members]
        for member in members:
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "a symbolic link" if stat.S_ISLNK(member.external_attr >> 16) else "no regular file"
                raise _refused(path, f"{shortened(member.filename)} is {kind}", "link")
        written: dict[str, Path] = {}
        for member, target in zip(members, targets, strict=True):
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                with archive.open(member) as source:  # gives no more bytes than the directory states
                    _write(source, target, folder, written)


def _unpack_tar(file: IO[bytes], path: Path, folder: Path, room: int) -> None:
    source = file if path.suffix == ".tar" else gzip.GzipFile(fileobj=file)
    with tarfile.open(fileobj=cast(IO[bytes], _Bounded(source, room, path)), mode="r:") as archive:
        written: dict[str, Path] = {}
        for number, member in enumerate(archive):
            if number == _MOST_MEMBERS:
                raise _too_large(path, room)
            archive.members = []  # type: ignore[attr-defined]  # it would keep every member
            target = _target(member.name, path, folder)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            elif member.isreg() and not member.issparse():
                _write(archive.extractfile(member) or io.BytesIO(), target, folder, written)
            else:
                kind = "a link" if member.islnk() or member.issym() else "no regular file"
                raise _refused(path, f"{shortened(member.name)} is {kind}", "link")


class _Bounded(io.RawIOBase):
    """A stream that ends in a fault where more is read than an archive of its size can mean."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile, room: int, path: Path) -> None:
        super().__init__()
        self._source = source
        self._room = room
        self._path = path
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > max(_LARGEST_HEADER, _CHUNK):
            raise _refused(self._path, "a header states more than a million bytes")
        self._check(self._position + size)
        content = self._source.read(size)
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        target = offset + (self._position if whence == io.SEEK_CUR else 0)
        self._check(target)
        self._position = self._source.seek(target)
        return self._position

    def _check(self, position: int) -> None:
        if position > self._room + _CHUNK:
            raise _too_large(self._path, self._room)


def _target(name: str, path: Path, folder: Path) -> Path:
    """Where a member is written, by its name as stored: readers of archives would rename those that lead outside."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or any(":" in part for part in parts.parts[:1]):
        raise _refused(path, f"{shortened(name)} leads outside of its folder", "name")
    if not is_printable(name):
        raise _refused(path, f"{shortened(name)} holds characters that cannot be printed", "name")
    target = folder.joinpath(*parts.parts)
    if target != folder:
        check_links(target, folder)
    return target


def _write(source: IO[bytes], target: Path, folder: Path, written: dict[str, Path]) -> None:
    """Writes a member; `written` holds those before, by what a disk may take for one name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    check_links(target, folder)
    other = written.setdefault("/".join(map(file_key, target.relative_to(folder).parts)), target)
    if other != target and target.exists() and target.samefile(other):
        raise DataFault(
            f"{target} and {other.name} are one file on this disk, whose names differ by more than upper and lower "
            "case; unpack the archive on another one",
            kind="name",
        )
    with target.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK)


def _refused(path: Path, reason: str, kind: FaultKind = "unreadable") -> DataFault:
    return DataFault(f"{path} is not unpacked: {reason}", kind=kind)


def _too_large(path: Path, room: int) -> DataFault:
    return DataFault(
        f"{path} is not unpacked: more than {room} bytes or {_MOST_MEMBERS} members would come out of it",
        kind="too large",
    )
