import pytest
import torch

from segrobust.attacks.core.tracker import Candidates, Iterate, Tracker


@pytest.fixture(autouse=True, params=["cpu", "accelerator"])
def device_path(request, monkeypatch):
    """The way of an accelerator, which copies losers too, run on the CPU."""
    if request.param == "accelerator":
        monkeypatch.setattr(Tracker, "_copy_winners", Tracker._write_all)


def iterate(step, num_broken, success, norm, rows=None):
    """Iterates that carry their step in every value of delta."""
    count = len(num_broken)
    return Iterate(
        step=step,
        rows=torch.arange(count) if rows is None else torch.tensor(rows),
        delta=torch.full((count, 1, 1, 1), float(step)),
        logits=torch.zeros(count, 2, 1, 1),
        broken=torch.zeros(count, 1, 1, dtype=torch.bool),
        num_broken=torch.tensor(num_broken),
        success=torch.tensor(success),
        norm=torch.tensor(norm),
        shortfall=100 - torch.tensor(num_broken, dtype=torch.float64),
    )


def follow(script, *, minimal_norm):
    """Steps of the best and the second best of one image after a script of (broken pixels, success, norm)."""
    tracker = Tracker(torch.zeros(1, 1, 1, 1), minimal_norm)
    for step, (num_broken, success, norm) in enumerate(script):
        tracker.update(iterate(step, [num_broken], [success], [norm]))
    return tracker.best.delta.item(), tracker.runner_up.delta.item(), tracker.first_success.item()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        # successes: the smaller norm
        ([(9, True, 3.0), (9, True, 1.0), (9, True, 2.0)], (1, 2, 0)),
        ([(9, True, 1.0), (9, True, 2.0), (9, True, 3.0)], (0, 1, 0)),
        # a success beats a failure, whatever the norm
        ([(8, False, 0.1), (9, True, 5.0), (8, False, 0.2)], (1, 0, 1)),
        ([(9, True, 5.0), (8, False, 0.1)], (0, 1, 0)),
        # more broken pixels do not make a success better
        ([(9, True, 1.0), (10, True, 2.0)], (0, 1, 0)),
        # failures: more broken pixels, then the smaller norm
        ([(3, False, 1.0), (5, False, 9.0), (4, False, 0.5)], (1, 2, -1)),
        ([(5, False, 2.0), (5, False, 1.0), (5, False, 3.0)], (1, 0, -1)),
        # ties: the earlier one
        ([(9, True, 1.0), (9, True, 1.0)], (0, 1, 0)),
        ([(5, False, 1.0), (5, False, 1.0), (5, False, 1.0)], (0, 1, -1)),
        # a failure between successes takes no place once two successes are known
        ([(8, False, 0.1), (9, True, 2.0), (9, True, 1.0), (8, False, 0.0)], (2, 1, 1)),
    ],
)
def test_order_of_minimal_norm_attacks(script, expected):
    assert follow(script, minimal_norm=True) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([(3, False, 1.0), (5, False, 2.0), (4, False, 0.1)], (1, 2, -1)),
        ([(9, True, 1.0), (10, True, 2.0), (9, True, 0.1)], (1, 0, 0)),  # beyond success more is still better
        ([(5, False, 1.0), (5, False, 0.5)], (0, 1, -1)),  # the norm does not count; the earlier one wins
        ([(0, False, 1.0)], (0, 0, -1)),
    ],
)
def test_order_of_fixed_budget_attacks(script, expected):
    assert follow(script, minimal_norm=False) == expected


def test_images_are_tracked_each_on_its_own():
    tracker = Tracker(torch.zeros(3, 1, 1, 1), minimal_norm=True)
    tracker.update(iterate(0, [1, 1, 1], [False, True, False], [1.0, 1.0, 1.0]))
    tracker.update(iterate(1, [2, 9], [True, False], [0.5, 0.5], rows=[2, 0]))
    assert tracker.best.delta.flatten().tolist() == [1, 0, 1]
    assert tracker.best.success.tolist() == [False, True, True]
    assert tracker.best.num_broken.tolist() == [9, 1, 2]
    assert tracker.best.norm.tolist() == [0.5, 1.0, 0.5]
    assert tracker.first_success.tolist() == [-1, 0, 1]


def test_nothing_judged_is_the_clean_image_at_infinite_norm():
    best = Candidates.none(torch.ones(2, 1, 1, 1))
    assert best.delta.eq(0).all()
    assert best.norm.isinf().all()
    assert best.num_broken.eq(-1).all()
    assert not best.success.any()


def test_kept_perturbations_are_copies():
    """An attack may write its next delta into the old one's memory."""
    tracker = Tracker(torch.zeros(1, 1, 1, 1), minimal_norm=True)
    first = iterate(1, [1], [True], [1.0])
    tracker.update(first)
    first.delta.fill_(99)
    assert tracker.best.delta.item() == 1


def test_merging_ranks_both_candidates_and_counts_iterates():
    outer = Tracker(torch.zeros(2, 1, 1, 1), minimal_norm=True)
    outer.update(iterate(0, [9, 3], [True, False], [3.0, 1.0]))
    inner = Tracker(torch.zeros(2, 1, 1, 1), minimal_norm=False)
    inner.update(iterate(0, [4, 9], [False, True], [9.0, 1.0]))
    inner.update(iterate(1, [9, 9], [True, True], [2.0, 0.5]))
    outer.merge(torch.tensor([0, 1]), inner)
    # Of equals inside a ball the earlier one is best; the outer order prefers the second with its smaller norm.
    assert inner.best.norm.tolist() == [2.0, 1.0]
    assert outer.best.norm.tolist() == [2.0, 0.5]
    assert outer.best.success.tolist() == [True, True]
    assert outer.runner_up.norm.tolist() == [3.0, 1.0]
    assert outer.first_success.tolist() == [0, 1]  # of the second image the inner iterate 0, after one outer iterate
    assert outer.num_judged.tolist() == [3, 3]


def test_merging_an_empty_tracker_changes_nothing():
    outer = Tracker(torch.zeros(1, 1, 1, 1), minimal_norm=True)
    outer.update(iterate(0, [0], [False], [3.0]))
    outer.merge(torch.tensor([0]), Tracker(torch.zeros(1, 1, 1, 1), minimal_norm=True))
    assert outer.best.norm.item() == 3.0
    assert outer.runner_up.num_broken.item() == -1
