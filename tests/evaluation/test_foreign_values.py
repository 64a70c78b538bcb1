"""Files of a run that somebody else wrote: each fault is one line that names file and fault."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from evaluation.test_records import AT_RADIUS, CLEAN, RECORD, VOID
from evaluation.test_run_directory import ALMA, MANIFEST, PGD
from hypothesis import given, settings
from hypothesis import strategies as st

from segrobust.evaluation import (
    Check,
    Fault,
    Manifest,
    Record,
    RecordWriter,
    RunDirectory,
    read_faults,
    read_records,
    summarize,
    summarize_run,
)
from segrobust.evaluation.checks import read_checks, write_checks
from segrobust.evaluation.run.failures import FaultLog
from segrobust.evaluation.run.network_identity import NetworkIdentity, StoredProbe
from segrobust.evaluation.run.run_directory import Provenance
from segrobust.evaluation.run.strict_json import write_json

DEEP = "[" * 100_000

FOREIGN_VALUES = [
    ("sample_id", -1),
    ("sample_id", "3"),
    ("sample_id", True),
    ("sample_id", 3.0),
    ("sample_id", 10**30),
    ("sample_name", ["street"]),
    ("sample_name", "a" * 100_000),
    ("sample_digest", 7),
    ("sequence", None),
    ("attack", {"name": "alma"}),
    ("digest", "../../elsewhere"),
    ("digest", "clean"),
    ("kind", "proof"),
    ("kind", ["clean"]),
    ("kind", "fixed-budget"),
    ("norm_name", "../linf"),
    ("norm_name", None),
    ("eps", "0.1"),
    ("eps", -0.1),
    ("eps", "nan"),
    ("eps", None),
    ("unit", "image"),
    ("side", "best"),
    ("success", 1),
    ("success", True),
    ("norm", -1.0),
    ("norm", "nan"),
    ("norm", "-inf"),
    ("norm", "infinity"),
    ("norm", False),
    ("apsr", 7.0),
    ("apsr", -0.1),
    ("apsr", "0.5"),
    ("apsr", "nan"),
    ("clean_apsr", "inf"),
    ("num_valid", -7),
    ("num_valid", 8),
    ("num_valid", 0),
    ("tp", [1, 3]),
    ("tp", [-1, 4]),
    ("tp", [1, 2, 0]),
    ("tp", "12"),
    ("tp", []),
    ("fp", [0, 0]),
    ("fn", [True, 3]),
    ("boundary", [4, 5]),
    ("boundary", [4]),
    ("objects", [[2, 3, 3, 2], [0, 0, 0, 0], [1, 1, 4, 4]]),
    ("objects", [[0, 0, 0, 0]]),
    ("first_success", -2),
    ("num_forwards", -1),
    ("num_backwards", 2.5),
    ("seconds", -0.1),
    ("seconds", "inf"),
    ("seed", -1),
    ("flags", ["no-valid-pixel"]),
    ("flags", ["mine"]),
    ("flags", "no-valid-pixel"),
    ("schema", True),
    ("schema", 3.0),
]


def one_line(error):
    assert "\n" not in str(error.value)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize(("field", "value"), FOREIGN_VALUES)
def test_a_value_that_no_measurement_gives_is_refused_by_file_and_line(tmp_path, field, value):
    shard = tmp_path / "records" / "rank000.jsonl"
    shard.parent.mkdir()
    changed = {**json.loads(RECORD.to_line()), field: value}
    shard.write_text(f"{CLEAN.to_line()}\n{json.dumps(changed)}\n")
    with pytest.raises(ValueError, match=r"rank000\.jsonl, line 2") as caught:
        read_records(tmp_path)
    assert len(one_line(caught)) < 1000


@pytest.mark.parametrize(
    "line",
    [
        b'{"sample_id": NaN}',
        b'{"sample_id": 1, "sample_id": 2}',
        b'{"sample_id": 1e999}',
        b"\xff\xfe",
        DEEP.encode(),
        b'{"sample_id": ' + b"1" * 5000 + b"}",
        b'"' + b"a" * 2**22 + b'"',
        b"null",
        b"",
        RECORD.to_line().replace('"norm":"inf"', '"norm":Infinity').encode(),
    ],
    ids=range(10),
)
def test_a_line_that_is_no_strict_json_is_refused(tmp_path, line):
    shard = tmp_path / "records" / "rank000.jsonl"
    shard.parent.mkdir()
    shard.write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"rank000\.jsonl, line 1") as caught:
        read_records(tmp_path)
    assert len(one_line(caught)) < 1000


PROBE = StoredProbe(
    sample_id=0, sample_digest="00ff", logits=np.ones((2, 1, 2), np.float32), gradient=None, rounding=0.0, drawn_with=""
)
NETWORK = NetworkIdentity(modules={"": "Conv2d()"}, buffers={}, versions={"torch": "2.9"}, probes=(PROBE,))
CHECK = Check(name="deterministic", status="ok", detail="no difference", meaning="random outputs", fix="")
PROVENANCE = Provenance(
    time="2026-01-01T00:00:00+00:00", command=("segrobust",), device="cpu", threads=1, batch_size=1, world_size=1,
    commit="", versions=("torch 2.9",),
)  # fmt: skip
FAULT = Fault.of(RuntimeError("no kernel"), 1, "toy_1", "load")


def write_current(path):
    write_json(path / "records" / "current.json", {"3": "00ff"})


def write_all(path):
    """Every file of a run that is read, each with a function that reads it."""
    (path / "records").mkdir()
    MANIFEST.write(path / "manifest.json")
    NETWORK.write(path / "network.json")
    write_checks(path / "checks.json", [CHECK], weights="5e1f")
    write_current(path)
    RunDirectory(path).append_provenance(PROVENANCE)
    FaultLog(path).add(FAULT)


READERS = {
    "manifest.json": lambda path: Manifest.read(path / "manifest.json"),
    "network.json": lambda path: NetworkIdentity.read(path / "network.json"),
    "checks.json": lambda path: read_checks(path / "checks.json"),
    "records/current.json": read_records,
    "provenance.jsonl": lambda path: RunDirectory(path).read_provenance(),
    "faults/rank000.jsonl": lambda path: read_faults(path, ()),
}


@pytest.mark.parametrize("name", READERS)
def test_every_file_survives_its_reader(tmp_path, name):
    write_all(tmp_path)
    READERS[name](tmp_path)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "content",
    [b"[]", b"null", b'{"schema": NaN}', b"\xff", b"{", DEEP.encode(), b'{"a": 1, "a": 1}', b"0" * 2**25],
    ids=range(8),
)
def test_what_is_no_such_file_is_refused_by_its_name(tmp_path, name, content):
    write_all(tmp_path)
    (tmp_path / name).write_bytes(content + b"\n")
    with pytest.raises(ValueError, match=name) as caught:
        READERS[name](tmp_path)
    one_line(caught)


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("manifest.json", ["samples"], [0, -1]),
        ("manifest.json", ["samples"], [0, 0]),
        ("manifest.json", ["samples"], "01"),
        ("manifest.json", ["label_space"], []),
        ("manifest.json", ["label_space", "names"], ["road", 7]),
        ("manifest.json", ["attacks", 0, "eps"], None),
        ("manifest.json", ["attacks", 0, "digest"], "../aa"),
        ("manifest.json", ["attacks", 0, "kind"], "proof"),
        ("manifest.json", ["attacks", 0], {}),
        ("manifest.json", ["attacks"], {}),
        ("manifest.json", ["seed"], True),
        ("manifest.json", ["asr_only"], "no"),
        ("manifest.json", ["weights"], 5),
        ("manifest.json", ["image_size"], "large"),
        ("network.json", ["modules"], []),
        ("network.json", ["modules", ""], 7),
        ("network.json", ["probes"], {}),
        ("network.json", ["probes", 0, "logits"], [1]),
        ("network.json", ["probes", 0, "logits", "shape"], [2, 1, 3]),
        ("network.json", ["probes", 0, "logits", "shape"], [2**16, 2**16, 2**16]),
        ("network.json", ["probes", 0, "logits", "float32"], "!!!!"),
        ("network.json", ["probes", 0, "rounding"], "inf"),
        ("network.json", ["probes", 0, "sample_id"], -3),
        ("checks.json", ["checks", 0, "status"], "fine"),
        ("checks.json", ["checks", 0, "fix"], 3),
        ("records/current.json", ["3"], 7),
        ("records/current.json", ["-3"], "00ff"),
        ("records/current.json", ["\u0663"], "00ff"),
        ("provenance.jsonl", ["command"], "rm"),
        ("provenance.jsonl", ["threads"], "1"),
        ("faults/rank000.jsonl", ["stage"], "end"),
        ("faults/rank000.jsonl", ["eps"], [1]),
        ("faults/rank000.jsonl", ["error"], None),
    ],
)
def test_a_foreign_value_in_another_file_is_refused_by_its_name(tmp_path, name, place, value):
    write_all(tmp_path)
    content = json.loads((tmp_path / name).read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / name).write_text(json.dumps(content) + "\n")
    with pytest.raises(ValueError, match=name) as caught:
        READERS[name](tmp_path)
    one_line(caught)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["inf", "nan", "min"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def mutated(draw, whole):
    """A value in which one part, at any depth, is another one or missing."""
    if isinstance(whole, dict | list) and whole and draw(st.integers(0, 3)):
        keys = [*whole] if isinstance(whole, dict) else [*range(len(whole))]
        key = draw(st.sampled_from(keys))
        copy = dict(whole) if isinstance(whole, dict) else list(whole)
        if not draw(st.integers(0, 5)):
            del copy[key]
        else:
            copy[key] = draw(mutated(whole[key]))
        return copy
    return draw(VALUES)


def attempt(read):
    """The message of a `ValueError`, which is empty without one, and what was read."""
    try:
        return "", read()
    except ValueError as error:
        return str(error), None


@settings(max_examples=60, derandomize=True, deadline=None)
@given(data=st.data(), record=st.sampled_from([RECORD, CLEAN, AT_RADIUS, VOID]))
def test_a_mutated_record_is_refused_in_one_line_or_gives_numbers(data, record):
    line = json.dumps(data.draw(mutated(json.loads(record.to_line()))))
    fault, found = attempt(lambda: Record.from_line(line))
    assert "\n" not in fault
    if fault:
        return
    assert Record.from_line(found.to_line()).key == found.key
    summarize((replace(CLEAN, sample_id=found.sample_id, num_valid=sum(found.tp) + sum(found.fn)), found))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(data=st.data())
def test_a_mutated_manifest_is_refused_in_one_line_or_gives_itself_back(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "mutated.json"
    content = {**asdict(MANIFEST), "label_space": MANIFEST.label_space.to_dict()}
    path.write_text(json.dumps(data.draw(mutated(json.loads(json.dumps(content))))))
    fault, found = attempt(lambda: Manifest.read(path))
    if fault:
        assert str(path) in fault
        assert "\n" not in fault
        return
    found.write(path)
    assert Manifest.read(path) == found


ATTACK_FAULT = replace(FAULT, sample_id=3, digest=ALMA.digest, stage="attack", attack="alma", eps=0.1)
WHOLE_FILES = {
    "manifest.json": lambda path: None,
    "records/rank000.jsonl": lambda path: None,
    "faults/rank000.jsonl": lambda path: FaultLog(path).add(ATTACK_FAULT),
    "provenance.jsonl": lambda path: RunDirectory(path).append_provenance(PROVENANCE),
    "checks/network.json": lambda path: write_checks(path / "checks/network.json", [CHECK], weights="5e1f", root=path),
}


def write_run(path):
    """A whole run of one image: clean, a minimal norm that was not found, and a fixed budget that broke too little."""
    attacks = (replace(ALMA, digest=RECORD.digest), replace(PGD, eps=(AT_RADIUS.eps,)))
    manifest = replace(MANIFEST, seed=RECORD.seed, samples=(RECORD.sample_id,), attacks=attacks, planned=attacks)
    RunDirectory(path).claim(manifest)
    with RecordWriter(path) as writer:
        writer.write([CLEAN, RECORD, replace(AT_RADIUS, attack="pgd", digest=PGD.digest, success=False)])
    for write in WHOLE_FILES.values():
        write(path)


def shares_of(value):
    """All numbers in a summary whose keys say that they are shares."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("miou", "accuracy", "asr", "apsr") and isinstance(inner, int | float):
                yield inner
            yield from shares_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from shares_of(inner)


def test_the_whole_run_is_read(tmp_path):
    write_run(tmp_path)
    report = summarize_run(tmp_path)
    assert (len(report.records), report.missing, len(report.faults), len(report.checks) > 1) == (3, 0, 1, True)
    assert len([*shares_of(report.summary.to_dict())]) > 5


@settings(max_examples=80, derandomize=True, deadline=None)
@given(data=st.data(), name=st.sampled_from([*WHOLE_FILES]))
def test_a_run_with_one_mutated_value_is_refused_in_one_line_or_read(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("run")
    write_run(path)
    lines = (path / name).read_text().splitlines() if name.endswith("l") else [(path / name).read_text()]
    place = data.draw(st.integers(0, len(lines) - 1))
    lines[place] = json.dumps(data.draw(mutated(json.loads(lines[place]))))
    (path / name).write_text("".join(f"{line}\n" for line in lines))
    fault, report = attempt(lambda: summarize_run(path))
    if fault:
        assert fault.isprintable()
        assert str(path) in fault
        return
    assert all(line.isprintable() for line in str(report).split("\n"))
    assert all(not share > 100 and not share < 0 for share in shares_of(report.summary.to_dict()))
