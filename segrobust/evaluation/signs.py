"""Signs of life of work that the engine does not plan: samples that are read, passes of checks and of pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from segrobust.attacks.core.oracle import passes_reported

_listener: Final[ContextVar[Callable[[], object] | None]] = ContextVar("sign_listener", default=None)


@contextmanager
def signs_reported(listener: Callable[[], object]) -> Iterator[None]:
    """Within it, each sample that is read and each pass of a network is reported.

    Args:
        listener: called after each of them.
    """
    token = _listener.set(listener)
    try:
        with passes_reported(lambda num_images: listener()):
            yield
    finally:
        _listener.reset(token)


def give_sign() -> None:
    """Reports that a sample was read, or that a network was called without a `NetworkOracle`."""
    listener = _listener.get()
    if listener is not None:
        listener()
