"""The smallest norm of several attacks, from records whose smallest norms are known."""

import math
import random
import re
from dataclasses import replace

import pytest
from evaluation.test_summary import CLEAN, EIGHT, FOUR, attacked, minimal, text_of, void

from segrobust.attacks import FMN, PGD, AlmaProx
from segrobust.callbacks.log_keys import default_monitor, log_keys
from segrobust.callbacks.measurement import log_values, sorted_norms
from segrobust.evaluation import norm_curves, plan_attacks, summarize
from segrobust.evaluation.numbers.smallest_norm import smallest_norms
from segrobust.evaluation.reporting.headline import headline
from segrobust.evaluation.reporting.html.plots import report_series
from segrobust.evaluation.reporting.notable import notable_samples
from segrobust.evaluation.reporting.score_lines import strongest_norms

INF = math.inf


def found(attack, *norms, norm_name="linf", apsr=1.0):
    """Records of one attack on images 0, 1, ...; None where it has none."""
    return [
        replace(minimal(i, norm / 255, apsr), attack=attack, digest=f"digest of {attack}", norm_name=norm_name)
        for i, norm in enumerate(norms)
        if norm is not None
    ]


def clean(number):
    return [replace(CLEAN, sample_id=i) for i in range(number)]


ALMA, FMN_NORMS = (3, 5, INF, 6, INF), (4, 2, 7, 6, INF)
RECORDS = [*clean(5), *found("alma", *ALMA), *found("fmn", *FMN_NORMS)]
SMALLEST = [3 / 255, 2 / 255, 7 / 255, 6 / 255, INF]


def test_each_image_counts_with_the_smallest_norm_of_any_attack():
    (entry,) = summarize(
        [*RECORDS, *(attacked(0, "ce", e, (0, 0, 0), (5, 5, 0), (5, 5, 0)) for e in (FOUR, EIGHT))]
    ).smallest_norm
    assert (entry.label, entry.norm_name, entry.num_images) == ("smallest of 2 attacks", "linf", 5)
    assert (entry["lower_quartile"], entry["median"], entry["upper_quartile"]) == (3 / 255, 6 / 255, 7 / 255)
    assert entry["asr"] == 0.8
    assert entry.asr_at == (0.4, 0.8)
    assert entry["mean_capped"] == pytest.approx((3 + 2 + 7 + 6 + 32) / 255 / 5)
    assert (entry.cost.num_forwards, entry.cost.num_backwards, entry.cost.seconds) == (24, 20, 1.0)


def test_equals_count_for_each_attack_and_failures_for_none():
    alma, fmn = summarize(RECORDS).smallest_norm[0].found_by
    assert (alma.attack, alma.num_images, alma.num_missed) == ("alma", 2, 1)
    assert (fmn.attack, fmn.num_images, fmn.num_missed) == ("fmn", 3, 0)
    assert alma.ratio == pytest.approx((1 * 2.5 * 1) ** (1 / 3))
    assert fmn.ratio == pytest.approx((4 / 3) ** (1 / 4))
    # Areas over [0, 7]: of images right without attack 7, less mean(min(norm, 7)) of (3, 5, 7, 6, 7) and of SMALLEST.
    assert alma.optimality == pytest.approx((7 - 28 / 5) / (7 - 25 / 5))
    assert fmn.optimality == pytest.approx((7 - 26 / 5) / (7 - 25 / 5))


def test_it_is_the_minimum_of_random_records_in_any_order():
    rng = random.Random(0)
    table = [[rng.choice([INF, rng.random()]) for _ in range(12)] for _ in range(3)]
    records = [record for name, norms in zip("abc", table, strict=True) for record in found(name, *norms)]
    expected = [min(column) / 255 for column in zip(*table, strict=True)]
    rng.shuffle(records)
    chosen = smallest_norms(records, [f"digest of {name}" for name in "abc"])
    assert [(r.sample_id, r.norm) for r in chosen] == list(enumerate(expected))
    assert summarize(records).smallest_norm[0]["asr"] == sum(map(math.isfinite, expected)) / 12


def test_of_failures_the_one_that_breaks_most_counts():
    records = [*found("alma", INF, apsr=0.3), *found("fmn", INF, apsr=0.6)]
    assert summarize(records).smallest_norm[0]["mean_apsr"] == 0.6


def test_an_image_counts_that_all_attacks_were_run_on():
    """In an unfinished run: the smallest of fewer attacks is another number."""
    records = [*clean(4), *found("alma", 9, 9, 1, INF), *found("fmn", 2, None, None, 4)]
    (entry,) = summarize(records).smallest_norm
    assert (entry.num_images, entry["median"]) == (2, 3 / 255)
    assert "Half of the 2 images" in headline(summarize(records))[0].text
    assert [found.num_images for found in entry.found_by] == [0, 2]


def test_without_a_common_image_the_attack_with_most_images_speaks():
    summary = summarize([*clean(3), *found("alma", INF, None, None), *found("fmn", None, 3, 5)])
    assert summary.smallest_norm == ()
    assert strongest_norms(summary)[0].label == "fmn"


def test_norms_are_never_mixed():
    records = [
        *clean(2),
        *found("ddn", 1, 1, norm_name="l2"),
        *found("alma", 8, 9),
        *found("alma_l2", 2, INF, norm_name="l2"),
    ]
    summary = summarize(records)
    (entry,) = summary.smallest_norm
    assert (entry.norm_name, [f.attack for f in entry.found_by], entry["median"]) == (
        "l2",
        ["ddn", "alma_l2"],
        1 / 255,
    )
    linf, l2 = headline(summary)
    assert "l_inf norm 8.50/255" in linf.text
    assert "alma)" in linf.text
    assert "a perturbation of l_2 norm" in l2.text
    assert "smallest of 2 attacks: ddn on 2, alma_l2 on 0" in l2.text


def test_one_attack_is_named_alone():
    summary = summarize([*clean(2), *found("alma", 3, 5)])
    assert summary.smallest_norm == ()
    assert headline(summary)[0].text.endswith("(IQR 3.50/255 to 4.50/255, alma)")
    assert "smallest" not in text_of(summary)


def test_images_without_a_valid_pixel_do_not_count():
    flagged = [
        replace(r, flags=("no-valid-pixel",), apsr=math.nan)
        for r in (*found("alma", *5 * [None], INF), *found("fmn", *5 * [None], INF))
    ]
    summary = summarize([*RECORDS, void(5), *flagged])
    assert summary.smallest_norm == summarize(RECORDS).smallest_norm


@pytest.mark.parametrize("order", [1, -1])
def test_a_weak_attack_named_first_cannot_make_a_network_robust(order):
    """A run of six steps fails on all images while the other attack breaks all of them."""
    attacks = [found("alma_6", *4 * [INF], apsr=0.4), found("fmn", 1, 2, 3, 4)][::order]
    records = [*clean(4), *attacks[0], *attacks[1]]
    summary = summarize(records)
    text = " ".join(sentence.text for sentence in headline(summary))
    assert " resist " not in text
    assert "Half of the 4 images are broken by a perturbation of l_inf norm 2.50/255 or less" in text
    assert "fmn on 4, alma_6 on 0" in text
    assert log_values(summary, "val")["val/smallest_linf/asr"] == 100
    printed = " ".join(text_of(summary).split())
    assert re.search(r"smallest of 2 attacks 4 100\.0 2\.50", printed)
    assert "alma_6 alone fails on 4 images that another attack breaks" in printed
    assert notable_samples(records) == {"worst": 0, "median": 1}


def test_an_image_resists_several_attacks_if_it_resists_each():
    summary = summarize([*clean(3), *found("alma", INF, INF, INF), *found("fmn", 2, INF, INF)])
    assert headline(summary)[0].text == "66.7 % of 3 images resist each of 2 attacks (alma, fmn)"


def test_curves_begin_with_the_smallest_norms():
    summary = summarize(RECORDS)
    (norms,) = report_series(summary, RECORDS, ["a", "b", "c"])["norms"]
    combined = norms["steps"][0]
    assert [curve["label"] for curve in norms["steps"]] == ["smallest of 2 attacks", "alma", "fmn"]
    assert combined["x"] == [2, 3, 6, 7]
    assert (combined["y"], combined["failed"]) == ([20, 40, 60, 80], 1)
    lines = norm_curves(RECORDS, summary, "linf").axes[0].lines
    assert [line.get_label() for line in lines] == [
        "smallest of 2 attacks (1 of 5 not broken)",
        "alma (2 of 5 not broken)",
        "fmn (1 of 5 not broken)",
    ]
    assert len({line.get_color() for line in lines}) == 3
    assert lines[0].get_linewidth() > lines[1].get_linewidth()


def test_logs_hold_the_keys_that_the_plan_promises():
    plan = plan_attacks({"alma": AlmaProx(num_steps=6), "fmn": FMN(num_steps=6)}, (FOUR,))
    by_products = [replace(r, kind="by-product", eps=FOUR, norm=FOUR) for r in RECORDS if r.kind == "minimal-norm"]
    summary = summarize([*RECORDS, *by_products])
    values = log_values(summary, "val")
    assert {*values} == {*log_keys(plan, "val")}
    assert values["val/smallest_linf/median_norm"] == 6 / 255
    assert values["val/smallest_linf/asr_at_4"] == pytest.approx(40)
    assert sorted_norms(RECORDS, summary)["smallest_linf"] == tuple(sorted(SMALLEST))


def test_checkpoints_are_chosen_by_the_smallest_norms_of_several_attacks():
    several = {"alma": AlmaProx(num_steps=6), "fmn": FMN(num_steps=6)}
    assert default_monitor(plan_attacks(several, (FOUR,))) == "val/smallest_linf/mean_norm_capped"
    assert default_monitor(plan_attacks({"alma": several["alma"]}, (FOUR,))) == "val/alma/mean_norm_capped"
    assert default_monitor(plan_attacks({**several, "pgd": PGD()}, (FOUR,))) == "val/pgd/miou_at_4"
