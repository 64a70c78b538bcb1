"""Published archives that may be fetched without an account, checked by their digests."""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from segrobust.untrusted.data_fault import DataFault

_CHUNK = 2**20
_TIMEOUT = 60.0


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A file of a data set's publisher.

    Attributes:
        url: where it is.
        algorithm: of the digest.
        digest: in hex, as publishers and their loaders state it.
        terms: what its users agree to.
    """

    url: str
    algorithm: Literal["md5", "sha1"]
    digest: str
    terms: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", 1)[-1]


_FLICKR = "images are under the terms of use of Flickr and for research; see the page of the challenge"

ARCHIVES: Final[dict[str, Archive]] = {
    "voc": Archive(
        url="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        algorithm="md5",
        digest="6cd6e144f989b92b3379bac3b3de84fd",
        terms=_FLICKR,
    ),
    "sbd": Archive(
        url="https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        algorithm="md5",
        digest="82b4d87ceb2ed10f6038a1cba92111cb",
        terms=_FLICKR,
    ),
    "ade20k": Archive(
        url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        algorithm="sha1",
        digest="219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
        terms="for non-commercial research and education; annotations under the BSD 3-clause licence",
    ),
}


def fetch(
    archive: Archive, folder: Path, advance: Callable[[int, int | None], None] = lambda done, total: None
) -> Path:
    """Loads an archive into a folder, unless it is there, and compares its digest.

    Args:
        archive: what to load.
        folder: made where it is missing.
        advance: called with the bytes so far, and all bytes where the server states them.

    Returns:
        The file.

    Raises:
        DataFault: the digest differs; what was loaded is removed.
        OSError: the server cannot be reached, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / archive.name
    if path.exists():
        _require_digest(path, archive)
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        with urllib.request.urlopen(archive.url, timeout=_TIMEOUT) as source, part.open("wb") as target:
            length = source.headers.get("Content-Length")
            done = 0
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                done += len(chunk)
                advance(done, int(length) if length else None)
        _require_digest(part, archive)
        part.rename(path)
    except urllib.error.URLError as error:
        raise OSError(
            f"{archive.url} cannot be loaded: {error.reason}. Load it by other means into {folder}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _require_digest(path: Path, archive: Archive) -> None:
    with path.open("rb") as file:
        got = hashlib.file_digest(file, archive.algorithm).hexdigest()
        file.seek(0)
        start = file.read(64).lstrip().lower()
    if got != archive.digest:
        kind = "a page in HTML and no archive" if start.startswith((b"<!doctype", b"<html")) else "another file"
        raise DataFault(
            f"{path} is {kind}: its {archive.algorithm} is {got}, expected is {archive.digest}. Remove it",
            kind="unreadable",
        )
