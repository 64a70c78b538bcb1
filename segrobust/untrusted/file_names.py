"""Names that are parts of file names: every usual system must hold them, and keep them apart.

The disks of Windows and macOS take `A` and `a` for one name; Windows drops full stops at the end, and keeps some names
for devices.
"""

import re
from typing import Final

from segrobust.untrusted.printable import shortened

_NAME: Final = re.compile(r"[A-Za-z0-9_-]([A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?")
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def check_file_name(name: str, what: str) -> None:
    """Refuses a name that cannot be the name of a file or folder on every usual system.

    Args:
        name: to be checked.
        what: whose name it is, for the message.

    Raises:
        ValueError: other characters than letters a to z, digits, `_`, `-` and `.`; a `.` at the start or the end; more
            than 100 characters; or a name that Windows keeps for a device.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{what} has letters a to z, digits, '_', '-' and '.', no '.' at its start or end, and at most 100 "
            f"characters; got {shortened(name)}"
        )
    if _DEVICES.fullmatch(name):
        raise ValueError(f"{what} is the name of a device on Windows: {name!r}; choose another name")


def file_key(name: str) -> str:
    """Equal for names that are one name on some usual disk.

    Examples:
        >>> file_key("PGD.") == file_key("pgd")
        True
    """
    return name.casefold().rstrip(". ")
