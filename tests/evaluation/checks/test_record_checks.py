import functools
from dataclasses import replace

import pytest
from evaluation.toy import ToyScenes, toy_network, toy_plan

from segrobust.evaluation import StridedWork, run
from segrobust.evaluation.checks import check_records, worst_status

EPS = (2 / 255, 4 / 255, 8 / 255)
REPRS = {"p": "PGD(num_steps=10)", "a": "APGD(num_steps=10)", "s": "Square(num_queries=100)", "m": "AlmaProx()"}
REPRS |= {"f": "LagrangianFMN()", "r": "Restarts(attack=Square(num_queries=100), num_runs=2)"}


@functools.cache
def real_records(num=4):
    return tuple(run(toy_network(), ToyScenes(num), toy_plan(), work=StridedWork(range(num))))


def clean(sample_id, right=80, common=50):
    """100 pixels of 2 classes, `common` of them of class 0; `right` of them predicted as such."""
    tp = (min(right, common), max(right - common, 0))
    fn = (common - tp[0], 100 - common - tp[1])
    (like,) = [r for r in real_records() if r.kind == "clean" and r.sample_id == 0]
    counts = {"tp": tp, "fn": fn, "fp": fn[::-1], "num_valid": 100, "apsr": 1 - right / 100}
    return replace(like, sample_id=sample_id, success=False, clean_apsr=1 - right / 100, flags=(), **counts)


def fixed(digest, apsr, eps=EPS[0], sample_id=0, success=None, norm_name="linf"):
    """A fixed-budget attack that breaks a share of 100 pixels."""
    right = round(100 * (1 - apsr))
    success = apsr >= 0.99 if success is None else success
    like = clean(sample_id, right)
    names = {"attack": digest, "digest": digest, "kind": "fixed-budget", "norm_name": norm_name}
    return replace(like, **names, eps=eps, apsr=apsr, success=success, norm=eps, clean_apsr=0.2)


def minimal(digest, norm, sample_id=0, norm_name="linf"):
    record = fixed(digest, 0.99, sample_id=sample_id, success=norm < float("inf"), norm_name=norm_name)
    return replace(record, kind="minimal-norm", eps="min", norm=norm)


def found_in(records):
    """The only check of each name, of each attack."""
    checks = check_records(records, REPRS)
    keys = [(check.name, *check.attacks) for check in checks]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, checks, strict=True))


def test_an_honest_run_passes():
    attacks = {job.digest: repr(job.attack) for job in toy_plan().jobs}
    checks = check_records(real_records(), attacks)
    assert worst_status(checks) == "ok", checks
    assert [check.name for check in checks] == ["clean", "monotone", "censored", "agreement"]


def test_nothing_is_said_of_what_was_not_measured():
    assert check_records((), {}) == ()
    assert {name for name, *_ in found_in([fixed("p", 0.5)])} == {"monotone"}
    assert {name for name, *_ in found_in([minimal("m", 0.1)])} == {"censored"}


def test_an_attack_without_repr_is_named():
    with pytest.raises(ValueError, match="it lacks x"):
        check_records([fixed("x", 0.5)], REPRS)


@pytest.mark.parametrize(("after", "status"), [(0.7, "ok"), (0.595, "ok"), (0.57, "warn"), (0.5, "fail")])
def test_more_radius_must_not_break_less(after, status):
    records = [fixed("p", 0.3, EPS[0]), fixed("p", 0.6, EPS[1]), fixed("p", after, EPS[2])]
    check = found_in(records)["monotone", "p"]
    assert check.status == status, check
    if status != "ok":
        assert check.detail.startswith("p: ")
        assert "from 4/255 to 8/255" in check.detail


def test_a_fall_counts_that_no_pair_of_neighbours_shows():
    steps = (2, 3, 4, 5, 6, 7, 8, 9, 10)
    records = [fixed("p", 0.6 - 0.009 * i, eps / 255) for i, eps in enumerate(steps)]
    check = found_in(records)["monotone", "p"]
    assert check.status == "fail"
    assert "from 2/255 to 10/255" in check.detail


def test_an_attack_that_does_worse_than_none_is_found():
    check = found_in([fixed("p", 0.1)])["monotone", "p"]
    assert check.status == "fail"
    assert "from 0/255 to 2/255" in check.detail


def test_accuracy_that_rises_is_found_where_broken_pixels_hide_it():
    """Images of different sizes: the mean over images rises, while the pixels of all get better."""
    small = [fixed("p", 0.3, EPS[0]), fixed("p", 0.9, EPS[1])]
    large = [fixed("p", 0.9, EPS[0], 1), fixed("p", 0.7, EPS[1], 1)]
    large = [replace(r, num_valid=1000, tp=tuple(10 * n for n in r.tp), fn=tuple(10 * n for n in r.fn)) for r in large]
    assert found_in([*small, *large])["monotone", "p"].status == "fail"


def test_only_images_with_both_radii_are_compared():
    records = [fixed("p", 0.3, EPS[0], 0), fixed("p", 0.4, EPS[1], 0), fixed("p", 0.95, EPS[0], 1)]
    assert found_in(records)["monotone", "p"].status == "ok"


@pytest.mark.parametrize("digest", ["s", "r"])
def test_a_black_box_attack_that_wins_is_masking(digest):
    records = [fixed("p", 0.4), fixed("a", 0.5), fixed(digest, 0.7)]
    check = found_in(records)["square",]
    assert check.status == "fail"
    assert check.attacks == ()
    assert "2/255" in check.detail
    assert "70.0%" in check.detail
    assert "50.0%" in check.detail


def test_a_black_box_attack_may_lose_to_any_white_box_result_within_its_radius():
    rivals = (
        fixed("p", 0.7),
        fixed("p", 0.7, EPS[0] / 2),
        minimal("m", EPS[0]),
        replace(fixed("m", 0.7), kind="by-product"),
    )
    for rival in rivals:
        assert found_in([rival, fixed("s", 0.7)])["square", "s"].status == "ok", rival
    for other in (fixed("p", 0.9, EPS[1]), fixed("p", 0.9, norm_name="l2"), minimal("m", float("inf"))):
        check = found_in([other, fixed("s", 0.7)])["square",]
        assert check.status == "warn", other
        assert check.detail.startswith("not measured")


def test_the_best_white_box_attack_of_each_image_counts():
    records = [fixed("p", 0.9, sample_id=0), fixed("p", 0.1, sample_id=1)]
    records += [fixed("a", 0.1, sample_id=0), fixed("a", 0.9, sample_id=1)]
    records += [fixed("s", 0.7, sample_id=i) for i in (0, 1)]
    assert found_in(records)["square", "s"].status == "ok"


def test_the_radius_at_which_the_black_box_wins_is_found():
    records = [fixed("p", 0.9, EPS[0]), fixed("p", 0.9, EPS[1]), fixed("s", 0.4, EPS[0]), fixed("s", 0.95, EPS[1])]
    assert "4/255" in found_in(records)["square",].detail


@pytest.mark.parametrize(("norm", "status"), [(EPS[0], "ok"), (EPS[1], "warn"), (float("inf"), "warn")])
def test_minimal_norms_that_a_fixed_budget_undercuts_are_loose(norm, status):
    check = found_in([minimal("m", norm), fixed("p", 1.0, EPS[0])])["agreement", "m"]
    assert check.status == status
    if norm == EPS[1]:
        assert "2.00 times as large" in check.detail


def test_a_few_loose_norms_among_many_are_tolerated():
    records = [minimal("m", EPS[1] if i == 0 else EPS[0] / 2, i) for i in range(20)]
    records += [fixed("p", 1.0, EPS[0], i) for i in range(20)]
    assert found_in(records)["agreement", "m"].status == "ok"
    assert found_in([*records, minimal("f", EPS[1], 0)])["agreement", "f"].status == "warn"


def test_failures_of_fixed_budgets_and_other_norms_contradict_nothing():
    for other in (fixed("p", 0.9, EPS[0]), fixed("p", 1.0, EPS[2])):
        assert found_in([minimal("m", EPS[1]), other])["agreement", "m"].status == "ok"
    assert ("agreement", "m") not in found_in([minimal("m", EPS[1]), fixed("p", 1.0, EPS[0], norm_name="l2")])


@pytest.mark.parametrize(("num_failed", "status"), [(0, "ok"), (2, "ok"), (3, "warn")])
def test_many_failures_are_told(num_failed, status):
    records = [minimal("m", float("inf") if i < num_failed else 0.1, i) for i in range(20)]
    check = found_in(records)["censored", "m"]
    assert check.status == status
    assert f"fails on {num_failed} of 20 images" in check.detail


def test_one_failure_is_enough_where_another_attack_succeeds():
    records = [minimal("m", float("inf") if i == 0 else 0.1, i) for i in range(20)]
    for other, status in (
        (minimal("f", 0.2), "warn"),
        (fixed("p", 1.0), "warn"),
        (fixed("p", 0.9), "ok"),
        (minimal("f", 0.2, norm_name="l2"), "ok"),
        (minimal("f", 0.2, sample_id=1), "ok"),
    ):
        assert found_in([*records, other])["censored", "m"].status == status, other


@pytest.mark.parametrize(("right", "common", "status"), [(80, 50, "ok"), (70, 70, "warn"), (60, 70, "warn")])
def test_a_network_that_knows_one_class_is_useless(right, common, status):
    assert found_in([clean(i, right, common) for i in range(3)])["clean",].status == status


def test_data_of_one_class_tell_nothing_about_that():
    assert found_in([clean(0, 100, 100)])["clean",].status == "ok"


def test_images_without_valid_pixels_are_left_out():
    (void, *_) = (r for r in real_records() if r.flags)
    void = replace(void, **dict.fromkeys(("tp", "fp", "fn"), (0, 0)))
    records = [clean(0), fixed("p", 0.5), replace(void, digest="p", attack="p", kind="fixed-budget", eps=EPS[0])]
    assert found_in(records)["monotone", "p"].status == "ok"


@pytest.mark.parametrize(
    ("loose", "tight", "status", "told"),
    [
        ((8, 8, 8, 8), (3.5, 3.5, 3.5, 3.5), "warn", ("on 4 of 4 images", "2.29 times")),
        ((8, 8, 8, 8), (4, 4, 4, 7), "warn", ("on 3 of 4 images",)),
        ((8, 8, 8, 8), (4, 4, 7, 7), "ok", ("on 2 of 4 images",)),
        ((7, 7, 7, 7), (4, 4, 4, 4), "ok", ("on 0 of 4 images", "1.75 times")),
        (
            (float("inf"),) * 4,
            (4, 4, 4, 4),
            "warn",
            ("on 4 of 4 images", "no image is broken by both", "4 images are broken"),
        ),
        ((float("inf"),) * 4, (float("inf"),) * 4, "ok", ("on 0 of 4 images",)),
        ((0, 0, 0, 0), (0, 0, 0, 0), "ok", ("on 0 of 4 images",)),
        ((8, 8, 3, 8), (4, 4, 6, 4), "warn", ("on 4 of 4 images",)),
    ],
)
def test_two_minimal_norm_attacks_that_differ_are_told(loose, tight, status, told):
    records = [minimal("m", norm / 255, i) for i, norm in enumerate(loose)]
    records += [minimal("f", norm / 255, i) for i, norm in enumerate(tight)]
    for ordered in (records, records[::-1]):
        check = next(check for key, check in found_in(ordered).items() if key[0] == "minimal norms")
        assert check.status == status, check
        assert "m and f" in check.detail or "f and m" in check.detail
        for text in told:
            assert text in check.detail
        if status == "warn":
            assert check.attacks == ("m",)
            assert "give m more steps" in check.fix
            assert "not m alone" in check.fix


def test_minimal_norms_are_compared_over_common_images_of_one_norm():
    records = [*(minimal("m", 0.1, i) for i in range(3)), minimal("f", 0.1, 0), minimal("a", 0.01, 1, norm_name="l2")]
    (check,) = (check for key, check in found_in(records).items() if key[0] == "minimal norms")
    assert "on 0 of 1 images" in check.detail
