"""Reads the file of an offline wandb run: protobuf records in the log format of LevelDB."""

import struct
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK, _FILE_HEADER, _CHUNK_HEADER = 32768, 7, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def wandb_records(path: Path) -> Iterator[Record]:
    """All records of a `.wandb` file."""
    content, position, parts = path.read_bytes(), _FILE_HEADER, b""
    while position + _CHUNK_HEADER <= len(content):
        if _BLOCK - position % _BLOCK < _CHUNK_HEADER:
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += _CHUNK_HEADER
        assert kind in (_FULL, _FIRST, _MIDDLE, _LAST)
        parts += content[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield Record.FromString(parts)
            parts = b""
