"""What is ALMA-prox's own: counts of passes and of discarded pixels, penalties, multipliers, options."""

import pytest
import torch
from oracles import linear_case
from torch import nn

from segrobust.attacks import AlmaProx, Targeted, Untargeted


def test_counts_of_passes():
    """N + 1 forwards for N + 1 judged iterates, one to judge the result, N backwards."""
    case = linear_case(0, batch_size=2)
    result = AlmaProx(num_steps=7)(case.network, case.images, case.labels)
    assert result.num_forwards.tolist() == [9, 9]
    assert result.num_backwards.tolist() == [7, 7]


@pytest.mark.parametrize(("size", "num_steps"), [(70, 50), (99, 99), (70, 2), (10, 1)])
def test_the_share_that_may_be_given_up_grows_in_whole_pixels(size, num_steps):
    """At 2/49 of 49 pixels, rounded progress gave 2 for the image and 1 for the batch's bound: an index error."""
    network = linear_case(0).network
    images = 0.5 + 0.03 * torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    labels = network(images).argmax(1)
    result = AlmaProx(num_steps=num_steps)(network, images, labels)
    assert result.num_backwards.tolist() == [num_steps]


@pytest.mark.parametrize("discard", ["growing", "constant", "never"])
def test_what_is_given_up(discard, monkeypatch):
    """Pixels without a multiplier's pull at a step: none at first, and at most one less than 1 % at the end."""
    case = linear_case(1)
    attack = AlmaProx(num_steps=11, discard=discard, criterion=Untargeted(apsr=0.9))
    counts = []
    active = AlmaProx._active

    def counting(self, problem, step, constraints):
        mask = active(self, problem, step, constraints)
        counts.append(int((problem.valid_mask & ~mask).sum()))
        return mask

    monkeypatch.setattr(AlmaProx, "_active", counting)
    attack(case.network, case.images, case.labels)
    expected = {
        "growing": [max(768 * step // 100 - 1, 0) for step in range(11)],
        "constant": [768 // 10 - 1] * 11,
        "never": [0] * 11,
    }
    assert counts == expected[discard]


def test_every_field_has_an_effect():
    """The last iterates differ; half of the pixels suffice, so that successes and failures alternate."""
    case = linear_case(2)
    base = {"num_steps": 40, "criterion": Untargeted(apsr=0.5)}
    options = [
        {},
        {"penalty_derivative": "published"},
        {"full_denominator_gradient": True},
        {"discard": "never"},
        {"initial_multiplier": 0.1},
        {"initial_penalty": 1.0},
        {"penalty_growth": 4.0},
        {"check_every": 5},
        {"improvement": 0.5},
        {"multiplier_smoothing": 0.5},
        {"rms_smoothing": 0.5},
        {"initial_scale": 0.5},
        {"scale_bounds": (0.9, 1.0)},
        {"scale_rate": 0.1},
        {"tolerance": 0.1},
        {"step_size": 2e-3},
        {"final_step_ratio": 0.5},
        {"criterion": Untargeted(apsr=0.6)},
    ]
    last = [AlmaProx(**(base | option)).perturb(case.network, case.images, case.labels) for option in options]
    for i, one in enumerate(last):
        for j, other in enumerate(last[:i]):
            assert not torch.equal(one, other), (options[i], options[j])


@pytest.mark.parametrize("num_classes", [2, 3])
def test_targeted_needs_no_fourth_class(num_classes):
    """With too few classes for the targeted DLR the margin takes its place."""
    case = linear_case(0, num_classes=num_classes)
    targets = torch.zeros_like(case.labels)
    result = AlmaProx(num_steps=150, criterion=Targeted())(case.network, case.images, case.labels, targets=targets)
    assert result.success.all()
    assert ((result.prediction == 0).float().mean() >= 0.99).all()


def test_a_warm_start_is_the_first_iterate():
    case = linear_case(0)
    start = torch.full_like(case.images, 0.01)
    seen = []
    AlmaProx(num_steps=2)(case.network, case.images, case.labels, start=start, observer=lambda i: seen.append(i.delta))
    assert torch.equal(seen[0], start)
    assert not torch.equal(seen[1], start)


def test_first_step_is_a_sign_step_less_the_pull_of_the_norm():
    """With H = |g| the forward step has length lambda everywhere; the prox lowers its bound by lambda / sum H."""
    case = linear_case(0, dtype=torch.float64)
    seen = []
    AlmaProx(num_steps=1)(case.network, case.images, case.labels, observer=lambda i: seen.append(i.delta))
    moved = seen[1]
    assert (moved.abs() <= 1e-3).all()
    assert moved.abs().amax().item() == pytest.approx(1e-3, rel=1e-3)
    assert (moved.abs() == moved.abs().amax()).float().mean() > 0.99


def test_a_broken_image_returns_to_zero_norm():
    """Labels that the network never predicts: the clean image is a success at norm zero."""
    case = linear_case(0)
    wrong = (case.labels + 1) % 6
    result = AlmaProx(num_steps=3)(case.network, case.images, wrong)
    assert result.success.all()
    assert result.norm.tolist() == [0]
    assert result.first_success.tolist() == [0]
    assert torch.equal(result.adv, case.images)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": "l0"}, "linf, l2, l1"),
        ({"num_steps": 0}, "num_steps"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"step_size": 2.0}, "divide by 255"),
        ({"check_every": 0}, "check_every"),
        ({"rms_smoothing": 1.0}, "rms_smoothing"),
        ({"final_step_ratio": 0.0}, "final_step_ratio"),
        ({"scale_bounds": (1.0, 0.1)}, "scale_bounds"),
        ({"discard": "sometimes"}, "growing"),
        ({"penalty_derivative": "correct"}, "published"),
    ],
)
def test_fields_without_meaning_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AlmaProx(**fields)


def test_saturated_logits_stay_finite():
    """Logits of 1e4 overflow no penalty within 300 steps of growing penalty parameters."""
    case = linear_case(3)
    network = nn.Conv2d(3, 6, 1)
    network.weight.data, network.bias.data = case.network.weight.data * 1e4, case.network.bias.data * 1e4
    result = AlmaProx(num_steps=300)(network, case.images, case.labels)
    assert result.success.all()
    assert result.adv.isfinite().all()
