import json
import math
from dataclasses import replace

import pytest

from segrobust.evaluation import Record, RecordWriter, merge_records, read_records

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
    clean_apsr=math.nan,
    num_valid=7,
    tp=(1, 2),
    fp=(3, 0),
    fn=(0, 2**40),
    boundary=(4, 3),
    objects=((2, 1, 3, 2), (0, 0, 0, 0), (1, 1, 4, 4)),
    first_success=-1,
    num_forwards=4,
    num_backwards=3,
    seconds=0.25,
    seed=5,
)


def refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not JSON")


def test_a_line_is_strict_json_and_gives_the_record_back():
    line = RECORD.to_line()
    assert "\n" not in line
    assert json.loads(line, parse_constant=refuse)["norm"] == "inf"
    back = Record.from_line(line)
    assert math.isnan(back.clean_apsr)
    assert replace(back, clean_apsr=0.0) == replace(RECORD, clean_apsr=0.0)
    assert type(back.tp) is tuple


@pytest.mark.parametrize("eps", [None, "min", 8 / 255])
def test_keys_survive_the_file(eps):
    record = replace(RECORD, eps=eps)
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
    with pytest.raises(ValueError, match=rf"rank000\.jsonl, line 2: .*{message}"):
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
    for rank, norm in ((1, 0.2), (0, 0.1)):  # the shard of rank 0 is read first, though written last
        with RecordWriter(tmp_path, rank) as writer:
            writer.write([replace(RECORD, norm=norm)])
            writer.write([replace(RECORD, norm=norm, sample_id=rank)])
    merged = read_records(tmp_path)
    assert [(record.sample_id, record.norm) for record in merged] == [(0, 0.1), (1, 0.2), (3, 0.1)]
    assert merge_records([*merged, *merged]) == merged
