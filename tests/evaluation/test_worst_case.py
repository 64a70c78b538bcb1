import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation.test_summary import CLEAN

from segrobust.evaluation.numbers.worst_case import within, worst_for_accuracy, worst_for_miou
from segrobust.metrics import ConfusionCounts, accuracy, miou_dataset


def rivals(seed, num_images, num_attacks, num_classes=3, num_pixels=40):
    """Records of random predictions for random labels, the same labels for all attacks."""
    rng = np.random.default_rng(seed)
    records = []
    for image in range(num_images):
        labels = rng.integers(0, num_classes, num_pixels)
        for attack in range(num_attacks):
            kept = rng.random(num_pixels) < rng.random()
            guess = np.where(kept, labels, rng.integers(0, num_classes, num_pixels))
            hits = [(guess == k) & (labels == k) for k in range(num_classes)]
            tp = tuple(int(h.sum()) for h in hits)
            fp = tuple(int((guess == k).sum()) - tp[k] for k in range(num_classes))
            fn = tuple(int((labels == k).sum()) - tp[k] for k in range(num_classes))
            apsr = float((guess != labels).mean())
            name = f"attack {attack}"
            records.append(
                replace(CLEAN, sample_id=image, attack=name, digest=name, eps=0.1, apsr=apsr, tp=tp, fp=fp, fn=fn)
            )
    return records


def counts(records):
    return ConfusionCounts(**{name: torch.tensor([getattr(r, name) for r in records]) for name in ("tp", "fp", "fn")})


@pytest.mark.parametrize("seed", range(12))
def test_choices_against_all_choices(seed):
    records = rivals(seed, num_images=6, num_attacks=3)
    candidates = within(records, 0.1)
    choices = [counts(choice) for choice in itertools.product(*candidates)]
    assert accuracy(counts(worst_for_accuracy(candidates))) == min(map(accuracy, choices))
    assert miou_dataset(counts(worst_for_miou(candidates))) == min(map(miou_dataset, choices))


def test_the_choice_depends_on_its_seed_alone():
    candidates = within(rivals(0, num_images=40, num_attacks=4), 0.1)
    assert worst_for_miou(candidates, seed=1) == worst_for_miou(candidates, seed=1)


@pytest.mark.parametrize("seed", range(3))
def test_the_worst_case_is_at_most_every_attack(seed):
    records = rivals(seed, num_images=30, num_attacks=4)
    worst = miou_dataset(counts(worst_for_miou(within(records, 0.1))))
    singles = [miou_dataset(counts([r for r in records if r.digest == f"attack {a}"])) for a in range(4)]
    assert worst < min(singles)
    assert worst <= miou_dataset(counts(worst_for_accuracy(within(records, 0.1))))


def test_images_that_not_all_attacks_reached_take_what_they_have():
    records = [r for r in rivals(0, num_images=4, num_attacks=3) if (r.sample_id, r.digest) != (2, "attack 1")]
    chosen = worst_for_miou(within(records, 0.1))
    assert [record.sample_id for record in chosen] == [0, 1, 2, 3]


def test_larger_radii_stay_outside():
    records = rivals(0, num_images=1, num_attacks=2)
    inside, outside = records[0], replace(records[1], eps=0.2)
    assert within([inside, outside], 0.1) == [[inside]]
    assert within([inside, outside, replace(inside, eps="min")], 0.2) == [[inside, outside]]
