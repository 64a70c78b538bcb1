"""What it costs to read a file of `torch.save`, known before it is read.

The weights-only unpickler of torch runs no code of a file. It does make what the file asks for: a number calls for a
byte array of that length, and a compressed entry of the archive grows to any size. `torch.save` writes neither.
"""

import mmap
import os
import re
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.printable import shortened
from segrobust.untrusted.regular_files import open_regular

_LARGEST_PICKLE: Final = 2**27
"""Bytes of the pickle of an archive, without the tensors; a network of 10,000 parameters takes about 1 million."""

_MOST_ENTRIES: Final = 2**20
_ARCHIVE: Final = b"PK\x03\x04"
_CODE: Final = "code"
"""Folder of a TorchScript program, whose sources are compressed, and which is never read as weights."""

_BYTEARRAY: Final = re.compile(rb"c(?:__builtin__|builtins)\nbytearray\n")


def require_modest_pickle(path: Path) -> None:
    """Refuses a file whose reading takes more memory than it has bytes.

    Args:
        path: of a checkpoint or of weights.

    Raises:
        DataFault: no regular file, an archive with compressed or overlapping entries, or byte arrays.
        OSError: it cannot be opened.
    """
    with open_regular(path) as file:
        if file.read(len(_ARCHIVE)) == _ARCHIVE:
            _check_archive(file, path)
        elif _is_tar(file):
            raise DataFault(
                f"{path} is refused: it is an archive of tar; unpack it first, or, if torch before "
                "version 0.2 wrote it, save it again by torch",
                kind="too large",
            )
        elif os.fstat(file.fileno()).st_size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                _check_pickle(content, path)


def _is_tar(file: BinaryIO) -> bool:
    file.seek(0)
    with suppress(tarfile.TarError), tarfile.open(fileobj=file, mode="r:"):
        return True
    return False


def _check_archive(file: BinaryIO, path: Path) -> None:
    size = os.fstat(file.fileno()).st_size
    try:
        with zipfile.ZipFile(file) as archive:
            entries = [each for each in archive.infolist() if each.filename.split("/")[1:2] != [_CODE]]
            packed = next((each for each in entries if each.compress_type != zipfile.ZIP_STORED), None)
            if packed is not None:
                raise DataFault(
                    f"{path} is refused: its entry {shortened(packed.filename)} is compressed, which torch.save never "
                    "does, and could grow to any size; load it where you trust it, and save it again",
                    kind="too large",
                )
            if len(entries) > _MOST_ENTRIES or sum(each.file_size for each in entries) > size:
                raise DataFault(
                    f"{path} is refused: its {len(entries)} entries state more bytes than the file has",
                    kind="too large",
                )
            for each in entries:
                if each.filename.endswith(".pkl"):
                    if each.file_size > _LARGEST_PICKLE:
                        raise DataFault(
                            f"{path} is refused: {shortened(each.filename)} has {each.file_size} bytes beside the "
                            f"tensors, at most {_LARGEST_PICKLE} are read",
                            kind="too large",
                        )
                    _check_pickle(archive.read(each), path)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, LookupError) as error:
        if isinstance(error, DataFault):
            raise
        raise DataFault(f"{path} is damaged, truncated, or no checkpoint of torch: it is no archive") from error


def _check_pickle(content: bytes | mmap.mmap, path: Path) -> None:
    if _BYTEARRAY.search(content):
        raise DataFault(
            f"{path} is refused: it names builtins.bytearray, which could take any memory; only tensors, numbers, text "
            "and containers of them are read. Write the state dict alone to a file, where you trust this one",
            kind="too large",
        )
