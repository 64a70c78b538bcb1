import math

import pytest
import torch
from oracles import slow_dlr, slow_margin

from segrobust.functional.margins import (
    _top_by_maxima,
    competitor,
    dlr,
    margin,
    margin_scale,
    require_classes,
    smooth_margin,
    top_classes,
)


def logits(num_classes, seed=0, dtype=torch.float64, shape=(2, 7, 9)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape[0], num_classes, *shape[1:], generator=generator, dtype=dtype)


def classes(num_classes, seed=1, shape=(2, 7, 9)):
    return torch.randint(num_classes, shape, generator=torch.Generator().manual_seed(seed))


of_either_device = pytest.mark.parametrize(
    "top", [top_classes, lambda z, k: _top_by_maxima(z, k)[1]], ids=["cpu", "accelerator"]
)


@pytest.mark.parametrize(
    ("num_classes", "k"), [(2, 1), (2, 2), (3, 3), (4, 1), (4, 4), (21, 3), (256, 3), (256, 4), (257, 2), (300, 4)]
)
@of_either_device
def test_top_classes_equals_topk_without_ties(top, num_classes, k):
    z = logits(num_classes)
    assert torch.equal(top(z, k), z.topk(k, dim=1).indices)


@of_either_device
def test_top_classes_finds_the_last_classes_of_many(top):
    """Indices above 255 need more than 8 bits."""
    z = torch.zeros(1, 300, 1, 1)
    z[0, 299], z[0, 256], z[0, 255] = 3.0, 2.0, 1.0
    assert top(z, 3).flatten().tolist() == [299, 256, 255]


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("num_classes", [3, 4, 8])
@of_either_device
def test_top_classes_gives_ties_to_the_lower_index(top, levels, num_classes):
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(levels, (2, num_classes, 20, 20), generator=generator).float()
    expected = z.sort(dim=1, descending=True, stable=True).indices[:, :3]
    assert torch.equal(top(z, 3), expected)


@of_either_device
def test_top_classes_with_impossible_classes(top):
    """-inf marks classes that a network excludes; the picked ones are still distinct and in order."""
    minus = -torch.inf
    z = torch.tensor([[minus, minus, minus, minus], [minus, 1.0, minus, 2.0], [0.0, minus, minus, minus]])
    found = top(z[:, :, None, None], 3).flatten(1)
    assert found.tolist() == [[0, 1, 2], [3, 1, 0], [0, 1, 2]]


def test_competitor_is_never_the_reference():
    z, reference = logits(5), classes(5)
    assert (competitor(top_classes(z, 2), reference) != reference).all()


@pytest.mark.parametrize("differentiable", [False, True])  # which asks which class competes
@pytest.mark.parametrize("num_classes", [2, 3, 19])
def test_margin_equals_its_definition(num_classes, differentiable):
    z, reference = logits(num_classes).requires_grad_(differentiable), classes(num_classes)
    torch.testing.assert_close(margin(z, reference), slow_margin(z, reference), rtol=0, atol=0)


def test_margin_of_a_tie_is_zero():
    z = torch.tensor([1.0, 1.0, 0.0])[None, :, None, None]
    for reference, expected in ((0, 0.0), (1, 0.0), (2, -1.0)):
        assert margin(z, torch.tensor([[[reference]]])).item() == expected


def test_gradient_of_the_margin_reaches_two_logits():
    z = torch.tensor([0.5, 2.0, 1.0, -1.0])[None, :, None, None].requires_grad_()
    margin(z, torch.tensor([[[2]]])).sum().backward()
    assert z.grad.flatten().tolist() == [0.0, -1.0, 1.0, 0.0]


@pytest.mark.parametrize("differentiate", [True, False])
@pytest.mark.parametrize(("num_classes", "sign"), [(3, 1), (4, 1), (4, -1), (12, 1), (12, -1)])
def test_dlr_and_its_gradient_equal_the_definition(num_classes, sign, differentiate):
    z, reference = logits(num_classes).requires_grad_(), classes(num_classes)
    ours = dlr(z, reference, sign=sign, tolerance=1e-2, full_denominator_gradient=differentiate)
    slow = slow_dlr(z, reference, sign, 1e-2, differentiate)
    torch.testing.assert_close(ours, slow, rtol=1e-12, atol=0)
    weight = logits(1, seed=5)[:, 0]
    gradients = [torch.autograd.grad((loss * weight).sum(), z)[0] for loss in (ours, slow)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_the_two_gradients_of_the_dlr_differ():
    z, reference = logits(5).requires_grad_(), classes(5)
    with_denominator, without = (
        torch.autograd.grad(dlr(z, reference, full_denominator_gradient=d).sum(), z)[0] for d in (True, False)
    )
    assert not torch.allclose(with_denominator, without)


@pytest.mark.parametrize("sign", [1, -1])
def test_dlr_is_invariant_to_the_scale_of_the_logits(sign):
    z, reference = logits(6), classes(6)
    torch.testing.assert_close(dlr(100 * z, reference, sign=sign), dlr(z, reference, sign=sign), rtol=1e-6, atol=0)


@pytest.mark.parametrize("sign", [1, -1])
def test_dlr_is_negative_exactly_where_a_pixel_is_broken(sign):
    z, reference = logits(4), classes(4)
    broken = (z.argmax(1) != reference) if sign > 0 else (z.argmax(1) == reference)
    assert 0 < broken.sum() < broken.numel()
    assert torch.equal(dlr(z, reference, sign=sign) < 0, broken)


def test_targeted_tolerance_makes_the_constraint_harder():
    """Where the target class leads by less than the tolerance, the constraint is not yet satisfied."""
    z = torch.tensor([1.0, 0.95, 0.0, -1.0])[None, :, None, None]
    target = torch.zeros(1, 1, 1, dtype=torch.int64)
    assert dlr(z, target, sign=-1).item() < 0 < dlr(z, target, sign=-1, tolerance=0.1).item()


def test_a_constant_pixel_does_not_outweigh_the_image():
    """A tie of the first and third logit has no spread; its ratio stays within 1e4 tolerances of the mean spread."""
    z = logits(4)
    z[0, :, 0, 0] = 0.7
    ratio = dlr(z, classes(4), tolerance=1e-4)
    spread = (z.amax(1) - z.sort(1, descending=True).values[:, 2])[0].mean()
    assert ratio.isfinite().all()
    assert ratio[0, 0, 0].item() == pytest.approx(1e-4 / (1e-4 * spread.item() + 1e-8), rel=1e-9)


def test_a_constant_image_gives_finite_ratios():
    assert dlr(torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)).eq(0).all()


@pytest.mark.parametrize(("num_classes", "sign"), [(2, 1), (3, -1)])
def test_dlr_names_the_classes_that_it_needs_and_the_alternative(num_classes, sign):
    with pytest.raises(ValueError, match=f"needs at least {num_classes + 1} classes.*margin"):
        dlr(logits(num_classes), classes(num_classes), sign=sign)


def test_margin_needs_two_classes():
    with pytest.raises(ValueError, match="at least 2 classes"):
        require_classes("margin", 1, targeted=False)


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_smooth_margin_lies_below_the_margin_by_at_most_its_bound(num_classes):
    z, reference = logits(num_classes), classes(num_classes)
    temperature = torch.tensor([0.3, 2.0], dtype=torch.float64)
    gap = slow_margin(z, reference) - smooth_margin(z, reference, temperature)
    bound = temperature[:, None, None] * math.log(num_classes - 1)
    assert (gap >= -1e-12).all()
    assert (gap <= bound + 1e-12).all()
    assert num_classes == 2 or gap.max() > 0.1 * bound.max()


def test_smooth_margin_of_far_logits_is_finite_with_its_gradient():
    far = (1e6 * logits(5, dtype=torch.float32)).requires_grad_()
    value = smooth_margin(far, classes(5), torch.full((2,), 1e-6))
    (gradient,) = torch.autograd.grad(value.sum(), far)
    assert value.isfinite().all()
    torch.testing.assert_close(gradient.sum(1), torch.zeros(2, 7, 9), atol=1e-6, rtol=0)
    assert (gradient.gather(1, classes(5)[:, None]) == 1).all()


def test_the_scale_of_margins_is_their_mean_size_where_valid_and_stays_positive():
    margins = torch.tensor([[[1.0, -3.0], [50.0, -2.0]], [[0.0, 0.0], [0.0, 0.0]]])
    valid = torch.tensor([[[True, True], [False, True]], [[True, True], [True, True]]])
    scale = margin_scale(margins, valid, torch.full((2, 3, 2, 2), 7.0))
    torch.testing.assert_close(scale, torch.tensor([2.0, 7e-6]), rtol=1e-5, atol=0)
