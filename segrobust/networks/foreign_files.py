"""Files that are no checkpoints of torch: what they are by their first bytes, and what to do."""

import zipfile
from pathlib import Path
from typing import Final

from segrobust.untrusted.printable import visible

_TAR_AT: Final = 257
"""Where the mark of an archive of tar stands."""

_KINDS: Final = (
    (b"\x1f\x8b", "is compressed by gzip; unpack it first"),
    (b"BZh", "is compressed by bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed by xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd; unpack it first"),
    (b"\x89HDF", "is a file of HDF5, as of Keras; weights of networks of PyTorch are read"),
    (
        b"\x80",
        "is a pickle that torch did not write, or a damaged one; where you trust it, write its tensors by torch.save",
    ),
)

_ARRAYS: Final = "holds arrays of NumPy; write them by torch.save({name: torch.from_numpy(array) for ...})"


def what_it_is(path: Path) -> str:
    """The end of a message about a file that torch cannot read."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[_TAR_AT:].startswith(b"ustar"):
        return "is an archive of tar; unpack it first"
    if path.suffix == ".onnx":
        return "is a program of ONNX; give the network as it was trained in PyTorch, and its weights"
    if head.startswith(b"PK") and zipfile.is_zipfile(path):
        return _what_archive(path)
    return next(
        (text for mark, text in _KINDS if head.startswith(mark)), "is damaged, truncated, or no checkpoint of torch"
    )


def _what_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        names = []
    if not names or any(name.endswith("data.pkl") for name in names):
        return "is damaged"
    if all(name.endswith(".npy") for name in names):
        return _ARRAYS
    inside = ", ".join(map(visible, names[:3]))
    return f"is an archive of zip; unpack it first, and name the file of weights in it: {inside}"
