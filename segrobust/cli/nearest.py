"""The name that a mistyped word probably means."""

from collections.abc import Iterable
from difflib import get_close_matches

FEW = 8
"""So many names are listed in full where none is near."""


def nearest(word: str, names: Iterable[str], count: int = 1) -> list[str]:
    """The names that are most like a word, best first.

    A name counts as near if it is equal up to case and separators, if it begins with the word, if the word is its last
    part, or if most letters agree.

    Args:
        word: as it was typed.
        names: what is allowed.
        count: the largest number of names that are returned.
    """
    plain = {name: _plain(name) for name in names}
    wanted = _plain(word)
    equal = [name for name, text in plain.items() if text == wanted]
    last = [name for name, text in plain.items() if wanted and text.split(".")[-1] == wanted]
    longer = [name for name, text in plain.items() if len(wanted) > 2 and text.startswith(wanted)]
    spelt = get_close_matches(wanted, plain.values(), n=count)
    alike = [name for text in spelt for name, other in plain.items() if other == text]
    return list(dict.fromkeys((*equal, *last, *longer, *alike)))[:count]


def did_you_mean(word: str, names: Iterable[str], *, prefix: str = "") -> str:
    """The end of an error message: `did you mean X?`, or the allowed names if none is near and they are few.

    Args:
        word: as it was typed.
        names: what is allowed.
        prefix: written before each name, such as `--`.
    """
    allowed = list(dict.fromkeys(names))
    near = nearest(word, allowed)
    if near:
        return f"did you mean {prefix}{near[0]}?"
    listed = ", ".join(f"{prefix}{name}" for name in allowed[:FEW])
    return f"expected {'one of ' if len(allowed) > 1 else ''}{listed}{', ...' if len(allowed) > FEW else ''}"


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")
