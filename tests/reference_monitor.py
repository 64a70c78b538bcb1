"""What a process does that a reader of files must not do: programs, connections, and changes outside a folder.

An audit hook cannot be removed, so that a process of its own has the monitor.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

LONGEST_WORK, LONGEST_WAIT = 5, 60
"""Seconds of the processor and of the clock that a reader may take; what waits for a FIFO waits for ever."""

_PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
_PLACES = {  # of the changed name, and of the descriptor that it is relative to
    **dict.fromkeys(("os.remove", "os.rmdir"), (0, 1)),
    **dict.fromkeys(("os.mkdir", "os.chmod"), (0, 2)),
    **dict.fromkeys(("os.rename", "os.link"), (1, 3)),
    **dict.fromkeys(("os.symlink",), (1, 2)),
    **dict.fromkeys(("os.truncate",), (0, None)),
}


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
        if event in _PROGRAMS:
            self.found.append(f"{event} {arguments!r}"[:300])
        elif event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            if writes and not isinstance(path, int) and not self._may_open(path):
                self.found.append(f"open {path!r} {mode!r}")
        elif event in _PLACES:
            name, folder = _PLACES[event]
            descriptor = -1 if folder is None or len(arguments) <= folder else arguments[folder]
            if not self._is_inside(arguments[name], descriptor, of_entry=True):
                self.found.append(f"{event} {arguments[name]!r}")

    def _may_open(self, path: object) -> bool:
        """A name without a folder is relative to a descriptor, which the event does not tell: all must be inside."""
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if os.path.isabs(text):
            return self._is_inside(text)
        return os.sep not in text and all(map(self._is_inside, self._open_folders()))

    def _open_folders(self) -> list[str]:
        places = []
        self.on = False
        for descriptor in os.listdir("/proc/self/fd"):
            try:
                places.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            except OSError:
                continue
        self.on = True
        return [place for place in places if os.path.isdir(place) and not place.startswith("/proc")]

    def _is_inside(self, path: object, descriptor: int = -1, *, of_entry: bool = False) -> bool:
        """Whether a file, or with `of_entry` the entry of its folder, which may be a link, is inside."""
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if descriptor is not None and descriptor >= 0:
            text = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), text)
        parent, name = os.path.split(text)
        real = os.path.join(os.path.realpath(parent), name) if of_entry else os.path.realpath(text)
        return real == self.inside or real.startswith(f"{self.inside}{os.sep}") or text == os.devnull


def outcome(reader: Callable[[], object]) -> str:
    """What a reader said: `ok`, or the type of its error and its message."""
    _armed.append(True)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_WORK)
    signal.alarm(LONGEST_WAIT)
    try:
        reader()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        _armed.clear()
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "ok"


_armed: list[bool] = []
"""Not empty while a reader may be interrupted; a lock could not be taken in a handler of signals."""


def interrupt_hangs() -> None:
    """From now on, a reader that takes too long gets a `TimeoutError`."""

    def hang(number: int, frame: object) -> None:
        if _armed:  # else the reader ended at the same moment
            _armed.clear()
            raise TimeoutError("a reader hangs")

    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, hang)


def limit_memory(more: int) -> None:
    """Allows the process so many bytes more than it has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


class Growth:
    """The memory that the process takes from now on, at most, in MiB."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the largest size so far begins anew
        self._base = _resident("VmRSS")

    @property
    def mebibytes(self) -> int:
        """So far."""
        return (_resident("VmHWM") - self._base) // 1024


def say(**line: object) -> None:
    """One line of JSON for the test."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _resident(field: str) -> int:
    """KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
