"""The name that a mistyped word probably means."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

FEW: Final = 8
"""So many names are listed where none is near."""

_LETTERS_PER_TYPO: Final = 3


def nearest(word: str, names: Iterable[str], count: int = 1) -> list[str]:
    """The names that are most like a word, best first.

    A name is near if it is equal up to case and separators, if the word is its last part or its beginning, or if few
    letters of it, or of its last part, are missing, added, changed or swapped: one in three.

    Args:
        word: as it was typed.
        names: what is allowed.
        count: the largest number of names that are returned.

    >>> nearest("PDG", ["PDPGD", "PGD"])
    ['PGD']
    """
    plain, wanted = {name: _plain(name) for name in names}, _plain(word)
    last = [name for name, text in plain.items() if wanted and wanted in (text, _last(text))]
    longer = [name for name, text in plain.items() if len(wanted) > 2 and text.startswith(wanted)]
    alike = _alike(wanted, plain, word)
    ends = _alike(_last(wanted), {name: _last(text) for name, text in plain.items()}, word)
    return list(dict.fromkeys((*last, *longer, *alike, *ends)))[:count]


def _alike(wanted: str, texts: Mapping[str, str], word: str) -> list[str]:
    """The names whose texts differ in few letters, best first; of equal ones, those with the same case come first."""
    limit = max(1, len(wanted) // _LETTERS_PER_TYPO)
    ranks = {name: (distance(wanted, text), distance(word, name)) for name, text in texts.items()}
    return sorted((name for name in ranks if ranks[name][0] <= limit), key=lambda name: ranks[name])


def did_you_mean(word: str, names: Iterable[str], *, prefix: str = "") -> str:
    """The end of an error message: `did you mean X?`, or the allowed names if none is near.

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


def distance(one: str, other: str) -> int:
    """The number of letters to insert, delete, replace, or swap with their neighbour, to turn one word into another.

    >>> distance("reprot", "report"), distance("quik", "quick")
    (1, 1)
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one):
        earlier, before, row = before, row, [i + 1]
        for j, target in enumerate(other):
            row.append(min(before[j + 1] + 1, row[j] + 1, before[j] + (letter != target)))
            if i and j and letter == other[j - 1] and one[i - 1] == target:
                row[-1] = min(row[-1], earlier[j - 1] + 1)
    return row[-1]


def _plain(name: str) -> str:
    return name.casefold().replace("-", "_")


def _last(name: str) -> str:
    return re.split(r"[./]", name)[-1]
