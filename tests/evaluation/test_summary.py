import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from segrobust.evaluation import Record, summarize, summary_tables
from segrobust.evaluation.numbers.summary import BOUND_BY_PRODUCT, BOUND_FIXED, BOUND_NORM, BOUND_WORST
from segrobust.evaluation.run.strict_json import to_line

CLEAN = Record(
    sample_id=0,
    sample_name="a",
    sequence="a",
    attack="clean",
    digest="clean",
    kind="clean",
    norm_name=None,
    eps=None,
    threat="none",
    side="exact",
    success=False,
    norm=0.0,
    apsr=0.2,
    clean_apsr=0.2,
    num_valid=10,
    tp=(5, 3, 0),
    fp=(1, 1, 0),
    fn=(1, 1, 0),
    boundary=(4, 2),
    objects=((1, 0, 2, 0), (0, 0, 0, 0), (2, 2, 8, 8)),
    first_success=-1,
    num_forwards=1,
    num_backwards=0,
    seconds=0.5,
    seed=0,
)
FOUR, EIGHT = 4 / 255, 8 / 255


def minimal(sample_id, norm, apsr=1.0):
    return replace(
        CLEAN, sample_id=sample_id, attack="alma", digest="aa", kind="minimal-norm", norm_name="linf", eps="min",
        success=math.isfinite(norm), norm=norm, apsr=apsr, num_forwards=12, num_backwards=10,
    )  # fmt: skip


def attacked(sample_id, name, eps, tp, fp, fn, kind="fixed-budget"):
    apsr = 1 - sum(tp) / (sum(tp) + sum(fn))
    digest = "aa" if name == "alma" else name
    return replace(
        CLEAN, sample_id=sample_id, attack=name, digest=digest, kind=kind, norm_name="linf", eps=eps,
        success=apsr >= 0.99, norm=eps, apsr=apsr, tp=tp, fp=fp, fn=fn, num_forwards=7, num_backwards=5,
    )  # fmt: skip


def void(sample_id):
    zeros = (0, 0, 0)
    return replace(
        CLEAN, sample_id=sample_id, sample_name="dark", apsr=math.nan, clean_apsr=math.nan, num_valid=0,
        tp=zeros, fp=zeros, fn=zeros, flags=("no-valid-pixel",),
    )  # fmt: skip


def test_clean_scores_sum_the_counts_over_images():
    other = replace(CLEAN, sample_id=1, tp=(0, 10, 0), fp=(0, 0, 0), fn=(0, 0, 0), apsr=0.0, clean_apsr=0.0)
    clean = summarize([CLEAN, other]).clean
    assert clean.iou[:2] == pytest.approx((5 / 7, 13 / 15))
    assert math.isnan(clean.iou[2])
    assert clean.miou == pytest.approx((5 / 7 + 13 / 15) / 2)
    assert clean["miou_image"] == pytest.approx(((5 / 7 + 3 / 5) / 2 + 1) / 2)
    assert clean.accuracy == pytest.approx(18 / 20)
    assert clean["mean_class_accuracy"] == pytest.approx((5 / 6 + 13 / 14) / 2)
    assert (clean["mean_apsr"], clean.num_images, clean["asr"]) == (pytest.approx(0.1), 2, 0.0)


def test_failures_are_counted_and_never_dropped():
    norms = [0.01, 0.02, math.inf, 0.03, math.inf]
    records = [minimal(i, norm, apsr=1.0 if math.isfinite(norm) else 0.5) for i, norm in enumerate(norms)]
    (entry,) = summarize([*records, replace(records[0], kind="by-product", eps=0.02)]).minimal_norm
    assert entry["asr"] == 0.6
    assert (entry["lower_quartile"], entry["median"], entry["upper_quartile"]) == (0.02, 0.03, math.inf)
    assert entry.eps == (0.02,)
    assert entry.asr_at == (0.4,)
    assert entry["mean_capped"] == pytest.approx((0.06 + 2 * 32 / 255) / 5)
    assert (entry["median_capped"], entry["mean_apsr"]) == (0.03, pytest.approx(0.8))
    assert (entry.cost.num_forwards, entry.cost.num_backwards, entry.cost.seconds) == (12, 10, 0.5)
    assert entry.by_products[0].bound == BOUND_BY_PRODUCT


def test_the_median_of_capped_norms_is_finite_where_the_median_is_not():
    (entry,) = summarize([minimal(0, 0.01), minimal(1, math.inf), minimal(2, math.inf)]).minimal_norm
    assert (entry["median"], entry["median_capped"]) == (math.inf, 32 / 255)


def test_worst_case_chooses_for_each_image_and_takes_smaller_balls_along():
    strong0, weak0 = ((0, 2, 0), (4, 4, 0), (4, 4, 0)), ((4, 4, 0), (1, 1, 0), (1, 1, 0))
    records = [
        attacked(0, "ce", EIGHT, *strong0),
        attacked(1, "ce", EIGHT, *weak0),
        attacked(0, "margin", EIGHT, *weak0),
        attacked(1, "margin", FOUR, *strong0),
        attacked(1, "margin", EIGHT, *weak0),
        attacked(0, "margin", FOUR, *weak0),
    ]
    summary = summarize(records)
    (worst,) = summary.worst_case
    assert worst.attacks == ("ce", "margin")
    assert [scores.eps for scores in worst.scores] == [FOUR, EIGHT]
    assert worst.scores[1].accuracy == pytest.approx(4 / 20)
    assert worst.scores[1].miou == pytest.approx((0 + 4 / 20) / 2)
    assert worst.scores[1].bound == BOUND_WORST
    ce, margin = summary.fixed_budget
    assert ce.scores[0].accuracy == pytest.approx(10 / 20)
    assert [scores.num_images for scores in margin.scores] == [2, 2]


def test_by_products_are_never_part_of_a_worst_case():
    total = ((0, 0, 0), (5, 5, 0), (5, 5, 0))
    partial = ((4, 4, 0), (1, 1, 0), (1, 1, 0))
    records = [
        attacked(0, "ce", EIGHT, *partial),
        attacked(0, "margin", EIGHT, *partial),
        attacked(0, "alma", EIGHT, *total, kind="by-product"),
    ]
    assert summarize(records).worst_case[0].scores[0].accuracy == pytest.approx(0.8)


def test_one_attack_is_no_worst_case():
    records = [attacked(0, "ce", EIGHT, (4, 4, 0), (1, 1, 0), (1, 1, 0))]
    assert summarize(records).worst_case == ()


def test_flagged_images_are_listed_and_left_out():
    flagged = [void(7), replace(minimal(7, math.inf), sample_name="dark", flags=("no-valid-pixel",), apsr=math.nan)]
    summary = summarize([CLEAN, minimal(0, 0.01), *flagged])
    assert [(image.sample_id, image.sample_name) for image in summary.flagged] == [(7, "dark")]
    assert summary.num_images == summary.clean.num_images == summary.minimal_norm[0].num_images == 1
    assert summary.minimal_norm[0]["asr"] == 1.0
    assert "left out of all numbers: 1 images: 7 dark (no-valid-pixel)" in text_of(summary)


def test_samples_can_be_chosen_and_duplicates_do_not_count():
    records = [minimal(0, 0.01), minimal(0, 0.01), minimal(1, 0.03)]
    (entry,) = summarize(records, sample_ids={0}).minimal_norm
    assert (entry.num_images, entry["median"]) == (1, 0.01)


def test_different_networks_are_not_mixed():
    with pytest.raises(ValueError, match="different numbers of classes: 3 for sample 0, 2 for sample 1"):
        summarize([CLEAN, replace(CLEAN, sample_id=1, tp=(1, 1), fp=(0, 0), fn=(0, 0))])


def test_the_summary_is_strict_json():
    summary = summarize([CLEAN, minimal(0, math.inf)])
    data = json.loads(to_line(summary.to_dict()), parse_constant=lambda name: pytest.fail(name))
    assert data["minimal_norm"][0]["values"]["median"] == "inf"
    assert data["clean"]["iou"][2] == "nan"
    assert data["minimal_norm"][0]["bound"] == BOUND_NORM


def text_of(summary):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(summary_tables(summary))
    return console.file.getvalue()


def test_the_tables_name_what_each_number_is_a_bound_of():
    partial, total = ((4, 4, 0), (1, 1, 0), (1, 1, 0)), ((0, 0, 0), (5, 5, 0), (5, 5, 0))
    text = text_of(
        summarize(
            [
                CLEAN,
                minimal(0, 3 / 255),
                minimal(1, 5 / 255),
                attacked(0, "alma", EIGHT, *partial, kind="by-product"),
                attacked(0, "ce", FOUR, *partial),
                attacked(0, "ce", EIGHT, *total),
                attacked(0, "margin", EIGHT, *partial),
            ]
        )
    )
    for bound in (BOUND_NORM, BOUND_FIXED, BOUND_WORST, BOUND_BY_PRODUCT):
        assert bound in text
    lines = {line.split("  ")[0]: line.split() for line in text.splitlines()}
    assert lines["alma"][1:] == [
        "2",
        "100.0",
        "4.00",
        "(3.50-4.50)/255",
        "50.0",
        "100.0",
        "100.0",
        "20.0",
        "12+10",
        "0.5",
    ]
    assert lines["ce"][1:] == ["1", "66.7", "80.0", "0.0", "0.0", "7+5", "0.5"]
    assert lines["worst of 2 attacks"][4:] == ["1", "66.7", "80.0", "0.0", "0.0"]
    assert lines["by-product of alma"][3:] == ["1", "66.7", "80.0"]


def test_open_quartiles_and_failures_are_told_in_words():
    text = text_of(summarize([minimal(i, norm) for i, norm in enumerate([0.01, 0.02, 0.03, math.inf])]))
    assert "6.38 (4.46-?)/255" in text
    assert "not reached" in text_of(summarize([minimal(0, math.inf)]))


def test_nothing_recorded_is_told_in_words():
    assert "no image with a valid pixel" in text_of(summarize([void(0)]))
