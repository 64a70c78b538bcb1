"""Words that the field does not use, or not in this sense, stay out of the package and its documentation."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SUFFIXES = {".py", ".md", ".yaml", ".j2", ".js", ".sbatch"}
PAGES = [
    path
    for folder in ("segrobust", "docs", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in SUFFIXES and "__pycache__" not in path.parts
]
PAGES += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]

BANNED = {
    "mend, mends, mended": "fix, repair",
    "told, tell, tells, telling": "report, print, log, warn, list, show",
    "withstand, withstands, withstood": "resist, be robust to",
    "vouch, vouches": "check",
    "plainly": "clearly",
    "that is none, that are none": "invalid",
    "what is left of, what is left under": "under attack, remaining",
    "comes to nothing, came to nothing, count for nothing, counts for nothing": "fails; is ignored",
    "put down to": "attributed to",
    "as it was found, as they were found": "is restored",
    "is climbed": "is maximised",
}
"""Phrases, and what to write instead."""


def banned_phrases(text):
    """Line, phrase and better words; calls of methods, such as `file.tell()`, are left out."""
    """`(line number, phrase, what to write instead)` of every banned phrase, also across line ends and `#`."""
    for phrases, better in BANNED.items():
        words = [r"[\s#]+".join(phrase.split()) for phrase in phrases.split(", ")]
        for found in re.finditer(rf"\b(?:{'|'.join(words)})\b(?!\()", text, flags=re.IGNORECASE):
            yield text.count("\n", 0, found.start()) + 1, found[0], better


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_banned_phrase_comes_back(path):
    found = [
        f"line {line}: {phrase!r}; write {better}" for line, phrase, better in banned_phrases(path.read_text("utf-8"))
    ]
    assert not found, f"{path.relative_to(ROOT)}: " + "\n".join(found)


def test_phrases_are_found_whatever_their_case_and_across_lines():
    text = "A radius\nthat is\n    # none is Told.\nThe amendment tells nothing."
    assert [(line, phrase.split()[0]) for line, phrase, _ in banned_phrases(text)] == [
        (3, "Told"),
        (4, "tells"),
        (2, "that"),
    ]
