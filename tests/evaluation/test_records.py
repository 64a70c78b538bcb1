import json
import math
from dataclasses import replace

import pytest

from segrobust.evaluation import Record, RecordWriter, merge_records, read_records
from segrobust.evaluation.run.strict_json import LARGEST_LINE
from segrobust.untrusted.data_fault import DataFault

RECORD = Record(
    sample_id=3,
    sample_name="street \u00e9\n3",
    sample_digest="00ff",
    sequence="video 1",
    attack="alma",
    digest="0123456789abcdef",
    kind="minimal-norm",
    norm_name="linf",
    eps="min",
    threat="linf ball everywhere",
    side="upper",
    success=False,
    norm=math.inf,
    apsr=0.1 + 0.2,
    clean_apsr=0.25,
    num_valid=7,
    tp=(1, 2),
    fp=(3, 1),
    fn=(0, 4),
    boundary=(4, 3),
    objects=((2, 1, 3, 2), (0, 0, 0, 0), (1, 1, 4, 4)),
    first_success=-1,
    num_forwards=4,
    num_backwards=3,
    seconds=0.25,
    seed=5,
)

VOID = replace(
    RECORD, apsr=math.nan, clean_apsr=math.nan, num_valid=0, tp=(0, 0), fp=(0, 0), fn=(0, 0), boundary=(0, 0),
    objects=((0, 0, 0, 0),) * 3, flags=("no-valid-pixel",),
)  # fmt: skip
CLEAN = replace(RECORD, attack="clean", digest="clean", kind="clean", norm_name=None, eps=None, norm=0.0, side="exact")
AT_RADIUS = replace(RECORD, kind="fixed-budget", eps=8 / 255, norm=8 / 255, success=True)


def refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not JSON")


def test_a_line_is_strict_json_and_gives_the_record_back():
    line = RECORD.to_line()
    assert "\n" not in line
    assert json.loads(line, parse_constant=refuse)["norm"] == "inf"
    back = Record.from_line(line)
    assert back == RECORD
    assert type(back.tp) is tuple


def test_shares_of_an_image_without_valid_pixel_are_nan_and_strings_in_the_file():
    back = Record.from_line(VOID.to_line())
    assert math.isnan(back.apsr)
    assert math.isnan(back.clean_apsr)
    assert replace(back, apsr=0.0, clean_apsr=0.0) == replace(VOID, apsr=0.0, clean_apsr=0.0)


@pytest.mark.parametrize("record", [CLEAN, RECORD, AT_RADIUS], ids=lambda record: record.kind)
def test_keys_survive_the_file(record):
    assert Record.from_line(record.to_line()) == record
    assert Record.from_line(record.to_line()).key == record.key


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (RECORD.to_line().replace('"schema":3', '"schema":4'), "schema 3, got 4"),
        (RECORD.to_line().replace('"schema":3', '"schema":2'), "schema 3, got 2"),
        (RECORD.to_line().replace('"num_valid":7,', ""), "num_valid"),
        ("[]", "list"),
        ("{", "Expecting"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        Record.from_line(line)
    with RecordWriter(tmp_path) as writer:
        writer.write([RECORD])
    with writer.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=rf"rank000\.jsonl, line 2.*{message}"):
        read_records(tmp_path)


def test_a_record_is_on_disk_as_soon_as_it_is_written(tmp_path):
    writer = RecordWriter(tmp_path, rank=12)
    writer.write([RECORD])
    assert (tmp_path / "records" / "rank012.jsonl").read_text() == RECORD.to_line() + "\n"
    writer.close()


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_torn_line_is_not_read_and_is_cut_when_the_shard_is_opened(tmp_path, cut):
    first, second = RECORD, replace(RECORD, sample_id=4)
    with RecordWriter(tmp_path) as writer:
        writer.write([first])
    with writer.path.open("a") as file:
        file.write(second.to_line()[:cut])
    assert [record.sample_id for record in read_records(tmp_path)] == [3]
    with RecordWriter(tmp_path) as writer:
        writer.write([second])
    assert writer.path.read_text() == first.to_line() + "\n" + second.to_line() + "\n"


def test_a_shard_that_holds_nothing_but_a_torn_line_becomes_empty(tmp_path):
    with RecordWriter(tmp_path) as writer:
        pass
    writer.path.write_text('{"sample')
    RecordWriter(tmp_path).close()
    assert writer.path.read_bytes() == b""


def test_merging_keeps_the_first_of_each_key_across_shards(tmp_path):
    broken = replace(RECORD, success=True, norm=0.1)
    for rank, norm in ((1, 0.1 + 1e-7), (0, 0.1)):  # the shard of rank 0 is read first, though written last
        with RecordWriter(tmp_path, rank) as writer:
            writer.write([replace(broken, norm=norm)])
            writer.write([replace(broken, norm=norm, sample_id=rank)])
    merged = read_records(tmp_path)
    assert [(record.sample_id, record.norm) for record in merged] == [(0, 0.1), (1, 0.1 + 1e-7), (3, 0.1)]
    assert merge_records([*merged, *merged]) == merged


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"norm": 0.1 * (1 + 1e-4)}, r"norm 0\.1 and 0\.10001"),
        ({"success": False}, "success True and False"),
        ({"tp": (3, 2), "fn": (0, 2), "fp": (1, 1)}, r"tp \(1, 2\) and \(3, 2\)"),
        ({"apsr": 0.31}, "apsr 0.3 and 0.31"),
        ({"seed": 6}, "seed 5 and 6"),
    ],
)
def test_two_records_of_one_measurement_that_differ_by_more_than_rounding_are_both_shown(tmp_path, other, said):
    broken = replace(RECORD, success=True, norm=0.1)
    for rank, record in enumerate((broken, replace(broken, **other))):
        with RecordWriter(tmp_path, rank) as writer:
            writer.write([record])
    with pytest.raises(ValueError, match=f"sample 3 .*3.*alma at min, has two records .*{said}"):
        read_records(tmp_path)


def test_records_of_other_classes_are_of_another_run(tmp_path):
    other = replace(RECORD, sample_id=4, tp=(1, 2, 0), fp=(3, 1, 0), fn=(0, 4, 0))
    with RecordWriter(tmp_path) as writer:
        writer.write([RECORD, other])
    with pytest.raises(ValueError, match="different numbers of classes: 2 for sample 3, 3 for sample 4"):
        read_records(tmp_path)


def test_a_last_line_longer_than_any_is_refused_and_kept(tmp_path):
    with RecordWriter(tmp_path) as writer:
        writer.write([RECORD])
    path = tmp_path / "records" / "rank000.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * LARGEST_LINE)
    RecordWriter(tmp_path).close()
    assert path.read_bytes() == whole
    longer = whole + b"x" * (LARGEST_LINE + 2**16 + 1)
    path.write_bytes(longer)
    with pytest.raises(DataFault, match="last line has at most"):
        RecordWriter(tmp_path)
    assert path.read_bytes() == longer
