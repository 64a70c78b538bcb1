"""What is wrong with data on disk, and the choice between stopping at the first fault and gathering all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from segrobust.untrusted.data_fault import DataFault

_GATHERED: ContextVar[list[DataFault] | None] = ContextVar("segrobust_data_faults", default=None)


@contextmanager
def gathered_faults() -> Iterator[list[DataFault]]:
    """Within it, data sets leave out the files that are at fault and list the faults instead of raising the first.

    For checks of data. A data set that was made within is incomplete: it is not one to train on or to evaluate.
    """
    faults: list[DataFault] = []
    token = _GATHERED.set(faults)
    try:
        yield faults
    finally:
        _GATHERED.reset(token)


def found(fault: DataFault) -> None:
    """Raises a fault that a data set can do without, or lists it within `gathered_faults`."""
    faults = _GATHERED.get()
    if faults is None:
        raise fault
    faults.append(fault)


@contextmanager
def left_out_at_fault() -> Iterator[None]:
    """Within it, a fault ends what is done for one file, and is `found`: raised, or listed."""
    try:
        yield
    except DataFault as fault:
        found(fault)


def gathering() -> bool:
    """Whether faults are listed and not raised."""
    return _GATHERED.get() is not None
