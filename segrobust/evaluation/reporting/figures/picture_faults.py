"""Pictures never end numbers: a fault in drawing is a warning."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from segrobust.untrusted.printable import for_terminal


class PictureWarning(UserWarning):
    """A picture is missing, because it could not be drawn or written; numbers are not concerned."""


@contextmanager
def warned(what: str, *raised: type[Exception]) -> Iterator[None]:
    """Within it, an exception ends what is done for one picture, and is a `PictureWarning` of one line.

    Args:
        what: the picture, with the sample's name if it shows one: "panels of image 3 (harbour_03)".
        raised: exceptions that are raised as they are.
    """
    try:
        yield
    except raised:
        raise
    except Exception as error:  # whatever it is, numbers are worth more than a picture; the warning names it
        text = " ".join(f"no {what}: {type(error).__name__}: {error}".split())
        warnings.warn(for_terminal(text), PictureWarning, stacklevel=3)
