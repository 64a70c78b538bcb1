"""A real file system of Linux with faults that are switched on: names without case, no locks, errors of the disk.

    python tests/odd_disk.py FOLDER --ignore-case --no-locks        # mounts there, until `umount FOLDER`

It speaks the protocol of FUSE (`linux/fuse.h`) with the kernel through `/dev/fuse`, in one thread, and passes
everything on to a folder. Tests run on it as on any other disk, with `pytest --basetemp=FOLDER/x`. Mounting needs root.
"""

import argparse
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

ROOT: Final = 1
_HEADER: Final = struct.Struct("<IIQQIIIHH")
_BUFFER: Final = 2**18
_LARGEST_WRITE: Final = 2**17
_INIT, _INTERRUPT, _FORGET, _FORGET_MANY = 26, 36, 2, 42
_BIG_WRITES, _POSIX_LOCKS, _FLOCK_LOCKS = 1 << 5, 1 << 1, 1 << 10
_NOTHING: Final = b""


class OddDisk:
    """Answers the kernel's requests by those of a folder.

    Args:
        folder: whose files are shown.
        ignore_case: whether names that differ by case alone are one name.
        no_locks: whether locks are refused with ENOLCK.
        broken: file whose existence makes every read and write of content an EIO.
        slow: seconds that each write of content takes.
    """

    def __init__(self, folder: Path, *, ignore_case: bool, no_locks: bool, broken: Path | None, slow: float) -> None:
        self._ignore_case, self._no_locks, self._broken, self._slow = ignore_case, no_locks, broken, slow
        self._paths: dict[int, Path] = {ROOT: folder}
        self._handles: dict[int, list[os.DirEntry[str]]] = {}
        self._open_files: dict[int, int] = {}  # the last handle of a node, which outlives its name
        self._answers: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup, 3: self._getattr, 4: self._setattr, 5: self._readlink, 6: self._symlink,
            8: self._mknod, 9: self._mkdir, 10: self._unlink, 11: self._rmdir, 12: self._rename, 13: self._link,
            14: self._open,
            15: self._read, 16: self._write, 17: self._statfs, 18: self._release, 20: self._fsync, 25: self._done,
            26: self._init, 27: self._opendir, 28: self._readdir, 29: self._releasedir, 30: self._done,
            34: self._done, 35: self._create, 45: self._rename2,
        }  # fmt: skip
        if no_locks:
            self._answers |= dict.fromkeys((31, 32, 33), self._refuse_lock)

    def serve(self, device: int) -> None:
        """Answers until the file system is unmounted."""
        while True:
            try:
                request = os.read(device, _BUFFER)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                continue
            _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
            if opcode in (_FORGET, _FORGET_MANY, _INTERRUPT):
                continue
            status, content = 0, _NOTHING
            try:
                answer = self._answers.get(opcode)
                if answer is None:
                    raise OSError(errno.ENOSYS, "not known")
                content = answer(node, request[_HEADER.size :])
            except OSError as error:
                status = -(error.errno or errno.EIO)
            with suppress(FileNotFoundError):  # the request was interrupted
                os.write(device, struct.pack("<IiQ", 16 + len(content), status, unique) + content)

    def _init(self, _node: int, data: bytes) -> bytes:
        _, minor, readahead, offered = struct.unpack_from("<IIII", data)
        flags = offered & (_BIG_WRITES | (_POSIX_LOCKS | _FLOCK_LOCKS if self._no_locks else 0))
        return struct.pack(
            "<IIIIHHIIHHI", 7, min(minor, 31), readahead, flags, 16, 12, _LARGEST_WRITE, 1, 0, 0, 0
        ) + bytes(24)

    def _child(self, node: int, name: bytes) -> Path:
        """The path of a name in a folder, as it is spelled there if it exists."""
        folder, asked = self._paths[node], os.fsdecode(name.rstrip(b"\0"))
        if self._ignore_case and not os.path.lexists(folder / asked):
            for found in os.listdir(folder):
                if found.casefold() == asked.casefold():
                    return folder / found
        return folder / asked

    def _entry(self, path: Path) -> bytes:
        found = path.lstat()
        node = ROOT if path == self._paths[ROOT] else found.st_ino
        self._paths[node] = path
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + self._stat(found)

    @staticmethod
    def _stat(found: os.stat_result) -> bytes:
        seconds = [int(value) for value in (found.st_atime, found.st_mtime, found.st_ctime)]
        nanoseconds = [value % 10**9 for value in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)]
        head = struct.pack("<QQQQQQ", found.st_ino, found.st_size, found.st_blocks, *seconds)
        rest = (found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev & 0xFFFFFFFF, 4096, 0)
        return head + struct.pack("<IIIIIIIIII", *nanoseconds, *rest)

    def _attributes(self, found: os.stat_result) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self._stat(found)

    def _lookup(self, node: int, data: bytes) -> bytes:
        return self._entry(self._child(node, data))

    def _getattr(self, node: int, data: bytes) -> bytes:
        flags, _, handle = struct.unpack_from("<IIQ", data)
        try:
            return self._attributes(os.fstat(handle) if flags & 1 else self._paths[node].lstat())
        except FileNotFoundError:
            if node not in self._open_files:
                raise
            return self._attributes(os.fstat(self._open_files[node]))

    def _setattr(self, node: int, data: bytes) -> bytes:
        valid, _, handle, size, _, access, change, _, access_ns, change_ns, _, mode = struct.unpack_from(
            "<IIQQQQQQIIII", data
        )
        path = self._paths[node]
        if valid & 1:
            os.chmod(path, stat.S_IMODE(mode))
        if valid & 8:
            os.truncate(handle if valid & 64 else path, size)
        if valid & 48:
            now = time.time_ns()
            given = access * 10**9 + access_ns, change * 10**9 + change_ns
            os.utime(path, ns=(now if valid & 128 else given[0], now if valid & 256 else given[1]))
        return self._attributes(os.fstat(handle) if valid & 64 else path.lstat())

    def _readlink(self, node: int, _data: bytes) -> bytes:
        return os.fsencode(os.readlink(self._paths[node]))

    def _symlink(self, node: int, data: bytes) -> bytes:
        name, target, _ = data.split(b"\0")
        path = self._child(node, name)
        os.symlink(os.fsdecode(target), path)
        return self._entry(path)

    def _mknod(self, node: int, data: bytes) -> bytes:
        mode, device, *_ = struct.unpack_from("<IIII", data)
        path = self._child(node, data[16:])
        os.mknod(path, mode, device)
        return self._entry(path)

    def _mkdir(self, node: int, data: bytes) -> bytes:
        mode, _ = struct.unpack_from("<II", data)
        path = self._child(node, data[8:])
        path.mkdir(stat.S_IMODE(mode))
        return self._entry(path)

    def _unlink(self, node: int, data: bytes) -> bytes:
        self._child(node, data).unlink()
        return _NOTHING

    def _rmdir(self, node: int, data: bytes) -> bytes:
        self._child(node, data).rmdir()
        return _NOTHING

    def _rename(self, node: int, data: bytes) -> bytes:
        return self._move(node, struct.unpack_from("<Q", data)[0], data[8:])

    def _rename2(self, node: int, data: bytes) -> bytes:
        parent, flags, _ = struct.unpack_from("<QII", data)
        if flags:
            raise OSError(errno.EINVAL, "flags")
        return self._move(node, parent, data[16:])

    def _move(self, node: int, parent: int, names: bytes) -> bytes:
        old, new, _ = names.split(b"\0")
        source, target = self._child(node, old), self._child(parent, new)
        os.rename(source, target)
        for known, path in self._paths.items():
            if path == source or source in path.parents:
                self._paths[known] = target / path.relative_to(source)
        return _NOTHING

    def _link(self, node: int, data: bytes) -> bytes:
        path = self._child(node, data[8:])
        os.link(self._paths[struct.unpack_from("<Q", data)[0]], path)
        return self._entry(path)

    def _opened(self, path: Path, flags: int, mode: int = 0) -> bytes:
        handle = os.open(path, flags & ~(os.O_NOFOLLOW | os.O_APPEND), mode)
        self._open_files[os.fstat(handle).st_ino] = handle
        return struct.pack("<QII", handle, 1, 0)  # without the page cache: each read and write arrives here

    def _open(self, node: int, data: bytes) -> bytes:
        return self._opened(self._paths[node], struct.unpack_from("<I", data)[0])

    def _create(self, node: int, data: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", data)
        path = self._child(node, data[16:])
        opened = self._opened(path, flags | os.O_CREAT, stat.S_IMODE(mode))
        return self._entry(path) + opened

    def _require_whole(self) -> None:
        if self._broken is not None and self._broken.exists():
            raise OSError(errno.EIO, "broken")

    def _read(self, _node: int, data: bytes) -> bytes:
        self._require_whole()
        handle, offset, size = struct.unpack_from("<QQI", data)
        return os.pread(handle, size, offset)

    def _write(self, _node: int, data: bytes) -> bytes:
        self._require_whole()
        time.sleep(self._slow)
        handle, offset, size = struct.unpack_from("<QQI", data)
        return struct.pack("<II", os.pwrite(handle, data[40 : 40 + size], offset), 0)

    def _statfs(self, _node: int, _data: bytes) -> bytes:
        return struct.pack("<QQQQQIII", 2**20, 2**20, 2**20, 2**20, 2**20, 4096, 255, 4096) + bytes(28)

    def _release(self, _node: int, data: bytes) -> bytes:
        handle = struct.unpack_from("<Q", data)[0]
        self._open_files = {node: known for node, known in self._open_files.items() if known != handle}
        os.close(handle)
        return _NOTHING

    def _fsync(self, _node: int, _data: bytes) -> bytes:
        self._require_whole()
        return _NOTHING

    def _done(self, _node: int, _data: bytes) -> bytes:
        return _NOTHING

    def _opendir(self, node: int, _data: bytes) -> bytes:
        with os.scandir(self._paths[node]) as entries:
            number = max(self._handles, default=0) + 1
            self._handles[number] = sorted(entries, key=lambda entry: entry.name)
        return struct.pack("<QII", number, 0, 0)

    def _readdir(self, _node: int, data: bytes) -> bytes:
        number, offset, size = struct.unpack_from("<QQI", data)
        content = b""
        for place, entry in enumerate(self._handles[number][offset:], start=offset + 1):
            name = os.fsencode(entry.name)
            one = struct.pack("<QQII", entry.inode(), place, len(name), 0) + name
            one += bytes(-len(one) % 8)
            if len(content) + len(one) > size:
                break
            content += one
        return content

    def _releasedir(self, _node: int, data: bytes) -> bytes:
        del self._handles[struct.unpack_from("<Q", data)[0]]
        return _NOTHING

    def _refuse_lock(self, _node: int, _data: bytes) -> bytes:
        raise OSError(errno.ENOLCK, "no locks")


def serve(mountpoint: Path, disk: OddDisk) -> None:
    """Mounts a disk and answers until it is unmounted; says "mounted" when it can be used.

    Raises:
        OSError: it cannot be mounted.
    """
    device = os.open("/dev/fuse", os.O_RDWR)
    library = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
    if library.mount(b"odd", os.fsencode(mountpoint), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), f"{mountpoint} cannot be mounted")
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    disk.serve(device)


@contextmanager
def odd_disk(mountpoint: Path, *options: str) -> Iterator[Path]:
    """A folder of such a disk, in a process of its own.

    Raises:
        OSError: there is no FUSE here, or mounting is not allowed.
    """
    mountpoint.mkdir(parents=True)
    command = [sys.executable, __file__, str(mountpoint), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        if server.stdout.readline() != "mounted\n":
            raise OSError(server.communicate()[1].strip().splitlines()[-1])
        try:
            yield mountpoint
        finally:
            subprocess.run(["umount", "--lazy", "--force", str(mountpoint)], check=True)
    finally:
        try:
            server.wait(60)
        finally:
            server.kill()


def main() -> None:
    """Mounts and serves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mountpoint", type=Path)
    parser.add_argument("--ignore-case", action="store_true", help="A and a are one name")
    parser.add_argument("--no-locks", action="store_true", help="locks are refused with ENOLCK")
    parser.add_argument("--broken", type=Path, help="reads and writes are EIO while this file, elsewhere, exists")
    parser.add_argument("--slow", type=float, default=0.0, help="seconds that each write takes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = {name: value for name, value in vars(options).items() if name != "mountpoint"}
        serve(options.mountpoint, OddDisk(Path(folder), **given))


if __name__ == "__main__":
    main()
