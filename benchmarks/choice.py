"""Parts of a benchmark chosen by name on the command line."""

from collections.abc import Collection


def check_chosen(names: Collection[str], known: Collection[str]) -> None:
    """Ends the program with a list of the names that there are, unless all that were given are of these."""
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"there are {', '.join(known)}, not {', '.join(sorted(unknown))}")
