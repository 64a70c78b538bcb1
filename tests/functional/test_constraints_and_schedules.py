import pytest
import torch

from segrobust.functional.constraints import discard_hardest
from segrobust.functional.schedules import cosine_decay, hyperbolic_decay


def slow_discard(constraints, valid, k):
    """Loop over images: everything valid up to the k-th largest valid constraint."""
    kept = valid.clone()
    for i, count in enumerate(k.tolist()):
        if count:
            threshold = constraints[i][valid[i]].sort(descending=True).values[count - 1]
            kept[i] &= constraints[i] <= threshold
    return kept


@pytest.mark.parametrize("levels", [None, 4])
def test_discarding_equals_the_loop_over_images(levels):
    """A batch with counts of its own for each image, zero included, with and without ties, with void pixels."""
    generator = torch.Generator().manual_seed(0)
    c = torch.randn(5, 12, 10, generator=generator)
    if levels:
        c = (c * levels).round() / levels
    valid = torch.rand(5, 12, 10, generator=generator) < torch.tensor([1.0, 0.9, 0.5, 0.2, 0.0])[:, None, None]
    k = torch.tensor([7, 1, 0, int(valid[3].sum()), 0])
    kept = discard_hardest(c, valid, k, int(k.max()) + 3)
    assert torch.equal(kept, slow_discard(c, valid, k))


def test_nothing_is_discarded_for_k_zero():
    valid = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    for bound in (0, 5):
        kept = discard_hardest(torch.randn(2, 4, 4), valid, torch.zeros(2, dtype=torch.int64), bound)
        assert torch.equal(kept, valid)


def test_a_hard_void_pixel_takes_no_place_among_the_discarded():
    c = torch.tensor([[[9.0, 8.0, 3.0, 2.0, 1.0]]])
    valid = torch.tensor([[[False, False, True, True, True]]])
    assert discard_hardest(c, valid, torch.tensor([2]), 2).tolist() == [[[False, False, False, True, True]]]


def test_decay_at_its_end_points():
    start = torch.tensor([0.0, 50.0, 90.0])
    before = hyperbolic_decay(1e-3, 0.1, 0, start, 100)
    assert torch.allclose(before, torch.tensor(1e-3))
    assert torch.allclose(hyperbolic_decay(1e-3, 0.1, 50, start, 100)[1:], torch.tensor(1e-3))
    assert torch.allclose(hyperbolic_decay(1e-3, 0.1, 100, start, 100), torch.tensor(1e-4))


def test_decay_is_hyperbolic_between():
    """Half way: 1 / (1 + 9 / 2)."""
    assert hyperbolic_decay(1.0, 0.1, 75, torch.tensor([50.0]), 100).item() == pytest.approx(1 / 5.5)


def test_decay_that_starts_at_its_end_stays_finite():
    assert hyperbolic_decay(1.0, 0.1, 101, torch.tensor([100.0]), 100).item() == pytest.approx(0.1)


def test_cosine_decay_runs_from_first_to_last():
    assert [cosine_decay(3.0, 1.0, step, 4) for step in range(5)] == pytest.approx(
        [3, 2 + 0.5**0.5, 2, 2 - 0.5**0.5, 1]
    )
