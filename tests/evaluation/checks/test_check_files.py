import json
from dataclasses import replace

import pytest

from segrobust.evaluation.checks import Check, read_checks, worst_status, write_checks

OK = Check(name="logits", status="ok", detail="fine", meaning="much", fix="")
WARN = Check(name="square", status="warn", detail="90 % of 3, µ", meaning="some", fix="look", attacks=("ab", "cd"))
FAIL = replace(WARN, status="fail")


def test_what_is_written_is_read(tmp_path):
    write_checks(tmp_path / "checks.json", iter([OK, WARN]), weights="0123")
    stored = read_checks(tmp_path / "checks.json")
    assert stored == ((OK, WARN), "0123")
    assert (stored.checks[1], stored.weights) == (WARN, "0123")
    content = json.loads((tmp_path / "checks.json").read_text())
    assert (content["schema"], content["status"]) == (1, "warn")
    assert [file.name for file in tmp_path.iterdir()] == ["checks.json"]


def test_no_check_is_a_content_too(tmp_path):
    write_checks(tmp_path / "checks.json", [], weights="0")
    assert read_checks(tmp_path / "checks.json") == ((), "0")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"schema": 1', '"schema": 9'),
        lambda text: text.replace('"weights": "0123"', '"weights": 3'),
        lambda text: text.replace('"status": "warn",\n   "detail"', '"status": "fine",\n   "detail"'),
        lambda text: text.replace('"meaning": "some",', ""),
        lambda text: text.replace('"meaning": "some"', '"meaning": 5'),
        lambda text: text.replace('"ab"', "4"),
        lambda text: text.replace('"fix": "look"', '"fix": ""'),
    ],
)
def test_a_damaged_file_is_named(tmp_path, change):
    path = tmp_path / "checks.json"
    write_checks(path, [OK, WARN], weights="0123")
    damaged = change(path.read_text())
    assert damaged != path.read_text()
    path.write_text(damaged)
    with pytest.raises(ValueError, match=r"checks\.json holds no checks \(.*make the checks again"):
        read_checks(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"checks\.json holds no checks"):
        read_checks(path)


def test_a_missing_file_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_checks(tmp_path / "checks.json")


def test_the_worst_counts():
    assert worst_status([]) == worst_status([OK]) == "ok"
    assert worst_status([OK, WARN, OK]) == "warn"
    assert worst_status(iter([FAIL, WARN, OK])) == "fail"


def test_contradictory_checks_are_refused():
    with pytest.raises(ValueError, match="status must be one of ok, warn, fail, got 'good'"):
        replace(OK, status="good")
    with pytest.raises(ValueError, match="has a fix unless it is ok"):
        replace(OK, fix="do")
    with pytest.raises(ValueError, match="has a fix unless it is ok"):
        replace(WARN, fix="")
