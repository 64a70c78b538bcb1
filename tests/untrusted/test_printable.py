"""Names, and the escape of each medium."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from segrobust.evaluation.reporting.format import Escaped
from segrobust.label_space import LabelSpace
from segrobust.untrusted.printable import (
    check_printable,
    for_csv,
    for_markdown,
    for_terminal,
    is_printable,
    markdown_code,
    shortened,
    visible,
)

TEXTS = st.text(st.characters(), max_size=40)  # lone surrogates included
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=40,
)


@given(TEXTS)
def test_what_is_visible_is_printable_and_stays_as_it_is(text):
    shown = visible(text)
    assert is_printable(shown)
    assert visible(shown) == shown
    assert (shown == text) == is_printable(text)
    shown.encode()


@given(TEXTS)
def test_a_terminal_gets_lines_and_nothing_else(text):
    assert all(map(is_printable, for_terminal(text).split("\n")))
    assert for_terminal(text).count("\n") == text.count("\n")


@given(TEXTS)
def test_no_cell_is_a_formula(text):
    (row,) = csv.reader(io.StringIO(_csv(for_csv(text)), newline=""))
    assert not row[0].lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))
    assert is_printable(row[0])


def test_numbers_are_no_formulas():
    assert for_csv(-1.5) == -1.5
    assert [for_csv(text) for text in ("=1+1", " @SUM(A1)", "\uff1d1", "\t=1", "road")] == [
        "'=1+1",
        "' @SUM(A1)",
        "'\uff1d1",
        "\\t=1",
        "road",
    ]


@given(TEXTS)
def test_code_in_markdown_is_closed_by_its_own_fence(text):
    code = markdown_code(text)
    fence = code[: len(code) - len(code.lstrip("`"))]
    assert fence
    assert code.count(fence) == 2 or text == ""
    assert is_printable(code)


def test_markdown_shows_what_is_written():
    assert for_markdown("a_b<c>|`\n![x](y)\u202e") == r"a\_b&lt;c&gt;\|\`\\n\!\[x\](y)\\u202e"


@given(VALUES)
def test_a_value_is_short_and_printable_in_a_message(value):
    text = shortened(value)
    assert len(text) <= 203
    assert is_printable(text)


def test_values_that_have_no_repr_or_no_end_are_shortened():
    endless: list[object] = []
    endless += [endless] * 9
    assert len(shortened(endless)) <= 203
    assert shortened(int("9" * 4000) ** 2) == "a value of type int that is too long to print"
    assert len(shortened("x" * 10**6)) < 100


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "must not be blank, got ''"),
        (" \t", "must not be blank"),
        ("a\x1b[2J", r"'a\\x1b\[2J' holds characters that cannot be printed"),
        ("a\udc80", r"'a\\udc80' holds"),
        ("a\u3164", r"'a\\u3164' holds"),
        ("a\ufe0f", r"'a\\ufe0f' holds"),
        ("x" * 256, r"has 256 characters, at most 255 are allowed: 'xxx"),
        (5, "must be text, got 5"),
    ],
)
def test_names_that_cannot_be_seen_are_refused(name, message):
    with pytest.raises(ValueError, match=f"the name {message}"):
        check_printable(name, "the name")
    with pytest.raises(ValueError, match="the name of class 1"):
        LabelSpace(names=("a", name), palette=((1, 2, 3), (4, 5, 6)))


@pytest.mark.parametrize("name", ["Straße", "港", "naïve", "a b & c <d>", "=x", "nai\u0308ve", "متجر"])
def test_names_in_any_script_are_names(name):
    check_printable(name, "the name")


def test_what_rich_prints_is_escaped_and_no_markup():
    console = Console(file=io.StringIO(), width=80, color_system=None, markup=False, emoji=False)
    table = Table(box=None)
    table.add_column("[b]head[/b]")
    table.add_row("a\x1b[2J\x07\u202e :smile: [red]b")
    console.print(Escaped(table))
    printed = console.file.getvalue()
    assert "[b]head[/b]" in printed
    assert r"a\x1b[2J" in printed
    assert r"\u202e :smile: [red]b" in printed
    assert all(map(is_printable, printed.split("\n")))


def _csv(cell: object) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerow([cell, 1])
    return text.getvalue()
