"""YAML and JSON of others against the libraries that read everything."""

import contextlib
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.documents import parse_json, parse_yaml, read_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


@given(VALUES)
def test_yaml_is_read_as_the_library_reads_it(value):
    text = yaml.dump(value, Dumper=_Dumper, allow_unicode=True)
    assert parse_yaml(text, "a") == yaml.safe_load(text) == value


@given(st.text(alphabet="0123456789+-._:eExobB~nulltrueyes, []{}'\"#", max_size=30))
def test_text_near_numbers_is_read_as_the_library_reads_it_or_refused(text):
    try:
        ours = parse_yaml(text, "a")
    except DataFault:
        return
    theirs = yaml.safe_load(text)
    assert repr(ours) == repr(theirs) or "datetime" in repr(theirs)


@given(st.binary(max_size=60) | TEXTS.map(str.encode))
def test_any_bytes_are_a_value_or_a_fault(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with contextlib.suppress(DataFault):
        read_yaml(path, "a file")


@given(VALUES)
def test_json_is_read_as_the_library_reads_it(value):
    assert parse_json(json.dumps(value), "a") == value


def test_a_date_stays_text_and_quotes_make_text():
    assert parse_yaml("[2020-01-01, '1', \"yes\", 1, yes, ~]", "a") == ["2020-01-01", "1", "yes", 1, True, None]
    assert parse_yaml("", "a") is None


def test_the_line_of_an_error_is_named_without_what_it_holds():
    with pytest.raises(DataFault, match=r"^a is not YAML in line \d: did not find") as caught:
        parse_yaml("names:\n - [\u202e\n- b", "a")
    assert "\u202e" not in str(caught.value)
