"""Ensembles chosen from records, against every subset of few candidates."""

import hashlib
import itertools
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import yaml
from evaluation.test_summary import CLEAN
from evaluation.toy import ToyScenes, toy_network

from segrobust.attacks import APGD, FGSM, PGD, SEA, Ensemble, LagrangianFMN, Untargeted
from segrobust.cli.ensemble_command import ensemble_command
from segrobust.evaluation import evaluate, plan_attacks, read_records
from segrobust.evaluation.numbers.portfolio import Candidate, choose_portfolio
from segrobust.evaluation.numbers.worst_case import miou_of_counts
from segrobust.evaluation.reporting.comparison.run_portfolio import run_portfolio
from segrobust.evaluation.run.attack_settings import attack_settings

CRITERION = Untargeted(apsr=0.9)
EPS = 16 / 255


def record(rng, correct, passes=0):
    """A record of 40 pixels of two classes, of which `correct` are right."""
    tp = [min(correct, 20), max(0, correct - 20)]
    if rng.random() < 0.5:
        tp = [correct - min(correct, 20), min(correct, 20)]
    fn = [20 - each for each in tp]
    return replace(CLEAN, tp=tuple(tp), fn=tuple(fn), fp=tuple(fn[::-1]), num_valid=40, num_forwards=passes,
                   num_backwards=passes)  # fmt: skip


def drawn(seed, num_candidates=5, num_images=6):
    """Clean records, and candidates of different prices that are strong on different images."""
    rng = random.Random(seed)
    images = [f"image {i}" for i in range(num_images)]
    clean = {image: record(rng, rng.randint(30, 40)) for image in images}
    prices = [rng.choice([10, 50, 100, 300]) for _ in range(num_candidates)]
    candidates = [
        Candidate(
            name=f"attack {n}",
            digest=f"digest {n}",
            records={image: record(rng, rng.randint(0, 40), price) for image in images},
        )
        for n, price in enumerate(prices)
    ]
    return candidates, clean


def accuracy(candidates, clean):
    options = {image: [clean[image], *(each.records[image] for each in candidates)] for image in clean}
    return sum(min(sum(r.tp) for r in records) for records in options.values()) / (40 * len(clean))


def least_miou(candidates, clean):
    """The lowest mIoU^D over all choices of one record per image."""
    options = [[clean[image], *(each.records[image] for each in candidates)] for image in sorted(clean)]
    counts = [np.array([(r.tp, r.fp, r.fn) for r in records]) for records in options]
    return min(float(miou_of_counts(sum(choice))) for choice in itertools.product(*counts))


def subsets(candidates):
    return [each for size in range(len(candidates) + 1) for each in itertools.combinations(candidates, size)]


@pytest.mark.parametrize("seed", range(8))
def test_the_gain_is_within_the_bound_of_every_ensemble(seed):
    candidates, clean = drawn(seed)
    found = choose_portfolio(candidates, clean, "aacc", 8)
    start = accuracy([], clean)
    assert found.clean == start
    for step in found.steps:
        for subset in subsets(candidates):
            best, price = start - accuracy(subset, clean), sum(each.passes for each in subset)
            if price:
                assert start - step.left >= (1 - math.exp(-step.passes / price)) * best - 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_each_attack_is_the_one_with_the_largest_gain_per_pass(seed):
    candidates, clean = drawn(seed)
    found = choose_portfolio(candidates, clean, "aacc", 8)
    chosen = []
    for step in found.steps:
        now = accuracy(chosen, clean)
        rates = {each.name: (now - accuracy([*chosen, each], clean)) / each.passes for each in candidates}
        assert rates[step.candidate.name] == max(rates.values()) > 0
        chosen.append(step.candidate)
        assert step.left == pytest.approx(accuracy(chosen, clean))
        assert step.passes == sum(each.passes for each in chosen)
    assert found.every == accuracy(candidates, clean) == pytest.approx(found.steps[-1].left)
    assert found.every_passes == sum(each.passes for each in candidates)


@pytest.mark.parametrize("seed", range(4))
def test_miou_is_near_the_lowest_of_all_choices(seed):
    candidates, clean = drawn(seed, num_candidates=3, num_images=5)
    found = choose_portfolio(candidates, clean, "miou", 8)
    chosen = []
    for step in found.steps:
        chosen.append(step.candidate)
        assert least_miou(chosen, clean) - 1e-12 <= step.left <= least_miou(chosen, clean) + 0.01
    assert [step.left for step in found.steps] == sorted((step.left for step in found.steps), reverse=True)


def test_an_image_is_judged_by_an_ensemble_that_was_chosen_without_it():
    """An attack that is strong on one image alone is chosen with it, and not without it."""
    rng = random.Random(0)
    clean = {image: record(rng, 40) for image in "abcd"}
    lucky = {image: record(rng, 0 if image == "a" else 40, 10) for image in clean}
    steady = {image: record(rng, 36, 10) for image in clean}
    candidates = [
        Candidate(name="lucky", digest="l", records=lucky),
        Candidate(name="steady", digest="s", records=steady),
    ]
    first = choose_portfolio(candidates, clean, "aacc", 1).steps[0]
    assert (first.candidate.name, first.left) == ("lucky", 120 / 160)
    # Without a, "steady" is chosen; without b, c or d, "lucky".
    assert first.held_out == (36 + 40 + 40 + 40) / 160


def test_one_image_has_no_estimate():
    candidates, clean = drawn(0, num_images=1)
    assert all(math.isnan(step.held_out) for step in choose_portfolio(candidates, clean, "aacc", 2).steps)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of other attacks on one network and other, overlapping images."""
    folder = tmp_path_factory.mktemp("ensembles")
    attacks = {
        "one": {"pgd": PGD(num_steps=3, criterion=CRITERION), "fgsm": FGSM(criterion=CRITERION)},
        "two": {"apgd.js": APGD(num_steps=4, criterion=CRITERION)},
    }
    for name, each in attacks.items():
        evaluate(
            toy_network(), ToyScenes(6), plan=plan_attacks(each, (EPS, 2 * EPS)), run_dir=folder / name,
            panels=0, checks="off", progress=False, max_images=6 if name == "one" else 5,
        )  # fmt: skip
    return folder / "one", folder / "two"


def test_the_attacks_of_runs_are_compared_on_the_images_that_all_have(runs):
    found = run_portfolio(runs, metric="aacc", eps=EPS)
    both = {r.sample_id for r in read_records(runs[0]) if not r.flags} & {
        r.sample_id for r in read_records(runs[1]) if not r.flags
    }
    assert found.portfolio.num_images == len(both)
    every = [r for run in runs for r in read_records(run) if r.sample_id in both and r.eps in (EPS, None)]
    right = sum(min(sum(r.tp) for r in every if r.sample_id == i) for i in both)
    valid = sum(next(r.num_valid for r in every if r.sample_id == i) for i in both)
    assert found.portfolio.every == right / valid
    assert run_portfolio(runs, metric="aacc").eps == 2 * EPS


def test_the_command_prints_a_table_and_settings_that_evaluate_reads(runs, tmp_path, capsys):
    files = tmp_path / "e.json", tmp_path / "e.yaml"
    ensemble_command([*map(str, runs), "--eps", "16/255", "--json", str(files[0]), "--yaml", str(files[1])])
    printed = capsys.readouterr().out
    assert "aAcc at 16/255" in printed
    assert "all attacks" in printed
    settings = yaml.safe_load(files[1].read_text())
    assert settings["eps"] == [EPS]
    steps = yaml.safe_load(files[0].read_text())["steps"]
    assert [step["attack"] for step in steps[:-1]] == [*settings["attacks"]]


def test_other_networks_radii_and_folders_are_refused(runs, tmp_path):
    evaluate(
        toy_network(seed=1), ToyScenes(3), plan=plan_attacks({"pgd": PGD(num_steps=1, criterion=CRITERION)}, (EPS,)),
        run_dir=tmp_path / "other", panels=0, checks="off", progress=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="one network and one problem; weights of the network"):
        run_portfolio((runs[0], tmp_path / "other"), metric="aacc")
    with pytest.raises(ValueError, match=r"no fixed-budget attack at eps=0.5; the runs have 16/255, 32/255"):
        run_portfolio(runs, metric="aacc", eps=0.5)
    with pytest.raises(ValueError, match="holds no run"):
        run_portfolio((tmp_path,), metric="aacc")


@pytest.mark.parametrize(
    "attack", [PGD(num_steps=3), LagrangianFMN(norm="l2"), *SEA(num_steps=4).members.values()], ids=repr
)
def test_settings_give_the_attack_again(attack):
    (job,) = plan_attacks({"a": attack}, (EPS,)).jobs
    settings = attack_settings(job.identity, job.digest)
    assert settings["class_path"] == f"segrobust.attacks.{type(attack).__name__}"
    assert not isinstance(attack, Ensemble)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("__import__('os').system('true')", "is no plain value|no class of segrobust"),
        ("os.system('true')", "is no plain value"),
        ("PGD(num_steps=10**9)", "is no plain value"),
        ("Unknown(a=1)", "is no class of segrobust.attacks"),
        ("PGD(num_steps=3", "is no attack of segrobust"),
        ("(" * 4000, "too deeply nested"),
        ("PGD(num_steps=3)", "does not give the attack"),
        ("tensor(torch.float32, (3,), sha256:aa)", "is no attack of segrobust"),
    ],
)
def test_text_that_is_no_attack_is_refused(text, says):
    with pytest.raises(ValueError, match=says):
        attack_settings(text, hashlib.sha256(b"another").hexdigest()[:16])
