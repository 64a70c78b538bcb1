"""Where a pretrained network lies: a folder of this machine, or a repository of the hub at one commit."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def find_source(source: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """Gives the folder of a pretrained network; from the hub only the files that `patterns` name are fetched.

    Args:
        source: a folder, or a hub id `owner/name`.
        revision: the commit of the hub's repository, 40 hexadecimal digits: a branch or a tag can come to mean other
            weights. None for a folder.
        patterns: names of files, with wildcards.

    Raises:
        FileNotFoundError: there is no such folder, and it is no hub id.
        ValueError: a hub id without a commit, or a folder with one.
        OSError: the hub cannot be reached, or has no such repository or commit.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"revision={revision!r} has no effect: {source} is a folder of this machine; leave it out")
        return folder
    if not _HUB_ID.fullmatch(source):
        raise FileNotFoundError(f"there is no folder {source}; expected one, or a hub id owner/name with its revision")
    return Path(snapshot_download(source, revision=require_commit(source, revision), allow_patterns=list(patterns)))


def require_commit(source: str, revision: str | None) -> str:
    """Gives the revision back if it is a full commit hash.

    Raises:
        ValueError: it is missing, or a name that can move.
    """
    if revision is None or not _COMMIT.fullmatch(revision):
        given = "without a revision" if revision is None else f"at {revision!r}, which can come to mean other weights"
        raise ValueError(
            f"{source} is no folder of this machine, and as a hub id it is given {given}: give revision the commit "
            f"hash of 40 digits that the hub's page shows under Files, History"
        )
    return revision
